"""A mask in memory: labels on a grid, and what they stand for."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.volume.files import as_mask
from volseg.volume.model import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_LABELS = LabelTable(())


@dataclass(frozen=True, eq=False, repr=False)
class Mask(Volume):
    """Labels on a grid, and their names.

    Args:
        array: (i, j, k) whole numbers from 0, the background, to 65535. It becomes uint8, or uint16 above 255.
        grid: where the voxels lie.
        labels: what the numbers stand for; empty where nobody says.

    Raises:
        GeometryError: the array's shape is not the grid's.
        InputError: a voxel is not such a number.
    """

    labels: LabelTable = NO_LABELS

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "array", as_mask(self, Path("The mask")).array)

    def __repr__(self) -> str:
        names = f"; {', '.join(self.labels.names)}" if len(self.labels) else ""
        return f"{super().__repr__()[:-1]}{names})"

    def __getitem__(self, label: int | str) -> NDArray[np.bool_]:
        """(i, j, k) where a label is, by number or name.

        Raises:
            UsageError: there is no such name, or it is neither.
        """
        try:
            (index,) = self.labels.find((label if isinstance(label, str) else operator.index(label),))
        except TypeError as error:
            raise UsageError(f"A label is a number or a name, not {label!r}.") from error
        return np.asarray(self.array == index)

    def volume_ml(self, label: int | str) -> float:
        """How large a label is, in ml."""
        return float(np.count_nonzero(self[label]) * self.grid.voxel_volume_mm3 / 1000)
