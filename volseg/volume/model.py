"""A volume in memory, and what a file says of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import GeometryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid.

    Args:
        array: (i, j, k), or (i, j, k, channel).
        grid: where the voxels lie.
    """

    array: NDArray[np.generic]
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.array.shape[:3]) != self.grid.shape:
            raise GeometryError(f"The voxels {self.array.shape} don't fit the grid {self.grid.shape}.")


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What a file says about its voxels before they are read.

    Args:
        grid: where the voxels lie; in NIfTI by the sform, or by the qform without one, as nibabel has it.
        channels: how many values each voxel has.
        dtype: the stored type.
        forms_apart_mm: how far apart NIfTI's sform and qform place a corner voxel, where both are set. ITK and
            ITK-SNAP go by the qform unless the sform has code 1, so above rounding nobody is certain.
        oddity: what other readers, MONAI's among them, take in another way, as a clause; empty where there is nothing.
    """

    grid: Grid
    channels: int
    dtype: np.dtype[np.generic]
    forms_apart_mm: float = 0.0
    oddity: str = ""
