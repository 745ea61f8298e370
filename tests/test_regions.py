"""Regions: unions of labels, and folders with a mask of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.nifti import save
from volseg.errors import InputError, UsageError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable, Region, folders_of
from volseg.regions import parse_regions, read_region, regions_in, union_of
from volseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

TABLE = LabelTable((Label(1, "core"), Label(2, "edema"), Label(4, "enhancing")))


@pytest.mark.parametrize(
    ("texts", "regions"),
    [
        ((), ()),
        (("whole tumor=1,2,4; tumor core=1,4",), [("whole tumor", (1, 2, 4)), ("tumor core", (1, 4))]),
        (("whole  tumor = 1, 2 ,4 ;", "core=core,enhancing"), [("whole tumor", (1, 2, 4)), ("core", (1, 4))]),
        (("all=9",), [("all", (9,))]),
    ],
)
def test_regions_as_a_person_writes_them(texts: tuple[str, ...], regions: list[tuple[str, tuple[int, ...]]]) -> None:
    assert parse_regions(texts, TABLE) == tuple(Region(name, labels) for name, labels in regions)


@pytest.mark.parametrize(
    "text", ["whole", "whole=", "=1,2", "a=0", "a=70000", "a=nobody", "a=1;A=2", "a\nb\x1b=1", "x" * 90 + "=1"]
)
def test_what_is_no_region(text: str) -> None:
    with pytest.raises(UsageError):
        parse_regions([text], TABLE)


def test_a_union_of_labels() -> None:
    array = np.array([[[0, 1, 2, 3, 4, 500]]], np.uint16)
    grid = Grid((1, 1, 6), np.eye(4))
    for labels in ((1, 2, 4), (500,), (7,), ()):
        assert np.array_equal(union_of(Volume(array, grid), labels).array, np.isin(array, labels))


def test_a_mask_of_one_region_has_one_value(tmp_path: Path) -> None:
    inside = np.zeros((3, 3, 3), np.uint8)
    inside[1] = 255
    assert np.array_equal(read_region(save(tmp_path / "a.nii.gz", inside)).array, inside > 0)
    assert not read_region(save(tmp_path / "b.nii.gz", np.zeros_like(inside))).array.any()
    inside[2] = 1
    with pytest.raises(InputError) as caught:
        read_region(save(tmp_path / "c.nii.gz", inside))
    assert caught.value.code == "not-a-region"


def write_region(folder: Path, name: str, *cases: str) -> None:
    folder.mkdir(parents=True)
    Region(name).table.describe(folder / "labels.txt")
    for case in cases:
        save(folder / f"{case}.nii.gz", np.ones((2, 2, 2), np.uint8))


def test_folders_of_regions(tmp_path: Path) -> None:
    write_region(tmp_path / "tumor-core", "Tumor core", "a", "b")
    write_region(tmp_path / "whole", "Whole tumor", "a")
    write_region(tmp_path / ".hidden", "Hidden", "a")
    (tmp_path / "images").mkdir()
    save(tmp_path / "images" / "a.nii.gz", np.ones((2, 2, 2), np.uint8))
    (tmp_path / "two").mkdir()
    TABLE.describe(tmp_path / "two" / "labels.txt")
    (tmp_path / "link").symlink_to(tmp_path / "whole")
    found = regions_in(tmp_path)
    assert {key: (one.name, sorted(one.masks)) for key, one in found.items()} == {
        "tumorcore": ("Tumor core", ["a", "b"]), "wholetumor": ("Whole tumor", ["a"]),
    }  # fmt: skip
    assert regions_in(tmp_path / "whole") == {}
    write_region(tmp_path / "again", "TUMOR-CORE", "c")
    with pytest.raises(InputError) as caught:
        regions_in(tmp_path)
    assert caught.value.code == "name-twice"


def test_folders_of_any_names_are_plain_and_differ() -> None:
    names = ["Core", "core ", "../..", "images", "CORE-2", "Ödem", "水", "", "x" * 500, "x" * 501]
    folders = folders_of([Region(name) for name in names], ("images",))
    assert len(set(folders)) == len(names)
    assert "images" not in folders
    assert all(
        folder.strip("-") == folder and folder.replace("-", "").isalnum() and folder.isascii() for folder in folders
    )
    assert max(map(len, folders)) < 70
    assert folders_of([Region(name) for name in names], ("images",)) == folders
