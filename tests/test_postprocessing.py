from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from scipy import ndimage

from volseg.components import fill_holes, largest_components
from volseg.errors import BundleError, UsageError
from volseg.grid import Grid
from volseg.postprocessing import LabelChanges, PostprocessingRules, apply

GRID = Grid((12, 12, 12), np.diag([0.5, 1.0, 2.0, 1.0]))  # a voxel is 1 mm3


def scene() -> np.ndarray:
    """Label 1: a hollow cube of 5x5x5 (98 voxels) and pieces of 4 and 1; label 2: pieces of 3 and 2."""
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[1:6, 1:6, 1:6] = 1
    mask[2:5, 2:5, 2:5] = 0
    mask[8:12, 0, 0] = 1
    mask[11, 11, 11] = 1
    mask[8:11, 8, 8] = 2
    mask[8:10, 5, 5] = 2
    return mask


def sizes(mask: np.ndarray, label: int) -> list[int]:
    numbers, count = ndimage.label(mask == label, np.ones((3, 3, 3)))
    return sorted(int((numbers == number).sum()) for number in range(1, count + 1))


def test_the_rules_are_applied_in_their_order() -> None:
    mask = scene()
    before = mask.copy()
    tidy, changes = apply(mask, GRID, PostprocessingRules(keep_largest=(1,), minimum_size_mm3=3, fill_holes="all"))
    assert sizes(tidy, 1) == [125]
    assert sizes(tidy, 2) == [3]
    assert changes.labels == (LabelChanges(1, 2, 5, 1, 27, 125), LabelChanges(2, 1, 2, 0, 0, 3))
    assert changes.changed_voxels == 34
    assert changes.cavities_between_labels == 0
    assert str(changes) == "removed 7 voxels in 3 components, filled 27 voxels in 1 hole"
    assert np.array_equal(mask, before)
    assert tidy.dtype == mask.dtype


def test_what_is_removed_inside_a_hole_is_filled_with_what_is_around() -> None:
    mask = scene()
    mask[3, 3, 3] = 2
    tidy, changes = apply(mask, GRID, PostprocessingRules(keep_largest="all", fill_holes=(1,)))
    assert sizes(tidy, 1) == [125]
    assert changes.labels[1] == LabelChanges(2, 2, 3, 0, 0, 3)


def test_a_hole_between_labels_is_told() -> None:
    mask = scene()
    mask[3, 3, 3] = 2
    tidy, changes = apply(mask, GRID, PostprocessingRules(fill_holes="all"))
    assert np.array_equal(tidy, mask)
    assert changes.cavities_between_labels == 1
    assert str(changes) == "nothing to change"


@pytest.mark.parametrize("scale", [1.0, 1.0000001, 0.9999999])
def test_the_smallest_size_is_a_volume_of_the_grid(scale: float) -> None:
    """A component of exactly the size stays, also when the float32 affine is off by rounding."""
    grid = Grid((12, 12, 12), np.diag([2 * scale, 2, 2, 1]))
    kept = [sizes(apply(scene(), grid, PostprocessingRules(minimum_size_mm3=size))[0], 1) for size in (8, 8.1, 32, 33)]
    assert kept == [[1, 4, 98], [4, 98], [4, 98], [98]]


def test_each_label_may_have_its_own_smallest_size() -> None:
    tidy, changes = apply(scene(), GRID, PostprocessingRules(minimum_size_mm3=((1, 2), (2, 4))))
    assert sizes(tidy, 1) == [4, 98]
    assert sizes(tidy, 2) == []
    assert changes.vanished == (2,)
    only_two, _ = apply(scene(), GRID, PostprocessingRules(minimum_size_mm3=((2, 3),)))
    assert (sizes(only_two, 1), sizes(only_two, 2)) == ([1, 4, 98], [3])


def test_all_labels_is_the_same_as_naming_each() -> None:
    mask = scene()
    every, _ = apply(mask, GRID, PostprocessingRules(keep_largest="all", fill_holes="all"))
    named, _ = apply(mask, GRID, PostprocessingRules(keep_largest=(2, 1), fill_holes=(1, 2)))
    assert np.array_equal(every, named)
    assert np.array_equal(every, fill_holes(largest_components(mask)))


def test_no_rules_change_nothing() -> None:
    assert PostprocessingRules().is_empty
    assert PostprocessingRules(minimum_size_mm3=((1, 0.0),)).is_empty
    assert not PostprocessingRules(minimum_size_mm3=((1, 0.5),)).is_empty
    tidy, changes = apply(scene(), GRID, PostprocessingRules())
    assert np.array_equal(tidy, scene())
    assert changes.changed_voxels == 0
    assert [change.voxels for change in changes.labels] == [103, 5]


def test_an_empty_mask_has_no_changes() -> None:
    rules = PostprocessingRules(keep_largest="all", minimum_size_mm3=5, fill_holes="all")
    tidy, changes = apply(np.zeros((12, 12, 12), np.uint16), GRID, rules)
    assert not tidy.any()
    assert changes.labels == ()


@pytest.mark.parametrize(
    "rules",
    [
        PostprocessingRules(),
        PostprocessingRules((1, 3), 12.5, "all", 6),
        PostprocessingRules("all", ((1, 2.0), (7, 9.5)), (2,), 18),
    ],
)
def test_rules_come_back_from_yaml_and_json(rules: PostprocessingRules) -> None:
    assert PostprocessingRules.from_config(yaml.safe_load(yaml.safe_dump(rules.to_config()))) == rules
    assert PostprocessingRules.from_config(json.loads(json.dumps(rules.to_config()))) == rules


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"keep_larges": [1]}, "keep_larges"),
        ({"keep_largest": 1}, "keep_largest"),
        ({"keep_largest": ["1"]}, "keep_largest"),
        ({"keep_largest": [True]}, "keep_largest"),
        ({"keep_largest": [0]}, "keep_largest"),
        ({"keep_largest": "each"}, "keep_largest"),
        ({"fill_holes": [1.5]}, "fill_holes"),
        ({"fill_holes": [-2]}, "fill_holes"),
        ({"fill_holes": None}, "fill_holes"),
        ({"minimum_size_mm3": "$__import__('os')"}, "minimum_size_mm3"),
        ({"minimum_size_mm3": -1}, "minimum_size_mm3"),
        ({"minimum_size_mm3": float("nan")}, "minimum_size_mm3"),
        ({"minimum_size_mm3": True}, "minimum_size_mm3"),
        ({"minimum_size_mm3": {"liver": 3}}, "minimum_size_mm3"),
        ({"minimum_size_mm3": {1: "3"}}, "minimum_size_mm3"),
        ({"minimum_size_mm3": {0: 3}}, "minimum_size_mm3"),
        ({"connectivity": 8}, "connectivity"),
        ({"connectivity": "26"}, "connectivity"),
        ({"connectivity": 26.0}, "connectivity"),
    ],
)
def test_a_bundle_with_wrong_rules_is_refused(config: dict[str, object], named: str) -> None:
    with pytest.raises(BundleError, match=named):
        PostprocessingRules.from_config(config)


def test_wrong_rules_from_python_are_refused() -> None:
    with pytest.raises(UsageError, match="keep_largest"):
        PostprocessingRules(keep_largest=(0,))
    with pytest.raises(UsageError, match="connectivity"):
        PostprocessingRules(connectivity=4)
