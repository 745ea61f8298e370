"""What a network is to give: labels, or regions and the numbers that they are painted with."""

from __future__ import annotations

import itertools

import pytest

from volseg.errors import UsageError
from volseg.labels import Label, LabelTable, Region
from volseg.planning.target import Target

TUMOUR = LabelTable(tuple(Label(index, name) for index, name in enumerate(("necrosis", "edema", "solid", "bright"), 1)))
WHOLE, CORE, BRIGHT = Region("whole", (1, 2, 3, 4)), Region("core", (1, 3, 4)), Region("bright", (4,))


@pytest.mark.parametrize("regions", list(itertools.permutations((WHOLE, CORE, BRIGHT))))
def test_regions_inside_each_other_are_painted_from_the_largest(regions: tuple[Region, ...]) -> None:
    target = Target.of(TUMOUR, regions)
    assert [(region.name, region.value) for region in target.regions] == [("whole", 2), ("core", 1), ("bright", 4)]
    assert target.outputs == 3
    # Labels that lie in the same regions can't be told apart any more, and their name says so.
    assert [(label.index, label.name) for label in target.table.labels] == [
        (1, "necrosis or solid"), (2, "edema"), (4, "bright"),
    ]  # fmt: skip
    assert not target.warnings()


def test_numbers_that_a_data_set_gives_stay() -> None:
    regions = (Region("whole", (1, 2, 3), 3), Region("core", (1, 2), 2))
    assert Target.of(TUMOUR, regions).regions == regions


def test_painting_as_nnunet_does() -> None:
    target = Target.of(TUMOUR, (WHOLE, CORE, BRIGHT))
    for inside in itertools.product((False, True), repeat=3):
        value = 0
        for here, number in zip(inside, (2, 1, 4), strict=True):  # one after the other
            value = number if here else value
        assert target.paint(inside) == value


def test_a_region_that_others_cover_gets_a_number_of_its_own() -> None:
    table = LabelTable((Label(1, "a"), Label(2, "b")), ignore=3)
    target = Target.of(table, (Region("all", (1, 2)), Region("one", (1,)), Region("two", (2,))))
    assert [region.value for region in target.regions] == [4, 1, 2]
    assert target.table.name_of(4) == "all without one and two"
    assert (target.mark, target.ignore) == (3, 3)


def test_parts_that_nobody_named_are_told_by_the_regions() -> None:
    target = Target.of(LabelTable(()).with_values(range(1, 5)), (WHOLE, CORE, BRIGHT))
    assert target.table.names == ("core without bright", "whole without core", "bright")


def test_what_a_merged_mask_can_t_show_is_said() -> None:
    target = Target.of(TUMOUR, (Region("left", (1, 3)), Region("right", (2, 3))))
    assert target.hidden == (3,)
    outside, hidden = target.warnings()
    assert "4 (bright)" in outside
    assert "3 (solid)" in hidden


@pytest.mark.parametrize(
    ("regions", "reason"),
    [
        ((Region("a", (5,)),), "label 5"),
        ((Region("a"),), "label none"),
        ((WHOLE, Region("b", (4, 3, 2, 1))), "the same labels"),
        ((WHOLE, Region("Whole", (1,))), "differ only"),
        (tuple(Region(f"r{number}", (number + 1,)) for number in range(9)), "up to 8"),
    ],
)
def test_regions_that_make_no_sense(regions: tuple[Region, ...], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Target.of(TUMOUR, regions)


@pytest.mark.parametrize(("ignore", "free"), [(None, 2), (65535, 3)])
def test_a_covered_region_gets_a_number_that_a_mask_can_hold(ignore: int | None, free: int) -> None:
    highest = 65535 if ignore is None else 65534
    low = () if ignore is None else (2,)
    table = LabelTable(tuple(Label(index, f"part {index}") for index in (1, *low, highest)), ignore)
    regions = (Region("all", table.indices), *(Region(f"{index}", (index,)) for index in table.indices))
    found = Target.of(table, regions)
    assert [region.value for region in found.regions] == [free, *table.indices]
    assert set(found.table.indices) == {free, *table.indices}
