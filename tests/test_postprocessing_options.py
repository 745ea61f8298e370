"""Rules as options: labels by name or number, groups, numbers behind a colon, and their order."""

from __future__ import annotations

import pytest

from volseg.errors import UsageError
from volseg.labels import Label, LabelTable
from volseg.postprocessing import (
    Closing,
    FillBetweenLabels,
    FillHoles,
    Instances,
    KeepInside,
    KeepLargest,
    Opening,
    RemoveSmall,
    RemoveTouchingBorder,
    RuleOptions,
    Smoothing,
    Threshold,
)

NAMES = ("liver", "tumour", "kidney, left", "T1+T2", "a:b", "a")
TABLE = LabelTable(tuple(Label(index, name) for index, name in enumerate(NAMES, 1)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"keep_largest": "liver"}, [KeepLargest(labels=(1,))]),
        ({"keep_largest": ["Liver", 2, "2", 9]}, [KeepLargest(labels=(1, 2, 9))]),
        ({"keep_largest": "liver+tumour"}, [KeepLargest(labels=((1, 2),))]),
        ({"keep_largest": "1+2,5"}, [KeepLargest(labels=((1, 2), 5))]),
        ({"keep_largest": ["kidney, left", "T1+T2", "a:b"]}, [KeepLargest(labels=(3, 4, 5))]),
        ({"keep_largest": ["a:2", "a:b:3"]}, [KeepLargest(labels=(6,), count=2), KeepLargest(labels=(5,), count=3)]),
        ({"keep_largest": ["all", "liver"], "connectivity": 6}, [KeepLargest(connectivity=6)]),
        ({"keep_largest": ["a:2", "all:2"]}, [KeepLargest(count=2)]),
        (
            {"threshold": ["liver:0.7", "tumour+a:0.7", "3:1"]},
            [Threshold(labels=(1, (2, 6)), minimum=0.7), Threshold(labels=(3,), minimum=1)],
        ),
        ({"minimum_size_mm3": 5.0}, [RemoveSmall(minimum_mm3=5)]),
        (
            {"remove_small": ["liver:2ml", "tumour:50mm3", "a:2000 mm3"]},
            [
                RemoveSmall(labels=(1,), minimum_mm3=2000),
                RemoveSmall(labels=(2,), minimum_mm3=50),
                RemoveSmall(labels=(6,), minimum_mm3=2000),
            ],
        ),
        ({"keep_inside": "tumour:liver"}, [KeepInside(labels=(2,), inside=(1,))]),
        ({"keep_inside": "tumour:liver+T1+T2:5"}, None),
        ({"keep_inside": "tumour:1+4:5"}, [KeepInside(labels=(2,), inside=(1, 4), grown_mm=5)]),
        ({"remove_touching_border": ("liver+tumour", "a")}, [RemoveTouchingBorder(labels=((1, 2), 6))]),
        (
            {"opening": ["liver:3", "a:3", "tumour:1.5mm"]},
            [Opening(labels=(1, 6), radius_mm=3), Opening(labels=(2,), radius_mm=1.5)],
        ),
        ({"closing": "all:2"}, [Closing(radius_mm=2)]),
        ({"smooth": "a:b:2"}, [Smoothing(labels=(5,), sigma_mm=2)]),
        (
            {"fill_between_labels": ["liver+tumour:2", "all:1"]},
            [FillBetweenLabels(labels=(1, 2), within_mm=2), FillBetweenLabels(within_mm=1)],
        ),
        ({"fill_holes": 2}, [FillHoles(labels=(2,))]),
        ({"instances": ["tumour:1", "liver"]}, [Instances(labels=(2,), split_mm=1), Instances(labels=(1,))]),
    ],
)
def test_options_become_rules(options: dict, expected: list | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="no label 'T1'"):
            RuleOptions(**options).rules(TABLE)
    else:
        assert list(RuleOptions(**options).rules(TABLE).rules) == expected


@pytest.mark.parametrize("option", [{"keep_largest": ["all", "liver:2"]}, {"remove_small": ["a:1ml", "all:2ml"]}])
def test_all_labels_and_some_with_another_number_are_refused(option: dict) -> None:
    with pytest.raises(UsageError, match="takes all labels, and some of them with another number"):
        RuleOptions(**option).rules(TABLE)


def test_the_order_is_that_of_the_fields_unless_told() -> None:
    several = {"fill_holes": [1], "keep_largest": [1, 2], "opening": ["1:2"]}
    plain = RuleOptions(**several).rules().rules
    assert [rule.key for rule in plain] == ["keep_largest", "opening", "fill_holes"]
    told = RuleOptions(**several, order=["fill-holes", "keep_largest", "--opening", "keep_largest"]).rules().rules
    assert [(rule.key, rule.labels) for rule in told] == [
        ("fill_holes", (1,)),
        ("keep_largest", (1,)),
        ("opening", (1,)),
        ("keep_largest", (2,)),
    ]
    partly = RuleOptions(**several, order="opening").rules().rules
    assert [rule.key for rule in partly] == ["opening", "keep_largest", "fill_holes"]
    with pytest.raises(UsageError, match="The order names connectivity"):
        RuleOptions(order=["connectivity"]).rules()
    assert not RuleOptions().asks_rules
    assert RuleOptions(instances="1").asks_rules


@pytest.mark.parametrize("split", ["tumour", "all"])
def test_what_instances_leave_nothing_of_is_named_before_them(split: str) -> None:
    options = {"instances": split, "remove_small": ["tumour:1ml"]}
    assert len(RuleOptions(**options).rules(TABLE).rules) == 2
    with pytest.raises(UsageError, match="--remove-small comes after --instances"):
        RuleOptions(**options, order=["instances", "remove_small"]).rules(TABLE)
    with_threshold = {"instances": split, "threshold": ["tumour:0.7"]}  # which is applied before all others
    assert len(RuleOptions(**with_threshold, order=["instances", "threshold"]).rules(TABLE).rules) == 2
    of_all = {"instances": split, "remove_small": ["all:1ml"]}
    assert len(RuleOptions(**of_all, order=["instances", "remove_small"]).rules(TABLE).rules) == 2
