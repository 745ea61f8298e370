"""Resampling of volumes and masks onto another grid; flips and permutations without interpolation."""

from volseg.resampling.orientation import reorient, reorient_grid, require_orientation
from volseg.resampling.volumes import Interpolation, downsampling_factors, resample

__all__ = ["Interpolation", "downsampling_factors", "reorient", "reorient_grid", "require_orientation", "resample"]
