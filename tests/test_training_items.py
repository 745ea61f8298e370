"""The cases of a fold as MONAI's data sets take them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from volseg.dataset.dataset import read_dataset
from volseg.dataset.folds import Split
from volseg.errors import DataSetError
from volseg.training.cases import FoldCases
from volseg.training.items import as_item, fold_cases
from volseg.training.record import RunRecord

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset


def names_of(items: list[dict[str, str | list[str]]]) -> list[str]:
    return [str(item["label"]).rsplit("/", 1)[1].removesuffix(".nii.gz") for item in items]


def test_the_record_decides_over_the_data_set(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset(5)
    record = tmp_path / "training.json"
    RunRecord("fold_2", FoldCases(("case_3", "case_1"), ("case_0",))).write(record)
    training = fold_cases(root, "training", 2, record)
    assert [item["image"] for item in training] == [
        str(root / "imagesTr" / f"{name}.nii.gz") for name in ("case_3", "case_1")
    ]
    assert names_of(fold_cases(str(root), "validation", 2, str(record))) == ["case_0"]


def test_without_a_record_the_data_set_is_split_by_what_its_masks_hold(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    root = make_dataset(10)
    for n in (2, 3, 5, 7, 8):
        path = root / "labelsTr" / f"case_{n}.nii.gz"
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj).copy()
        voxels[0, 0, 0] = 9
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine), path)
    held_out = [names_of(fold_cases(root, "validation", fold, tmp_path / "absent.json")) for fold in range(5)]
    assert sorted(name for fold in held_out for name in fold) == [f"case_{n}" for n in range(10)]
    assert [sum(int(name[-1]) in (2, 3, 5, 7, 8) for name in fold) for fold in held_out] == [1] * 5


def test_a_recorded_case_that_is_gone_is_named(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset(3)
    RunRecord("fold_0", FoldCases(("case_0", "case_7"), ("case_1",))).write(tmp_path / "training.json")
    with pytest.raises(DataSetError, match="1 of the cases that this run was begun with, such as case_7") as caught:
        fold_cases(root, "validation", 0, tmp_path / "training.json")
    assert caught.value.code == "cases-gone"


def test_several_channels_are_a_list_of_files(make_dataset: MakeDataset) -> None:
    root = make_dataset(2, channels=2)
    case = read_dataset(root).training[0]
    images = [str(root / "imagesTr" / f"case_0_{channel:04d}.nii.gz") for channel in range(2)]
    assert as_item(case) == {"image": images, "label": str(root / "labelsTr" / "case_0.nii.gz")}


def test_no_mask_is_read_to_name_all_cases(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_dataset(3)

    def unexpected(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("volseg.dataset.dataset.read_mask", unexpected)
    monkeypatch.setattr("volseg.training.items.read_mask", unexpected)
    assert len(fold_cases(root, "training", None)) == 3


def test_listed_cases_of_a_made_up_order_are_the_same_folds(make_dataset: MakeDataset) -> None:
    root = make_dataset(6)
    before = Split.of(read_dataset(root).training, {})
    entries = [
        {"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"} for n in (4, 0, 5, 2, 1, 3)
    ]
    listing = {
        "labels": {"0": "background", "1": "a", "2": "b"},
        "modality": {"0": "MRI"},
        "training": entries,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(listing))
    assert Split.of(read_dataset(root).training, {}) == before
