"""Voxel arrays: bounding boxes, and slabs that bound memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Box: TypeAlias = tuple[slice, slice, slice]

SLAB_VOXELS = 2**22
"""numpy widens what it counts or indexes with to eight bytes a voxel; in slabs of this size that costs 32 MiB."""


def bounding_box(mask: NDArray[np.generic]) -> Box:
    """The smallest box that holds every voxel of a mask (i, j, k) that is not 0; empty slices when there is none."""
    box = [slice(0, size) for size in mask.shape]
    # The slowest axis first: what it cuts off need not be read for the others.
    for axis in sorted(range(mask.ndim), key=lambda axis: -abs(mask.strides[axis])):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if not len(filled):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        box[axis] = slice(int(filled[0]), int(filled[-1]) + 1)
    return box[0], box[1], box[2]


def values_in(mask: NDArray[np.generic]) -> tuple[int, ...]:
    """The values of a mask, uint8 or uint16, ascending."""
    found = np.zeros(2 ** (8 * mask.itemsize), bool)
    for box in slabs(mask):
        found[mask[box]] = True
    return tuple(map(int, np.flatnonzero(found)))


def union(one: Box, other: Box) -> Box:
    """The smallest box that holds two boxes; an empty one adds nothing."""
    if any(part.start == part.stop for part in one):
        return other
    if any(part.start == part.stop for part in other):
        return one
    i, j, k = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return i, j, k


def overlap(one: Box, other: Box) -> tuple[Box, Box]:
    """What two boxes have in common, as a part of the one and as a part of the other; empty where it is nothing."""
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)]
    parts = []
    for box in (one, other):
        i, j, k = (
            slice(start - part.start, max(start, stop) - part.start)
            for (start, stop), part in zip(common, box, strict=True)
        )
        parts.append((i, j, k))
    return parts[0], parts[1]


def slabs(array: NDArray[np.generic]) -> Iterator[Box]:
    """Cut an array (i, j, k) along the axis that is slowest in memory into pieces of about ``SLAB_VOXELS``."""
    if not array.size:
        return
    axis = int(np.argmax(np.abs(array.strides)))
    for planes in plane_ranges(array.shape[axis], array.size // array.shape[axis]):
        slab = [slice(None)] * 3
        slab[axis] = planes
        yield slab[0], slab[1], slab[2]


def plane_ranges(count: int, voxels: int) -> Iterator[slice]:
    """Cut ``count`` planes of so many voxels each into ranges of about ``SLAB_VOXELS``."""
    step = max(1, SLAB_VOXELS // voxels)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def memory_order(array: NDArray[np.generic]) -> Literal["C", "F"]:
    """``F`` where the first axis is the fastest in memory, as in what was read from a NIfTI file; else ``C``."""
    return "F" if abs(array.strides[0]) < abs(array.strides[-1]) else "C"
