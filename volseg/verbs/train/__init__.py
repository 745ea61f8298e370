"""Train a bundle's network, or go on where it stopped."""

from volseg.verbs.train.options import FoldResult, TrainOptions
from volseg.verbs.train.verb import train

__all__ = ["FoldResult", "TrainOptions", "train"]
