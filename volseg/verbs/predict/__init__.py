"""Predict: one mask for each case, on the image's own grid."""

from volseg.verbs.predict.inputs import IMAGES
from volseg.verbs.predict.verb import PredictOptions, predict

__all__ = ["IMAGES", "PredictOptions", "predict"]
