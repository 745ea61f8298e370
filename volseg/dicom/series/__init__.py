"""Series of slices: grouped, ordered, verified, repaired and loaded."""
