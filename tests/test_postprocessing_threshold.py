"""The rule of a least probability: its words, its bounds, regions by name; a mask alone has no probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from tests.surgery import SPACING
from volseg.errors import BundleError, UsageError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable
from volseg.postprocessing import KeepLargest, PostprocessingRules, RuleOptions, Threshold

REGIONS = LabelTable((Label(1, "whole tumor"), Label(2, "core")))


@pytest.mark.parametrize("minimum", [0.0, -0.1, 1.01, float("nan")])
def test_a_probability_is_above_0_and_up_to_1(minimum: float) -> None:
    with pytest.raises(UsageError, match="a probability above 0 and up to 1"):
        Threshold(minimum=minimum)
    with pytest.raises(BundleError, match="rule threshold can't be used"):
        PostprocessingRules.from_config([{"rule": "threshold", "minimum": minimum}])


def test_plain_data_and_words_say_the_same() -> None:
    rules = PostprocessingRules((KeepLargest(), Threshold(labels=(1, (2, 3)), minimum=0.7), Threshold(minimum=0.4)))
    assert PostprocessingRules.from_config(rules.to_config()) == rules
    assert [rule.key for rule in rules.on_masks.rules] == ["keep_largest"]
    one, other = rules.thresholds
    assert one.each == ((1,), (2, 3))
    assert other.each is None
    assert one.words(REGIONS).startswith("only voxels with a probability of at least 0.7 of labels 1 (whole tumor)")
    names = {label: str(label) for label in (1, 2, 3)}
    assert RuleOptions(threshold=one.option(names)).rules().rules == (one,)  # what a person would give says the same
    assert other.option(names) == ("1:0.4", "2:0.4", "3:0.4")


@pytest.mark.parametrize("word", ["liver:high", "liver", "liver:0.5:0.6", ":0.5", "1:", "1:nan", "1:7"])
def test_what_is_no_threshold_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        RuleOptions(threshold=[word]).rules(LabelTable((Label(1, "liver"),)))


def test_regions_are_called_by_their_names() -> None:
    read = RuleOptions(threshold=["core:0.6", "whole tumor:0.3"], keep_largest="7").rules(
        LabelTable((Label(7, "edema"),)), REGIONS
    )
    assert read.rules == (
        Threshold(labels=(2,), minimum=0.6),
        Threshold(labels=(1,), minimum=0.3),
        KeepLargest(labels=(7,)),
    )
    assert Threshold(labels=(2,), minimum=0.6).option({1: "whole tumor", 2: "core"}) == ("core:0.6",)
    for word in ("2:0.6", "edema:0.6", "core+whole tumor:0.6"):
        with pytest.raises(UsageError, match="whole tumor"):
            RuleOptions(threshold=[word]).rules(LabelTable((Label(7, "edema"),)), REGIONS)


def test_a_mask_alone_is_refused() -> None:
    mask = np.ones((3, 3, 3), np.uint8)
    with pytest.raises(UsageError, match=r"a mask has none\. Give it to volseg predict") as refused:
        PostprocessingRules((Threshold(minimum=0.5),)).apply(mask, Grid(mask.shape, np.diag([*SPACING, 1.0])))
    assert refused.value.code == "no-probabilities"
