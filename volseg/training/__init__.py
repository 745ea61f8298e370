"""Training components. ``train.yaml`` names the objects below; each is public and stays where it is."""

from volseg.training.autocast import AutocastInferer
from volseg.training.average import WeightAverage
from volseg.training.budget import Budget, BudgetedRate, PacedValidation
from volseg.training.dice import EvaluatedDice
from volseg.training.ignoring import ClearIgnoredd, IgnoringLoss
from volseg.training.items import fold_cases
from volseg.training.losses import BoundaryLoss, ClDice, CrossEntropy, SumOfLosses
from volseg.training.patches import RandMarginCropd, RandSpatiald
from volseg.training.prepared import PreparedDataset
from volseg.training.regions import LabelsToRegionsd
from volseg.training.standalone import Standalone
from volseg.training.steps import StepLoader

__all__ = [
    "AutocastInferer",
    "BoundaryLoss",
    "Budget",
    "BudgetedRate",
    "ClDice",
    "ClearIgnoredd",
    "CrossEntropy",
    "EvaluatedDice",
    "IgnoringLoss",
    "LabelsToRegionsd",
    "PacedValidation",
    "PreparedDataset",
    "RandMarginCropd",
    "RandSpatiald",
    "Standalone",
    "StepLoader",
    "SumOfLosses",
    "WeightAverage",
    "fold_cases",
]
