"""Masks brought back to the slices that their image was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.errors import InputError
from volseg.grid import LPS_FROM_RAS
from volseg.labels import BACKGROUND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.dicom.series.stack import StackGeometry
    from volseg.grid import Grid

NEGLIGIBLE = 1e-3
"""Of a voxel: what a step may change the place along an axis over a whole slice, and still be none along that axis."""
MAX_TOGETHER = 64
"""Structures that overlap in one mask; volseg's own bundles have 8."""
BEYOND_EDGE = 0.05
"""Of a voxel: so far outside of the mask's outer box a pixel's centre still takes the outermost voxel. The grid of a
straightened series covers its slices but for rounding."""


def on_slices(mask: NDArray[Any], grid: Grid, geometry: StackGeometry) -> NDArray[Any]:
    """The labels of a mask on slices: for each pixel the voxel whose centre is nearest, 0 where the mask doesn't reach.

    Args:
        mask: (i, j, k).
        grid: of the mask, in any order of axes; turned against the slices or finer than they, too.
        geometry: where each slice lies, evenly or not.

    Returns:
        (slices, rows, columns), of the mask's type.
    """
    columns, rows = geometry.size
    from_lps = np.linalg.inv(grid.affine) @ LPS_FROM_RAS
    right, down = (from_lps[:3, :3] @ geometry.axes[axis] * geometry.pixel_mm[axis] for axis in (0, 1))
    first = geometry.positions_mm @ from_lps[:3, :3].T + from_lps[:3, 3]  # (slices, 3) voxels
    steps = [
        _steps(right[axis], columns)[None, :] + _steps(down[axis], rows)[:, None]
        if abs(right[axis]) * columns > NEGLIGIBLE and abs(down[axis]) * rows > NEGLIGIBLE
        else _steps(right[axis], columns)[None, :]
        if abs(right[axis]) * columns > abs(down[axis]) * rows
        else _steps(down[axis], rows)[:, None]
        for axis in range(3)
    ]
    found = np.zeros((len(first), rows, columns), mask.dtype)
    for plane, begin in zip(found, first, strict=True):
        places: list[NDArray[np.int64]] = []
        inside: Any = True
        for axis, count in enumerate(mask.shape):
            place = begin[axis] + steps[axis]
            inside = inside & (place >= -0.5 - BEYOND_EDGE) & (place <= count - 0.5 + BEYOND_EDGE)
            places.append(np.clip(np.floor(place + 0.5).astype(np.int64), 0, count - 1))
        plane[...] = np.where(inside, mask[tuple(places)], 0)
    return found


def labels_on(planes: NDArray[Any]) -> list[set[int]]:
    """The labels on each of some slices (slices, rows, columns), without the background."""
    return [set(np.flatnonzero(np.bincount(plane.ravel())).tolist()) - {BACKGROUND} for plane in planes]


def bit_of(label: int) -> int:
    """What stands for a label in a mask of labels that overlap, a bit for each."""
    return 1 << (label - 1)


def together(masks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Masks (i, j, k) of one structure each as one: the first is the lowest bit, label 1.

    Raises:
        InputError: there are more than 64.
    """
    if len(masks) > MAX_TOGETHER:
        raise InputError(f"One segmentation object takes {MAX_TOGETHER} structures that overlap, not {len(masks)}.")
    dtype = next(kind for kind in ("u1", "u2", "u4", "u8") if 8 * np.dtype(kind).itemsize >= len(masks))
    found = np.zeros(masks[0].shape, dtype)
    for label, mask in enumerate(masks, 1):
        found |= np.where(mask != 0, found.dtype.type(bit_of(label)), found.dtype.type(0))
    return found


def bits_on(planes: NDArray[Any]) -> list[set[int]]:
    """The labels on each of some slices (slices, rows, columns) that overlap, a bit for each."""
    every = (int(np.bitwise_or.reduce(plane, axis=None)) for plane in planes)
    return [{label for label in range(1, MAX_TOGETHER + 1) if bits & bit_of(label)} for bits in every]


def _steps(step: float, count: int) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.float64) * step
