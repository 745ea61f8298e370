"""Training components. ``train.yaml`` names the objects below; each is public and stays where it is."""

from volseg.training.autocast import AutocastInferer
from volseg.training.average import WeightAverage
from volseg.training.budget import Budget, BudgetedRate, PacedValidation
from volseg.training.dice import EvaluatedDice
from volseg.training.ignoring import ClearIgnoredd, IgnoringLoss
from volseg.training.items import fold_cases
from volseg.training.regions import LabelsToRegionsd
from volseg.training.standalone import Standalone

__all__ = [
    "AutocastInferer",
    "Budget",
    "BudgetedRate",
    "ClearIgnoredd",
    "EvaluatedDice",
    "IgnoringLoss",
    "LabelsToRegionsd",
    "PacedValidation",
    "Standalone",
    "WeightAverage",
    "fold_cases",
]
