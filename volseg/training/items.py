"""The cases of a fold as MONAI's data sets take them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.dataset.dataset import count_labels, read_dataset
from volseg.dataset.folds import Split
from volseg.labels import BACKGROUND
from volseg.training.cases import FoldCases
from volseg.training.record import RunRecord
from volseg.volume import read_mask

if TYPE_CHECKING:
    from volseg.dataset.case import Case
    from volseg.dataset.dataset import Dataset


def fold_cases(
    dataset_dir: str | Path, part: Literal["training", "validation"], fold: int | None, record: str | Path | None = None
) -> list[dict[str, str | list[str]]]:
    """The cases of one part of a fold, as MONAI's data sets want them: ``image`` and ``label`` paths.

    Args:
        dataset_dir: the data set's folder.
        part: ``training`` or ``validation``.
        fold: which fold is held out; None holds out none.
        record: the record of a run, which then decides; see ``RunRecord``. Without one the data set is split as
            ``volseg train`` does at first, for which every mask is read.

    Raises:
        DataSetError: the data set can't be read, or a recorded case is gone.
    """
    dataset = read_dataset(Path(dataset_dir), discover_labels=False)
    by_name = {case.name: case for case in dataset.training}
    if record and Path(record).is_file():
        chosen = RunRecord.read(Path(record)).cases
    else:
        chosen = FoldCases.of(dataset, None if fold is None else Split.of(dataset.training, _labels_of(dataset)), fold)
    chosen.require_present(dataset)
    return [as_item(by_name[name]) for name in (chosen.training if part == "training" else chosen.validation)]


def _labels_of(dataset: Dataset) -> dict[str, frozenset[int]]:
    masks = {case.name: case.label for case in dataset.training if case.label is not None}
    return {name: frozenset(count_labels(read_mask(path).array)) - {BACKGROUND} for name, path in masks.items()}


def as_item(case: Case) -> dict[str, str | list[str]]:
    """A case as MONAI's transforms take it."""
    images = [str(path) for path in case.images]
    item: dict[str, str | list[str]] = {"image": images[0] if len(images) == 1 else images}
    if case.label is not None:
        item["label"] = str(case.label)
    return item
