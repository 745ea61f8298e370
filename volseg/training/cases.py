"""Which cases a fold trains on, and which it holds out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.atomic import write_text
from volseg.dataset.dataset import read_dataset
from volseg.dataset.folds import split_folds
from volseg.errors import DataSetError, UsageError

if TYPE_CHECKING:
    from volseg.dataset.case import Case
    from volseg.dataset.dataset import Dataset

FOLDS = 5
MAX_RECORD_BYTES = 64 * 2**20
CASES_FILE = "cases.json"


@dataclass(frozen=True)
class FoldCases:
    """The cases of one fold by name; without a fold, all train and none is held out."""

    training: tuple[str, ...]
    validation: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset, fold: int | None) -> FoldCases:
        """Split a data set; the same data set always gives the same folds, and a patient's cases stay together.

        Raises:
            UsageError: there is no such fold.
            DataSetError: too few cases to hold any out.
        """
        names = tuple(case.name for case in dataset.training)
        if fold is None:
            return cls(names, ())
        if not 0 <= fold < FOLDS:
            raise UsageError(f"There is no fold {fold}: the folds are 0 to {FOLDS - 1}.")
        held_out = frozenset(split_folds(dataset.training, FOLDS)[fold]) if len(names) > 1 else frozenset(names)
        if not held_out:
            raise DataSetError(
                f"{dataset.folder} has {len(names)} labelled cases, so fold {fold} would hold out none. "
                "Choose a lower fold, or train on all with --all-cases.",
                code="empty-fold",
            )
        if len(held_out) == len(names):
            raise DataSetError(
                f"All {len(names)} labelled cases of {dataset.folder} would be held out, for they are of one patient. "
                "Add cases, or train on all with --all-cases.",
                code="empty-fold",
            )
        return cls(tuple(n for n in names if n not in held_out), tuple(n for n in names if n in held_out))

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

    def write(self, path: Path) -> None:
        """Write the names atomically as JSON.

        Raises:
            FileError: the file can't be written.
        """
        content = {"training": list(self.training), "validation": list(self.validation)}
        write_text(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> FoldCases:
        """Read what a run recorded.

        Raises:
            DataSetError: the record is damaged.
        """
        try:
            if path.stat().st_size > MAX_RECORD_BYTES:
                raise ValueError("too large")
            content = json.loads(path.read_text(encoding="utf-8"))
            training, validation = content["training"], content["validation"]
            if not all(isinstance(name, str) for name in (*training, *validation)):
                raise ValueError("not names")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataSetError(
                f"{path}, the run's record of its cases, can't be read. Train the fold again with --fresh."
            ) from error
        return cls(tuple(training), tuple(validation))


def fold_cases(
    dataset_dir: str | Path, part: Literal["training", "validation"], fold: int | None, record: str | Path | None = None
) -> list[dict[str, str | list[str]]]:
    """The cases of one part of a fold, as MONAI's data sets want them: ``image`` and ``label`` paths.

    Args:
        dataset_dir: the data set's folder.
        part: ``training`` or ``validation``.
        fold: which fold is held out; None holds out none.
        record: a file that names the cases of a run that began earlier, which then decides.

    Raises:
        DataSetError: the data set can't be read, or a recorded case is gone.
    """
    dataset = read_dataset(Path(dataset_dir), discover_labels=False)
    by_name = {case.name: case for case in dataset.training}
    chosen = FoldCases.read(Path(record)) if record and Path(record).is_file() else FoldCases.of(dataset, fold)
    chosen.require_present(dataset)
    return [as_item(by_name[name]) for name in (chosen.training if part == "training" else chosen.validation)]


def as_item(case: Case) -> dict[str, str | list[str]]:
    """A case as MONAI's transforms take it."""
    images = [str(path) for path in case.images]
    item: dict[str, str | list[str]] = {"image": images[0] if len(images) == 1 else images}
    if case.label is not None:
        item["label"] = str(case.label)
    return item
