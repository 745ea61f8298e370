"""A volume or mask onto another grid, exact in the patient's millimetres; flips and permutations without it."""

from volseg.resample.orientation import reorient, reorient_grid, require_orientation
from volseg.resample.resampling import Interpolation, downsampling_factors, resample

__all__ = ["Interpolation", "downsampling_factors", "reorient", "reorient_grid", "require_orientation", "resample"]
