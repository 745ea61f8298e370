"""Abdominal CT phantoms: shapes and labels, CT values, and the series of DICOM files that a scanner would write."""
