"""The affine map from a target grid's voxel indices to a source grid's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.grid import Grid

SAME_PLACE_VOXELS = 1e-6
"""Two grids coincide when no corner differs by more, in voxels; far below what any voxel type can show."""
ALIGNED_VOXELS = 1e-4
"""Axes are aligned when no voxel is further off by taking them so. Affines in NIfTI are rounded to 7 digits, which
over 1000 voxels is this much, and a ten-thousandth of a voxel moves no value by more than rounding does."""
EDGE_TOLERANCE_VOXELS = 1e-3
"""A point this far outside the outer box still counts as inside, since affines in files are rounded."""

_CORNERS = np.array(list(np.ndindex(2, 2, 2)))


@dataclass(frozen=True)
class Axis:
    """One target axis on the source axis that it runs along: index in the source = ``step`` * index + ``start``."""

    source: int
    step: float
    start: float

    def places(self, count: int) -> NDArray[np.float64]:
        """(count,) fractional indices in the source."""
        places: NDArray[np.float64] = np.arange(count, dtype=np.float64) * self.step + self.start
        return places


@dataclass(frozen=True, eq=False)
class IndexMap:
    """From target to source indices.

    Args:
        affine: (4, 4).
        source: the source's shape.
        target: the target's shape.
    """

    affine: NDArray[np.float64]
    source: tuple[int, int, int]
    target: tuple[int, int, int]

    @classmethod
    def between(cls, source: Grid, target: Grid) -> IndexMap:
        """The map between two grids; either may be sheared, flipped or oblique."""
        return cls(np.linalg.inv(source.affine) @ target.affine, source.shape, target.shape)

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """(8, 3) where the target's corner voxels lie in the source."""
        corners = _CORNERS * (np.array(self.target) - 1)
        places: NDArray[np.float64] = corners @ self.affine[:3, :3].T + self.affine[:3, 3]
        return places

    @property
    def is_identity(self) -> bool:
        """Whether each target voxel is the source voxel of its index."""
        if self.source != self.target:
            return False
        return bool(np.abs(self.corners - _CORNERS * (np.array(self.target) - 1)).max() <= SAME_PLACE_VOXELS)

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis] | None:
        """The source axis that each target axis runs along; None where they run across one another."""
        linear = self.affine[:3, :3]
        along = np.abs(linear).argmax(axis=0)
        if sorted(along) != [0, 1, 2]:
            return None
        across = np.abs(linear)
        across[along, range(3)] = 0
        if (across @ (np.array(self.target) - 1)).max() > ALIGNED_VOXELS:
            return None
        # What little they run across one another is shared out evenly, about the target's middle.
        middle = (np.array(self.target) - 1) / 2
        places = linear @ middle + self.affine[:3, 3]
        i, j, k = (
            Axis(int(s), float(linear[s, t]), float(places[s] - linear[s, t] * middle[t])) for t, s in enumerate(along)
        )
        return i, j, k

    def fill_outside(self, values: NDArray[np.generic], fill: float) -> None:
        """Set target voxels whose centre lies outside the source's outer box, in place."""
        low = -0.5 - EDGE_TOLERANCE_VOXELS
        high = np.array(self.source) - 0.5 + EDGE_TOLERANCE_VOXELS
        if (self.corners >= low).all() and (self.corners <= high).all():
            return  # the box is convex, so what holds for the corners holds for all
        i, j = np.arange(self.target[0])[:, None], np.arange(self.target[1])[None, :]
        for k in range(self.target[2]):
            outside = np.zeros(self.target[:2], dtype=bool)
            for axis in range(3):
                row = self.affine[axis]
                place = row[0] * i + row[1] * j + (row[2] * k + row[3])
                outside |= (place < low) | (place > high[axis])
            values[:, :, k][outside] = fill
