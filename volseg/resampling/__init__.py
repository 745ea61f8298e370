"""Resampling of volumes and masks onto another grid; flips and permutations without interpolation."""

from volseg.resampling.orientation import is_turned, reorient, reorient_grid, require_orientation, turned_onto
from volseg.resampling.volumes import (
    BSPLINE_CLAMPED,
    Interpolation,
    downsampling_factors,
    resample,
    resample_telling,
)

__all__ = [
    "BSPLINE_CLAMPED",
    "Interpolation",
    "downsampling_factors",
    "is_turned",
    "reorient",
    "reorient_grid",
    "require_orientation",
    "resample",
    "resample_telling",
    "turned_onto",
]
