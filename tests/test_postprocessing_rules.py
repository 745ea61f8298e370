"""Rules in their order, and their plain data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import ndimage

from tests.pieces import pieces, sizes
from tests.surgery import grid_of, organs, voxels
from volseg.components import find_components
from volseg.errors import BundleError, UsageError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable
from volseg.postprocessing import (
    RULES,
    Closing,
    FillBetweenLabels,
    FillHoles,
    Instances,
    KeepInside,
    KeepLargest,
    LabelChanges,
    Opening,
    PostprocessingRules,
    RemoveSmall,
    RemoveTouchingBorder,
    Rule,
    Smoothing,
)

GRID = Grid((12, 12, 12), np.diag([0.5, 1.0, 2.0, 1.0]))  # a voxel is 1 mm3


def rules(*wanted: Rule) -> PostprocessingRules:
    return PostprocessingRules(wanted)


def test_the_rules_are_applied_in_their_order() -> None:
    mask = pieces()
    before = mask.copy()
    tidy, changes = rules(KeepLargest(labels=(1,)), RemoveSmall(minimum_mm3=3), FillHoles()).apply(mask, GRID)
    assert sizes(tidy, 1) == [125]
    assert sizes(tidy, 2) == [3]
    assert changes.labels == (LabelChanges(1, 2, 5, 1, 27, 125), LabelChanges(2, 1, 2, 0, 0, 3))
    assert changes.cavities_between_labels == 0
    assert str(changes) == "removed 7 voxels in 3 components, filled 27 voxels in 1 hole"
    assert np.array_equal(mask, before)
    assert tidy.dtype == mask.dtype


def test_what_is_removed_inside_a_hole_is_filled_with_what_is_around() -> None:
    mask = pieces()
    mask[3, 3, 3] = 2
    tidy, changes = rules(KeepLargest(), FillHoles(labels=(1,))).apply(mask, GRID)
    assert sizes(tidy, 1) == [125]
    assert changes.labels[1] == LabelChanges(2, 2, 3, 0, 0, 3)


def test_a_hole_between_labels_is_told() -> None:
    mask = pieces()
    mask[3, 3, 3] = 2
    tidy, changes = rules(FillHoles()).apply(mask, GRID)
    assert np.array_equal(tidy, mask)
    assert changes.cavities_between_labels == 1
    assert str(changes) == "nothing to change"


def test_another_order_may_give_another_mask() -> None:
    mask = pieces()
    mask[3, 3, 3] = 2
    filled_last, _ = rules(RemoveSmall(minimum_mm3=3), FillHoles()).apply(mask, GRID)
    filled_first, changes = rules(FillHoles(), RemoveSmall(minimum_mm3=3)).apply(mask, GRID)
    assert (sizes(filled_last, 1), sizes(filled_first, 1)) == ([4, 125], [4, 98])
    assert [change.filled_voxels for change in changes.labels] == [0, 0]


def test_a_rule_after_filling_sees_what_was_filled() -> None:
    tidy, changes = rules(FillHoles(), RemoveSmall(minimum_mm3=100)).apply(pieces(), GRID)
    assert (sizes(tidy, 1), sizes(tidy, 2)) == ([125], [])
    assert changes.labels == (LabelChanges(1, 2, 5, 1, 27, 125), LabelChanges(2, 2, 5, 0, 0, 0))
    assert changes.vanished == (2,)


@pytest.mark.parametrize("order", ["C", "F"])
def test_rules_in_a_row_give_what_each_alone_gives_in_turn(order: str) -> None:
    rng = np.random.default_rng(3)
    wanted = (
        KeepLargest(labels=(1,), connectivity=6),
        RemoveSmall(minimum_mm3=4, connectivity=6),
        KeepLargest(labels=(2,), connectivity=18),
        FillHoles(labels=(1, 2)),
        RemoveSmall(minimum_mm3=9, labels=(3,)),
    )
    for _ in range(5):
        mask = np.asarray(ndimage.zoom(rng.integers(0, 4, (6, 6, 6)), 2, order=0).astype(np.uint8), order=order)
        mask[rng.random(mask.shape) < 0.2] = 0
        together, changes = rules(*wanted).apply(mask, GRID)
        in_turn = mask
        for rule in wanted:
            in_turn, _ = rules(rule).apply(in_turn, GRID)
        assert np.array_equal(together, in_turn)
        assert [change.voxels for change in changes.labels] == [int((in_turn == n).sum()) for n in (1, 2, 3)]


def test_rules_in_a_row_share_one_search_for_components(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []

    def counted(mask: np.ndarray, connectivity: int) -> object:
        searches.append(connectivity)
        return find_components(mask, connectivity)

    monkeypatch.setattr("volseg.postprocessing.edit.find_components", counted)
    rules(KeepLargest(labels=(1,)), RemoveSmall(minimum_mm3=3), KeepLargest(), FillHoles()).apply(pieces(), GRID)
    assert searches == [26]


@pytest.mark.parametrize("kind", [">u2", ">i4", ">u8", "<i8", "read-only", "strided", "turned", "unaligned"])
def test_how_a_mask_lies_in_memory_changes_nothing(kind: str) -> None:
    """Big-endian masks and views, as other libraries give them."""
    plain = organs(2).astype(np.uint16)
    spread = np.zeros([2 * size for size in plain.shape], np.uint16)
    spread[::2, ::2, ::2] = plain
    same = {
        "strided": spread[::2, ::2, ::2],
        "turned": np.ascontiguousarray(plain[::-1].transpose(2, 0, 1)).transpose(1, 2, 0)[::-1],
        "unaligned": np.frombuffer(b"\0" + plain.tobytes(), np.uint16, offset=1).reshape(plain.shape),
        "read-only": np.array(plain),
    }
    mask = same[kind] if kind in same else plain.astype(kind)
    mask.flags.writeable = kind not in ("read-only", ">u2", "unaligned")
    grid = grid_of(plain)
    each: list[Rule] = [KeepLargest(), FillHoles(), Smoothing(sigma_mm=0.9), Closing(radius_mm=0.9), Instances()]
    for rule in (*each, KeepLargest(labels=((1, 2),)), RemoveSmall(minimum_mm3=9), RemoveTouchingBorder()):
        expected, changes = rules(rule).apply(plain, grid)
        found, told = rules(rule).apply(mask, grid)
        np.testing.assert_array_equal(found, expected)
        assert (told, found.dtype) == (changes, mask.dtype)


def test_no_rules_change_nothing() -> None:
    assert not PostprocessingRules()
    mask = pieces()
    tidy, changes = PostprocessingRules().apply(mask, GRID)
    assert np.array_equal(tidy, mask)
    assert tidy is not mask
    assert str(changes) == "nothing to change"
    assert [change.voxels for change in changes.labels] == [103, 5]


def test_an_empty_mask_has_no_changes() -> None:
    every = rules(KeepLargest(), RemoveSmall(minimum_mm3=5), FillHoles())
    tidy, changes = every.apply(np.zeros((12, 12, 12), np.uint16), GRID)
    assert not tidy.any()
    assert changes.labels == ()


@pytest.mark.parametrize(
    "wanted",
    [
        rules(),
        rules(KeepLargest(labels=(1, 3), connectivity=6), RemoveSmall(minimum_mm3=12.5), FillHoles()),
        rules(FillHoles(labels=(2,)), RemoveSmall(minimum_mm3=2, labels=(1,)), RemoveSmall(minimum_mm3=9, labels=(7,))),
        rules(KeepLargest(labels=((1, 2), 3), count=4), Opening(radius_mm=1.5), Closing(labels=(1,), radius_mm=2)),
        rules(
            Smoothing(sigma_mm=1),
            FillBetweenLabels(labels=((1, 2), 3), within_mm=2),
            RemoveTouchingBorder(labels=((5, 6),)),
        ),
        rules(KeepInside(labels=(2,), inside=(1, 3), grown_mm=0.5), Instances(labels=(2,), split_mm=1.25)),
    ],
)
def test_rules_come_back_from_yaml_and_json(wanted: PostprocessingRules) -> None:
    assert PostprocessingRules.from_config(yaml.safe_load(yaml.safe_dump(wanted.to_config()))) == wanted
    assert PostprocessingRules.from_config(json.loads(json.dumps(wanted.to_config()))) == wanted


def test_the_mapping_of_earlier_bundles_is_read() -> None:
    config = {"keep_largest": [1, 3], "minimum_size_mm3": {1: 2.0, "7": 9.5}, "fill_holes": "all", "connectivity": 6}
    assert PostprocessingRules.from_config(config) == rules(
        KeepLargest(labels=(1, 3), connectivity=6),
        RemoveSmall(minimum_mm3=2.0, labels=(1,), connectivity=6),
        RemoveSmall(minimum_mm3=9.5, labels=(7,), connectivity=6),
        FillHoles(connectivity=6),
    )
    nothing = {"keep_largest": [], "minimum_size_mm3": 0.0, "fill_holes": [], "connectivity": 26}
    assert PostprocessingRules.from_config(nothing) == rules()
    assert PostprocessingRules.from_config({"minimum_size_mm3": 5}) == rules(RemoveSmall(minimum_mm3=5.0))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("all", "list of rules"),
        ([1], "one of keep_largest, remove_small, fill_holes"),
        ([{"labels": [1]}], "one of keep_largest"),
        ([{"rule": "polish"}], "one of keep_largest"),
        ([{"rule": ["keep_largest"]}], "one of keep_largest"),
        ([{"rule": "keep_largest", "label": [1]}], "keep_largest can't be used: label"),
        ([{"rule": "keep_largest", "labels": "1"}], "keep_largest can't be used: labels"),
        ([{"rule": "keep_largest", "labels": [True]}], "keep_largest can't be used: labels"),
        ([{"rule": "remove_small"}], "remove_small can't be used: minimum_mm3"),
        ([{"rule": "remove_small", "minimum_mm3": "5"}], "minimum_mm3"),
        ([{"rule": "remove_small", "minimum_mm3": {1: 5}}], "minimum_mm3"),
        ([{"rule": "fill_holes", "connectivity": True}], "connectivity"),
        ([{"rule": "fill_holes", "labels": {1, 2}}], "no plain data"),
        ({"keep_larges": [1]}, "keep_larges"),
        ({"keep_largest": 1}, "keep_largest"),
        ({"keep_largest": ["1"]}, "keep_largest"),
        ({"keep_largest": [True]}, "keep_largest"),
        ({"keep_largest": [0]}, "keep_largest"),
        ({"keep_largest": "each"}, "keep_largest"),
        ({"fill_holes": [1.5]}, "fill_holes"),
        ({"fill_holes": [-2]}, "fill_holes"),
        ({"fill_holes": None}, "fill_holes"),
        ({"minimum_size_mm3": "$__import__('os')"}, "minimum_mm3"),
        ({"minimum_size_mm3": -1}, "minimum_mm3"),
        ({"minimum_size_mm3": float("nan")}, "minimum_mm3"),
        ({"minimum_size_mm3": True}, "minimum_mm3"),
        ({"minimum_size_mm3": {"liver": 3}}, "remove_small can't be used: labels"),
        ({"minimum_size_mm3": {1: "3"}}, "minimum_mm3"),
        ({"minimum_size_mm3": {0: 3}}, "remove_small"),
        ([{"rule": "keep_largest", "count": 10**9}], "count"),
        ([{"rule": "keep_largest", "count": 1.5}], "count"),
        ([{"rule": "keep_largest", "labels": [[]]}], "keep_largest can't be used"),
        ([{"rule": "keep_largest", "labels": [[1, 2], 2]}], "stands twice"),
        ([{"rule": "keep_largest", "labels": [70000]}], "labels are numbers"),
        ([{"rule": "opening", "radius_mm": 1e300}], "radius_mm is above 0 and up to 100"),
        ([{"rule": "opening", "radius_mm": 2, "connectivity": 6}], "connectivity"),
        ([{"rule": "closing"}], "radius_mm"),
        ([{"rule": "smoothing", "sigma_mm": -1}], "sigma_mm"),
        ([{"rule": "fill_between_labels", "within_mm": float("nan")}], "within_mm"),
        ([{"rule": "keep_inside", "labels": [1], "inside": 2}], "inside"),
        ([{"rule": "instances", "split_mm": "1"}], "split_mm"),
        ([{"rule": "fill_holes"}] * 1001, "1001 postprocessing rules"),
        ({"connectivity": 8}, "connectivity"),
        ({"connectivity": "26"}, "connectivity"),
        ({"connectivity": 26.5}, "connectivity"),
    ],
)
def test_a_bundle_with_wrong_rules_is_refused(config: dict[str, object], named: str) -> None:
    with pytest.raises(BundleError, match=named):
        PostprocessingRules.from_config(config)


def test_wrong_rules_from_python_are_refused() -> None:
    for make in (KeepLargest, FillHoles):
        with pytest.raises(UsageError, match="labels are numbers from 1"):
            make(labels=(0,))
        with pytest.raises(UsageError, match="connectivity"):
            make(connectivity=4)
    with pytest.raises(UsageError, match="0 mm3 or more"):
        RemoveSmall(minimum_mm3=float("inf"))


def test_every_rule_has_words_and_labels() -> None:
    said = [str(rule) for rule in (KeepLargest(labels=(1,)), RemoveSmall(minimum_mm3=50, labels=(1, 2)), FillHoles())]
    assert said == [
        "only the largest component of label 1",
        "only components of at least 50 mm3 of labels 1, 2",
        "filled holes of every label",
    ]
    table = LabelTable((Label(1, "anterior"), Label(2, "label 2")))
    assert KeepLargest(labels=(1, 2)).words(table) == "only the largest component of labels 1 (anterior), 2"
    assert rules(KeepLargest(labels=(1,)), FillHoles(labels=(4, 1)), RemoveSmall(minimum_mm3=1)).labels == {1, 4}
    said = [
        rule.words(LabelTable((Label(1, "liver"), Label(2, "tumour"))))
        for rule in (
            KeepLargest(labels=((1, 2), 3), count=2),
            KeepInside(labels=(2,), inside=(1,), grown_mm=5),
            RemoveTouchingBorder(labels=(1,)),
            Opening(radius_mm=1.5),
            Closing(labels=((1, 2),), radius_mm=2),
            Smoothing(sigma_mm=1),
            FillBetweenLabels(labels=(1, 2), within_mm=2),
            Instances(labels=(2,), split_mm=1),
        )
    ]
    assert said == [
        "only the 2 largest components of labels 1 (liver) + 2 (tumour), 3",
        "only components inside 1 (liver), grown by 5 mm, of label 2 (tumour)",
        "no component that touches the image's border of label 1 (liver)",
        "opening with a ball of 1.5 mm of every label",
        "closing with a ball of 2 mm of labels 1 (liver) + 2 (tumour)",
        "smoothing with a Gaussian of 1 mm of every label",
        "filled gaps of up to 2 mm from each side between labels 1 (liver), 2 (tumour)",
        "numbered instances of label 2 (tumour), split at necks narrower by 1 mm",
    ]
    assert rules(KeepInside(labels=((1, 2),), inside=(7,))).labels == {1, 2, 7}


def test_groups_count_as_one() -> None:
    mask = pieces()
    mask[6, 1:6, 1:6] = 2  # a lid on the large piece of label 1
    merged = np.where(mask > 0, 1, 0).astype(np.uint8)
    for one, both in (
        (KeepLargest(labels=(1,)), KeepLargest(labels=((1, 2),))),
        (KeepLargest(labels=(1,), count=2), KeepLargest(labels=((2, 1),), count=2)),
        (RemoveSmall(labels=(1,), minimum_mm3=3), RemoveSmall(labels=((1, 2),), minimum_mm3=3)),
        (FillHoles(labels=(1,)), FillHoles(labels=((1, 2),))),
    ):
        expected, _ = rules(one).apply(merged, GRID)
        found, changes = rules(both).apply(mask, GRID)
        assert np.array_equal(found > 0, expected > 0)
        assert np.array_equal(found[(found > 0) & (mask > 0)], mask[(found > 0) & (mask > 0)])
        for change in changes.labels:
            assert change.voxels == int((found == change.label).sum())
    assert sum(change.removed_components for change in rules(KeepLargest(labels=((1, 2),))).apply(mask, GRID)[1].labels)
    hollow = np.zeros((7, 7, 7), np.uint8)
    hollow[1:6, 1:6, 1:6] = 1
    hollow[4:6, 1:6, 1:6] = 2
    hollow[2:5, 2:5, 2:5] = 0
    unit = Grid(hollow.shape, np.eye(4))
    filled, changes = rules(FillHoles(labels=((1, 2),))).apply(hollow, unit)
    assert [change.filled_voxels for change in changes.labels] == [18, 9]
    assert (filled[2:4, 2:5, 2:5] == 1).all()
    assert (filled[4, 2:5, 2:5] == 2).all()
    assert rules(FillHoles()).apply(hollow, unit)[1].cavities_between_labels == 1
    with pytest.raises(UsageError, match="stands twice"):
        KeepLargest(labels=(1, (1, 2)))
    assert KeepLargest(labels=((1, 2),)).to_transform((1, 2)) is None
    assert KeepLargest(labels=(1, 2), count=2).to_transform((1, 2)) is None


@pytest.mark.parametrize(
    "row",
    [
        (
            KeepLargest(),
            Opening(labels=((1, 2), 3), radius_mm=0.8),
            Smoothing(labels=((1, 3),), sigma_mm=0.9),
            RemoveTouchingBorder(labels=((1, 3),)),
        ),
        (RemoveTouchingBorder(labels=((1, 3),)), RemoveSmall(labels=(2,), minimum_mm3=9)),
    ],
)
def test_rules_in_a_row_are_those_one_by_one_and_count_what_is_left(row: tuple[Rule, ...]) -> None:
    for seed in range(6):
        mask = organs(seed)
        grid = grid_of(mask)
        found, changes = rules(*row).apply(mask, grid)
        apart = mask
        for rule in row:
            apart, _ = rules(rule).apply(apart, grid)
        assert np.array_equal(found, apart)
        assert {one.label: one.voxels for one in changes.labels if one.voxels} == voxels(found)
        assert set(changes.vanished) == {*voxels(mask)} - {*voxels(found)}


def test_the_k_largest_stay() -> None:
    random = np.random.default_rng(5)
    for seed in range(8):
        mask = np.asarray(
            random.integers(0, 3, (9, 8, 7)) * (random.random((9, 8, 7)) < 0.3), np.uint8, order="CF"[seed % 2]
        )
        for count in (1, 2, 3, 40):
            expected = np.zeros(mask.shape, bool)
            for label in (1, 2):
                numbers, found = ndimage.label(mask == label)
                held = np.bincount(numbers.ravel())[1:]
                # scipy numbers components in the order in which they begin: of equals the last stays
                order = sorted(range(found), key=lambda one, held=held: (-held[one], -one))
                expected |= np.isin(numbers, [one + 1 for one in order[:count]])
            tidy, _ = rules(KeepLargest(count=count, connectivity=6)).apply(mask, Grid(mask.shape, np.eye(4)))
            assert np.array_equal(tidy > 0, expected)
    for count in (0, -1, 1001):
        with pytest.raises(UsageError, match="from 1 to 1000"):
            KeepLargest(count=count)


def test_the_first_rules_that_monai_has_become_its_transforms() -> None:
    largest, small, holes = KeepLargest(labels=(1,)), RemoveSmall(minimum_mm3=5), FillHoles()
    transforms, rest = rules(largest, small, largest).to_transforms((1, 2))
    assert [transform["_target_"] for transform in transforms] == ["monai.transforms.KeepLargestConnectedComponentd"]
    assert rest == rules(small, largest)
    assert rules(holes).to_transforms((1, 2)) == ([], rules(holes))
    assert len(rules(holes, largest).to_transforms((1,))[0]) == 2


def test_only_the_last_transforms_stand_for_rules() -> None:
    largest = KeepLargest(labels=(2, 1), connectivity=18)
    (stock,), _ = rules(largest).to_transforms((1, 2))
    other = {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "argmax": True}
    assert PostprocessingRules.from_transforms([stock, other, stock, stock], (1, 2)) == (2, rules(largest, largest))
    assert PostprocessingRules.from_transforms([stock, other], (1, 2)) == (0, rules())
    assert PostprocessingRules.from_transforms([], ()) == (0, rules())


def test_the_example_of_the_docs_is_read() -> None:
    text = (Path(__file__).parents[1] / "docs" / "rules.md").read_text()
    example = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    found = PostprocessingRules.from_config(example["volseg_postprocessing"])
    assert found == rules(RemoveSmall(minimum_mm3=50), FillHoles(labels=(1, 2), connectivity=26))
    assert all(f"| `{key}` |" in text for key in RULES)
