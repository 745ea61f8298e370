"""Rules that clean a predicted mask: components, holes, surfaces, gaps, instances, thresholds. Plain data in a bundle's config."""

from volseg.postprocessing.closing import Closing
from volseg.postprocessing.edit import Changes, LabelChanges, MaskEdit
from volseg.postprocessing.fill_between_labels import FillBetweenLabels
from volseg.postprocessing.fill_holes import FillHoles
from volseg.postprocessing.instances import Instances
from volseg.postprocessing.keep_inside import KeepInside
from volseg.postprocessing.keep_largest import KeepLargest
from volseg.postprocessing.opening import Opening
from volseg.postprocessing.options import RULE_OPTIONS, RuleOptions
from volseg.postprocessing.remove_small import RemoveSmall
from volseg.postprocessing.remove_touching_border import RemoveTouchingBorder
from volseg.postprocessing.rule import ALL, ComponentRule, Labels, Rule
from volseg.postprocessing.rules import RULES, PostprocessingRules
from volseg.postprocessing.smoothing import Smoothing
from volseg.postprocessing.threshold import Threshold

__all__ = [
    "ALL",
    "RULES",
    "RULE_OPTIONS",
    "Changes",
    "Closing",
    "ComponentRule",
    "FillBetweenLabels",
    "FillHoles",
    "Instances",
    "KeepInside",
    "KeepLargest",
    "LabelChanges",
    "Labels",
    "MaskEdit",
    "Opening",
    "PostprocessingRules",
    "RemoveSmall",
    "RemoveTouchingBorder",
    "Rule",
    "RuleOptions",
    "Smoothing",
    "Threshold",
]
