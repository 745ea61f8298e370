"""A mask of each structure of a case by itself, for structures that overlap: ``regions/<structure>/<case>.nii.gz``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from volseg.dataset.pairing import REGIONS
from volseg.labels import LABELS_NAME, Region, folders_of
from volseg.masks.composition import Composition
from volseg.volume import nifti_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.labels import LabelTable
    from volseg.masks.composition import Converted, Drawn


def region_files(table: LabelTable, objects: Sequence[Drawn], case: str) -> dict[int, str]:
    """Where the mask of each structure of a case lies, relative to the data set, by the numbers of the labels."""
    chosen = {index for one in objects for index in one.assignment.chosen.values()}
    return {index: f"{REGIONS}/{name}/{nifti_name(case)}" for index, name in _names(table).items() if index in chosen}


def describe_regions(folder: Path, table: LabelTable, indices: Collection[int]) -> None:
    """Write a ``labels.txt`` for each region, which names it alone.

    Raises:
        FileError: it can't be written.
    """
    for index, name in _names(table).items():
        if index in indices:
            Region(table.name_of(index)).table.describe(folder / REGIONS / name / LABELS_NAME)


def region_of(index: int, converted: Converted, objects: Sequence[Drawn], table: LabelTable) -> NDArray[np.uint8]:
    """The mask (i, j, k) of one structure, 1 inside and 0 outside, whatever others lie there.

    Raises:
        InputError, FileError: as ``Composition``.
    """
    alone = []
    for one in objects:
        chosen = {number: label for number, label in one.assignment.chosen.items() if label == index}
        if chosen:
            alone.append(replace(one, assignment=replace(one.assignment, chosen=chosen)))
    composition = Composition(converted, [one.assignment for one in alone], table)
    for one in alone:
        composition.add(one)
    inside: NDArray[np.uint8] = (composition.labels() != 0).astype(np.uint8)
    return inside


def _names(table: LabelTable) -> dict[int, str]:
    """The folder of each label's region: the same as the table grows."""
    folders = folders_of([Region(label.name) for label in table.labels])
    return dict(zip(table.indices, folders, strict=True))
