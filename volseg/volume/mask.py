"""A mask in memory: labels on a grid, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from volseg.labels import LabelTable
from volseg.volume.files import as_mask
from volseg.volume.model import Volume

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
