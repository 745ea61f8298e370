"""Which cases a run trains on and holds out, and that it keeps to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from volseg.dataset.dataset import read_dataset
from volseg.errors import DataSetError, UsageError
from volseg.training.cases import FOLDS, FoldCases, as_item, fold_cases

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset


def test_every_case_is_held_out_once(make_dataset: MakeDataset) -> None:
    dataset = read_dataset(make_dataset(11))
    names = {case.name for case in dataset.training}
    folds = [FoldCases.of(dataset, fold) for fold in range(FOLDS)]
    held_out = [name for fold in folds for name in fold.validation]
    assert sorted(held_out) == sorted(names)
    for fold in folds:
        assert set(fold.training) | set(fold.validation) == names
        assert not set(fold.training) & set(fold.validation)
        assert len(fold.validation) in (2, 3)


def test_a_patient_s_cases_stay_together(make_dataset: MakeDataset) -> None:
    root = make_dataset(10)
    rows = [f"case_{case},patient_{case // 2}" for case in range(10)]
    (root / "patients.csv").write_text("\n".join(["case,patient", *rows]) + "\n")
    for fold in range(FOLDS):
        held_out = {int(name[-1]) for name in FoldCases.of(read_dataset(root), fold).validation}
        assert {case ^ 1 for case in held_out} == held_out


def test_without_a_fold_all_train(make_dataset: MakeDataset) -> None:
    found = FoldCases.of(read_dataset(make_dataset(3)), None)
    assert found == FoldCases(("case_0", "case_1", "case_2"), ())


@pytest.mark.parametrize("fold", [-1, FOLDS])
def test_there_is_no_such_fold(make_dataset: MakeDataset, fold: int) -> None:
    with pytest.raises(UsageError, match=f"no fold {fold}"):
        FoldCases.of(read_dataset(make_dataset(3)), fold)


def test_a_fold_that_would_hold_out_none_is_refused(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataSetError, match="Choose a lower fold, or train on all with --all-cases") as caught:
        FoldCases.of(read_dataset(make_dataset(3)), 4)
    assert caught.value.code == "empty-fold"


@pytest.mark.parametrize("cases", [1, 4])
def test_one_patient_can_t_be_split(make_dataset: MakeDataset, cases: int) -> None:
    root = make_dataset(cases)
    (root / "patients.csv").write_text("case,patient\n" + "".join(f"case_{n},p\n" for n in range(cases)))
    with pytest.raises(DataSetError, match="--all-cases"):
        FoldCases.of(read_dataset(root), 0)


def test_the_record_decides_over_the_data_set(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset(5)
    record = tmp_path / "cases.json"
    FoldCases(("case_3", "case_1"), ("case_0",)).write(record)
    assert FoldCases.read(record) == FoldCases(("case_3", "case_1"), ("case_0",))
    training = fold_cases(root, "training", 2, record)
    assert [item["image"] for item in training] == [
        str(root / "imagesTr" / f"{name}.nii.gz") for name in ("case_3", "case_1")
    ]
    assert [item["label"] for item in fold_cases(str(root), "validation", 2, str(record))] == [
        str(root / "labelsTr" / "case_0.nii.gz")
    ]


def test_without_a_record_the_fold_decides(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset(6)
    expected = FoldCases.of(read_dataset(root), 1)
    found = fold_cases(root, "validation", 1, tmp_path / "absent.json")
    assert [str(item["label"]).rsplit("/", 1)[1] for item in found] == [f"{n}.nii.gz" for n in expected.validation]


def test_a_recorded_case_that_is_gone_is_named(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset(3)
    FoldCases(("case_0", "case_7"), ("case_1",)).write(tmp_path / "cases.json")
    with pytest.raises(DataSetError, match="1 of the cases that this run was begun with, such as case_7") as caught:
        fold_cases(root, "validation", 0, tmp_path / "cases.json")
    assert caught.value.code == "cases-gone"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"training": ["a"]}', '{"training": [1], "validation": []}', "[" * 100_000]
)
def test_a_damaged_record_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "cases.json").write_text(content)
    with pytest.raises(DataSetError, match="--fresh"):
        FoldCases.read(tmp_path / "cases.json")


def test_several_channels_are_a_list_of_files(make_dataset: MakeDataset) -> None:
    root = make_dataset(2, channels=2)
    case = read_dataset(root).training[0]
    images = [str(root / "imagesTr" / f"case_0_{channel:04d}.nii.gz") for channel in range(2)]
    assert as_item(case) == {"image": images, "label": str(root / "labelsTr" / "case_0.nii.gz")}


def test_no_mask_is_read_to_name_the_cases(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_dataset(3)

    def unexpected(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("volseg.dataset.dataset.read_mask", unexpected)
    assert len(fold_cases(root, "training", None)) == 3


def test_listed_cases_of_a_made_up_order_are_the_same_folds(make_dataset: MakeDataset) -> None:
    root = make_dataset(6)
    before = FoldCases.of(read_dataset(root), 0)
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
    assert FoldCases.of(read_dataset(root), 0) == before
