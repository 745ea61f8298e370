"""Evaluate: compare masks with reference masks, per case and label."""

from volseg.evaluation import Evaluation
from volseg.verbs.evaluate.options import DEFAULTS, EvaluateOptions
from volseg.verbs.evaluate.verb import evaluate, evaluate_volumes

__all__ = ["DEFAULTS", "EvaluateOptions", "Evaluation", "evaluate", "evaluate_volumes"]
