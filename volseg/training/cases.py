"""Which cases a fold trains on, and which it holds out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import DataSetError, UsageError

if TYPE_CHECKING:
    from volseg.dataset.dataset import Dataset
    from volseg.dataset.folds import Split


@dataclass(frozen=True)
class FoldCases:
    """The cases of one fold by name; without a fold, all train and none is held out."""

    training: tuple[str, ...]
    validation: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset, split: Split | None, fold: int | None) -> FoldCases:
        """The cases of a fold that the data set has; those that came after it was split are left out.

        Args:
            dataset: the data set.
            split: how it is split; None where no fold is asked for.
            fold: which fold is held out; None holds out none.

        Raises:
            UsageError: there is no such fold.
            DataSetError: the fold would hold out no case, or all.
        """
        names = tuple(case.name for case in dataset.training)
        if fold is None or split is None:
            return cls(names, ())
        if not split.folds:
            raise DataSetError(
                f"{dataset.folder} has no labelled case that a fold could hold out. Put masks into labelsTr.",
                code="empty-fold",
            )
        if not 0 <= fold < len(split.folds):
            raise UsageError(f"There is no fold {fold}: the folds are 0 to {len(split.folds) - 1}.")
        names = tuple(name for name in names if name in split.cases)
        held_out = frozenset(split.folds[fold])
        found = cls(tuple(n for n in names if n not in held_out), tuple(n for n in names if n in held_out))
        if not found.validation:
            raise DataSetError(
                f"{dataset.folder} has {len(names)} labelled cases, and fold {fold} would hold out none. "
                "Choose another fold, give --folds a split of fewer folds, or train on all with --all-cases.",
                code="empty-fold",
            )
        if not found.training:
            raise DataSetError(
                f"Fold {fold} would hold out all {len(names)} labelled cases of {dataset.folder}, for there is one, or "
                "they are of one patient. Add cases, or train on all with --all-cases.",
                code="empty-fold",
            )
        return found

    def require_present(self, dataset: Dataset) -> None:
        """Refuse a data set that has lost cases of a run.

        Raises:
            DataSetError: a case is gone, or has no mask any more.
        """
        gone = sorted({*self.training, *self.validation} - {case.name for case in dataset.training})
        if gone:
            raise DataSetError(
                f"{dataset.folder} no longer has {len(gone)} of the cases that this run was begun with, "
                f"such as {gone[0]}. Put them back, or start the fold over with --fresh.",
                code="cases-gone",
            )
