"""Balls in millimetres on masks: grown, opened, closed; the label that is nearest. Distances are between voxel centres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from volseg.errors import GeometryError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.voxels import Box

Spacing: TypeAlias = tuple[float, float, float]

RADIUS_TOLERANCE = 1e-5
"""Relative. Distances are float32, and spacings come from a float32 affine: three voxels of 0.7 mm are 2.1 mm."""
MAX_RADIUS_VOXELS = 256
"""A radius of more voxels would take more memory than the image, whatever a header says that a voxel measures."""
MAX_SKEW = 0.02
"""The cosine between two axes of a grid, 1.1 degrees: beyond, distances along the axes are off by 2 % and more."""
DECIMALS = 4
"""Distances that differ by less than this many decimals of a mm are equal: they were added up in another order."""


def spacing_of(grid: Grid) -> Spacing:
    """The spacing of a grid on which distances can be measured along the axes.

    Raises:
        GeometryError: its axes are not at right angles.
    """
    skew = np.abs(grid.direction.T @ grid.direction - np.eye(3)).max()
    if skew > MAX_SKEW:
        angle = math.degrees(math.asin(min(1.0, float(skew))))
        raise GeometryError(
            f"The axes of the grid are {angle:.1f} degrees off right angles, and lengths in mm need right ones. "
            "Resample the image, and segment it on the new grid.",
            code="sheared",
        )
    return grid.spacing_mm


def radius_voxels(radius_mm: float, spacing_mm: Spacing) -> tuple[int, int, int]:
    """The voxels along each axis that a ball reaches over.

    Raises:
        InputError: they are too many.
    """
    i, j, k = (math.ceil(radius_mm * (1 + RADIUS_TOLERANCE) / step) for step in spacing_mm)
    if max(i, j, k) > MAX_RADIUS_VOXELS:
        raise InputError(
            f"{radius_mm:g} mm are {max(i, j, k)} voxels here, and a rule reaches over {MAX_RADIUS_VOXELS} at most. "
            "Give fewer millimetres, or see whether the spacing of the image is right.",
            code="radius",
        )
    return i, j, k


@dataclass(frozen=True)
class Window:
    """A part of an image, which goes on beyond the image's border as it is on it.

    Args:
        box: inside the image.
        beyond: the voxels added before and after along each axis.
    """

    box: Box
    beyond: tuple[tuple[int, int], ...]

    @classmethod
    def around(cls, box: Box, shape: Sequence[int], margin: Sequence[int], least: Sequence[int]) -> Window:
        """A box grown by ``least`` voxels; to the full ``margin`` where it meets the image's border on the way."""
        parts, beyond = [], []
        for part, size, full, near in zip(box, shape, margin, least, strict=True):
            before = full - part.start if part.start < near else 0
            after = full - (size - part.stop) if size - part.stop < near else 0
            parts.append(slice(max(0, part.start - near), min(size, part.stop + near)))
            beyond.append((max(0, before), max(0, after)))
        return cls((parts[0], parts[1], parts[2]), tuple(beyond))

    def of(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """The part of an array of the image's shape."""
        part = array[self.box]
        return np.pad(part, self.beyond, mode="edge") if any(map(any, self.beyond)) else part

    @property
    def inside(self) -> Box:
        """Where in the part the image lies."""
        i, j, k = (
            slice(before, before + part.stop - part.start)
            for (before, _), part in zip(self.beyond, self.box, strict=True)
        )
        return i, j, k


def distances_mm(region: NDArray[np.bool_], spacing_mm: Spacing) -> NDArray[np.float32]:
    """(i, j, k) float32: how far each voxel is from the nearest of a region (i, j, k); infinite where it is empty."""
    import edt

    outside = np.logical_not(region)
    found: NDArray[np.float32] = edt.edt(outside, anisotropy=spacing_mm, black_border=False, parallel=1)
    return found


def within(region: NDArray[np.bool_], radius_mm: float, spacing_mm: Spacing) -> NDArray[np.bool_]:
    """A region grown by a ball: the voxels at most ``radius_mm`` away."""
    return distances_mm(region, spacing_mm) <= np.float32(radius_mm * (1 + RADIUS_TOLERANCE))


def opened(region: NDArray[np.bool_], radius_mm: float, spacing_mm: Spacing) -> NDArray[np.bool_]:
    """The union of all balls that fit into a region (Serra, 1982, Image analysis and mathematical morphology)."""
    return within(~within(~region, radius_mm, spacing_mm), radius_mm, spacing_mm)


def closed(region: NDArray[np.bool_], radius_mm: float, spacing_mm: Spacing) -> NDArray[np.bool_]:
    """What no ball beside a region reaches: the opening of what is around it."""
    return ~opened(~region, radius_mm, spacing_mm)


def nearest_of(
    part: NDArray[np.generic], labels: Sequence[int], where: NDArray[np.bool_], spacing_mm: Spacing
) -> NDArray[np.int64]:
    """(n,) for each voxel of ``where`` the nearest of some labels; the lower number where two are equally near.

    Args:
        part: (i, j, k) of a mask.
        labels: ascending.
        where: (i, j, k), n voxels.
        spacing_mm: of its grid.
    """
    best = np.full(int(where.sum()), np.inf, np.float32)
    found = np.full(len(best), labels[0], np.int64)
    for label in labels if len(labels) > 1 else ():
        away = np.round(distances_mm(part == label, spacing_mm)[where], DECIMALS)
        nearer = away < best
        best[nearer], found[nearer] = away[nearer], label
    return found
