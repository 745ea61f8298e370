"""Images outside of a data set, put together as cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.dataset.case import Case
from volseg.dataset.images import cases_in
from volseg.errors import DataSetError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def folder_with(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).write_bytes(b"")
    return root


def named(cases: tuple[Case, ...]) -> dict[str, list[str]]:
    assert all(case.label is None for case in cases)
    return {case.name: [path.name for path in case.images] for case in cases}


def test_every_image_of_a_folder_is_a_case(tmp_path: Path) -> None:
    names = ("b.nii.gz", "a.nii", "c.nrrd", "d.mha", "e.mhd", "notes.txt", ".hidden.nii.gz", "f.json")
    (tmp_path / "deeper").mkdir()
    folder_with(tmp_path / "deeper", "g.nii.gz")
    found = named(cases_in(folder_with(tmp_path, *names), 1))
    assert found == {"a": ["a.nii"], "b": ["b.nii.gz"], "c": ["c.nrrd"], "d": ["d.mha"], "e": ["e.mhd"]}
    assert list(found) == sorted(found)


def test_a_single_image_is_one_case(tmp_path: Path) -> None:
    folder_with(tmp_path, "a.nii.gz", "b.nii.gz")
    assert named(cases_in(tmp_path / "b.nii.gz", 1)) == {"b": ["b.nii.gz"]}


def test_channel_numbers_put_files_together(tmp_path: Path) -> None:
    folder_with(tmp_path, "p_0001.nii.gz", "p_0000.nii.gz", "q_0000.nii.gz", "q_0001.nii.gz")
    expected = {"p": ["p_0000.nii.gz", "p_0001.nii.gz"], "q": ["q_0000.nii.gz", "q_0001.nii.gz"]}
    assert named(cases_in(tmp_path, 2)) == expected
    for name in ("p_0000.nii.gz", "p_0001.nii.gz"):
        assert named(cases_in(tmp_path / name, 2)) == {"p": expected["p"]}


def test_with_one_channel_only_its_own_number_is_dropped(tmp_path: Path) -> None:
    folder_with(tmp_path, "p_0000.nii.gz", "scan_2021.nii.gz", "r_0001.nii.gz")
    assert named(cases_in(tmp_path, 1)) == {
        "p": ["p_0000.nii.gz"],
        "r_0001": ["r_0001.nii.gz"],
        "scan_2021": ["scan_2021.nii.gz"],
    }


def test_one_file_may_hold_all_channels(tmp_path: Path) -> None:
    folder_with(tmp_path, "p.nii.gz", "q_0000.nii.gz")
    assert named(cases_in(tmp_path, 4)) == {"p": ["p.nii.gz"], "q": ["q_0000.nii.gz"]}


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    folder_with(tmp_path, "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "b_0002.nii.gz", "c.nii.gz", "c.mha")
    with pytest.raises(DataSetError) as caught:
        cases_in(tmp_path, 2)
    lines = caught.value.message.splitlines()
    assert any("a has the channels [1], and the bundle needs 0 to 1" in line for line in lines)
    assert any("b has the channels [0, 1, 2]" in line for line in lines)
    assert any("c.mha and c.nii.gz are both case c" in line for line in lines)


def test_two_files_of_one_name_are_not_one_case(tmp_path: Path) -> None:
    folder_with(tmp_path, "p_0000.nii.gz", "p.nii.gz")
    with pytest.raises(DataSetError, match="are both case p"):
        cases_in(tmp_path, 1)


@pytest.mark.parametrize("content", [(), ("notes.txt",)])
def test_a_folder_without_images_is_refused(tmp_path: Path, content: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="holds no image") as caught:
        cases_in(folder_with(tmp_path, *content), 1)
    assert caught.value.code == "no-images"


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    folder_with(tmp_path, "scan.pdf")
    with pytest.raises(UsageError, match="is no image that volseg reads"):
        cases_in(tmp_path / "scan.pdf", 1)
