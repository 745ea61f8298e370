"""Rules that clean a predicted mask: largest component, smallest size, holes. Plain data in a bundle's config."""

from volseg.postprocessing.edit import Changes, LabelChanges, MaskEdit
from volseg.postprocessing.fill_holes import FillHoles
from volseg.postprocessing.keep_largest import KeepLargest
from volseg.postprocessing.remove_small import RemoveSmall
from volseg.postprocessing.rule import ALL, Labels, Rule
from volseg.postprocessing.rules import RULES, PostprocessingRules

__all__ = [
    "ALL",
    "RULES",
    "Changes",
    "FillHoles",
    "KeepLargest",
    "LabelChanges",
    "Labels",
    "MaskEdit",
    "PostprocessingRules",
    "RemoveSmall",
    "Rule",
]
