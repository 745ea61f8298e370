"""Data sets: cases, sidecars, folds and faults."""
