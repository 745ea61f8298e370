"""A volume or mask onto another grid, exact in the patient's millimetres; flips and permutations without it."""

from volseg.resampling.orientation import reorient, reorient_grid, require_orientation
from volseg.resampling.volumes import Interpolation, downsampling_factors, resample

__all__ = ["Interpolation", "downsampling_factors", "reorient", "reorient_grid", "require_orientation", "resample"]
