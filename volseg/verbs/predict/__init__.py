"""Predict: one mask for each case, on the image's own grid."""

from volseg.verbs.predict.options import PredictOptions
from volseg.verbs.predict.preview import PreviewRow, preview
from volseg.verbs.predict.sources import IMAGES
from volseg.verbs.predict.verb import predict

__all__ = ["IMAGES", "PredictOptions", "PreviewRow", "predict", "preview"]
