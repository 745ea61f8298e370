"""Predict: one mask for each case, on the image's own grid."""

from volseg.verbs.predict.verb import PredictOptions, predict

__all__ = ["PredictOptions", "predict"]
