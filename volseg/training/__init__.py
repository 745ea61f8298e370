"""What training is made of. ``train.yaml`` names the objects below; each is public and stays where it is."""

from volseg.training.autocast import AutocastInferer
from volseg.training.average import WeightAverage
from volseg.training.budget import Budget, BudgetedRate, PacedValidation
from volseg.training.cases import fold_cases

__all__ = ["AutocastInferer", "Budget", "BudgetedRate", "PacedValidation", "WeightAverage", "fold_cases"]
