"""The label table that a file beside masks tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from volseg.dataset.beside import labels_beside
from volseg.errors import DataSetError, InputError

if TYPE_CHECKING:
    from pathlib import Path

DATASET = json.dumps({"labels": {"0": "background", "1": "spleen"}})
LABELS = '1 255 0 0 1 1 1 "liver"\n'


def names(path: Path) -> tuple[str, ...] | None:
    table = labels_beside(path)
    return None if table is None else table.names


def test_labels_txt_goes_before_dataset_json(tmp_path: Path) -> None:
    assert names(tmp_path) is None
    (tmp_path / "dataset.json").write_text(DATASET)
    assert names(tmp_path) == ("spleen",)
    (tmp_path / "labels.txt").write_text(LABELS)
    assert names(tmp_path) == ("liver",)
    assert names(tmp_path / "case.nii.gz") == ("liver",)


def test_the_dataset_json_above_counts_for_folders_of_labels_alone(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(DATASET)
    for folder, found in (("labelsTr", ("spleen",)), ("labelsTs", ("spleen",)), ("predicted", None)):
        (tmp_path / folder).mkdir()
        assert names(tmp_path / folder) == found


def test_a_damaged_file_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataSetError, match=r"dataset\.json"):
        labels_beside(tmp_path)
    (tmp_path / "labels.txt").write_text("liver is one")
    with pytest.raises(InputError, match=r"labels\.txt"):
        labels_beside(tmp_path)
