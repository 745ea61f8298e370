"""Losses that MONAI lacks, or has in another form."""

from volseg.training.losses.boundary import BoundaryLoss
from volseg.training.losses.cldice import ClDice
from volseg.training.losses.cross_entropy import CrossEntropy
from volseg.training.losses.sums import SumOfLosses

__all__ = ["BoundaryLoss", "ClDice", "CrossEntropy", "SumOfLosses"]
