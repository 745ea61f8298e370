"""Which cases a fold trains on and holds out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.dataset.dataset import Dataset, read_dataset
from volseg.dataset.folds import FOLDS, Split
from volseg.errors import DataSetError, UsageError
from volseg.training.cases import FoldCases

if TYPE_CHECKING:
    from tests.conftest import MakeDataset


def cases_of(dataset: Dataset, fold: int | None) -> FoldCases:
    return FoldCases.of(dataset, Split.of(dataset.training, {}), fold)


def test_every_case_is_held_out_once(make_dataset: MakeDataset) -> None:
    dataset = read_dataset(make_dataset(11))
    names = {case.name for case in dataset.training}
    folds = [cases_of(dataset, fold) for fold in range(FOLDS)]
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
        held_out = {int(name[-1]) for name in cases_of(read_dataset(root), fold).validation}
        assert {case ^ 1 for case in held_out} == held_out


def test_without_a_fold_all_train(make_dataset: MakeDataset) -> None:
    dataset = read_dataset(make_dataset(3))
    assert cases_of(dataset, None) == FoldCases(("case_0", "case_1", "case_2"), ())
    assert FoldCases.of(dataset, None, None) == FoldCases(("case_0", "case_1", "case_2"), ())


def test_cases_that_the_split_does_not_know_are_in_no_fold(make_dataset: MakeDataset) -> None:
    dataset = read_dataset(make_dataset(4))
    split = Split(frozenset({"case_0", "case_2", "case_3", "gone"}), (("case_0", "gone"), ("case_3",)))
    assert FoldCases.of(dataset, split, 0) == FoldCases(("case_2", "case_3"), ("case_0",))
    assert FoldCases.of(dataset, split, 1) == FoldCases(("case_0", "case_2"), ("case_3",))


@pytest.mark.parametrize("fold", [-1, FOLDS])
def test_there_is_no_such_fold(make_dataset: MakeDataset, fold: int) -> None:
    with pytest.raises(UsageError, match=f"no fold {fold}"):
        cases_of(read_dataset(make_dataset(3)), fold)


def test_a_fold_that_would_hold_out_none_is_refused(make_dataset: MakeDataset) -> None:
    with pytest.raises(
        DataSetError, match="Choose another fold, give --folds a split of fewer folds, or train on all"
    ) as caught:
        FoldCases.of(read_dataset(make_dataset(3)), Split(frozenset({"case_0"}), ((), ("case_0",))), 0)
    assert caught.value.code == "empty-fold"


@pytest.mark.parametrize("cases", [1, 4])
def test_one_patient_can_t_be_split(make_dataset: MakeDataset, cases: int) -> None:
    root = make_dataset(cases)
    (root / "patients.csv").write_text("case,patient\n" + "".join(f"case_{n},p\n" for n in range(cases)))
    with pytest.raises(DataSetError, match="--all-cases"):
        cases_of(read_dataset(root), 0)
