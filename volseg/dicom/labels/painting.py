"""Painting structures into one mask, slice by slice; where they overlap, the smaller one wins."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.labels import MAX_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Patch:
    """Pixels of one structure on one slice: a box of the slice.

    Args:
        row: of the slice, where the box begins.
        column: of the slice, where the box begins.
        pixels: (rows, columns) bool.
    """

    row: int
    column: int
    pixels: NDArray[np.bool_]

    @classmethod
    def of_plane(
        cls, plane: NDArray[np.bool_], row: int, column: int, size: tuple[int, int]
    ) -> tuple[Patch | None, int]:
        """A plane laid on a slice of ``size`` rows and columns, cut to what it fills.

        Args:
            plane: (rows, columns).
            row: of the slice, on which the plane's first row lies; may be negative.
            column: likewise.
            size: rows and columns of the slice.

        Returns:
            The patch, None where nothing is left of it, and how many pixels lie outside the slice.
        """
        rows = np.flatnonzero(plane.any(axis=1))
        if not len(rows):
            return None, 0
        band = plane[rows[0] : rows[-1] + 1]
        columns = np.flatnonzero(band.any(axis=0))
        box = band[:, columns[0] : columns[-1] + 1]
        top, left = row + int(rows[0]), column + int(columns[0])
        bottom, right = top + box.shape[0], left + box.shape[1]
        if top >= 0 and left >= 0 and bottom <= size[0] and right <= size[1]:
            return cls(top, left, box), 0
        inner = box[max(0, -top) : max(0, size[0] - top), max(0, -left) : max(0, size[1] - left)]
        outside = int(np.count_nonzero(box)) - int(np.count_nonzero(inner))
        return (cls(max(0, top), max(0, left), inner) if inner.any() else None), outside

    @property
    def count(self) -> int:
        """How many pixels the structure fills."""
        return int(np.count_nonzero(self.pixels))

    def joined(self, other: Patch) -> Patch:
        """What either of two patches of a slice fills."""
        top, left = min(self.row, other.row), min(self.column, other.column)
        bottom = max(patch.row + patch.pixels.shape[0] for patch in (self, other))
        right = max(patch.column + patch.pixels.shape[1] for patch in (self, other))
        pixels = np.zeros((bottom - top, right - left), dtype=bool)
        for patch in (self, other):
            patch.within(pixels, top, left)[...] |= patch.pixels
        return Patch(top, left, pixels)

    def within(self, plane: NDArray[Any], top: int = 0, left: int = 0) -> NDArray[Any]:
        """The part of a plane that the box covers, as a view; the plane begins at row ``top`` and column ``left``."""
        rows, columns = self.pixels.shape
        return plane[self.row - top : self.row - top + rows, self.column - left : self.column - left + columns]


@dataclass(frozen=True, eq=False)
class Painted:
    """Structures in one array.

    Args:
        labels: (slices, rows, columns), uint8, or uint16 above 255.
        counts: how many voxels each label fills before overlaps are settled.
        overlaps: how many claims to a voxel gave way to a smaller structure's.
    """

    labels: NDArray[Any]
    counts: Mapping[int, int]
    overlaps: int


def mask_dtype(indices: Iterable[int]) -> np.dtype[Any]:
    """The type for masks with these labels: uint8, or uint16 above 255."""
    highest = max(indices, default=0)
    assert highest <= MAX_INDEX, "a label table has checked its indices"
    return np.dtype(np.uint8 if highest <= 255 else np.uint16)


def paint(
    shape: tuple[int, int, int], indices: Iterable[int], patches: Callable[[int], Iterable[tuple[int, Patch]]]
) -> Painted:
    """Paint structures, the largest first, so that where they overlap the smaller one stays.

    Args:
        shape: slices, rows and columns.
        indices: the labels that may occur.
        patches: gives the labels on a slice with what they fill; one label may come several times, and the slices
            are asked for twice where there are several labels, so that no more than one slice is held in memory.

    Returns:
        The array. Of two labels of the same size the higher one wins.
    """
    known = sorted(set(indices))
    labels: NDArray[Any] = np.zeros(shape, mask_dtype(known))
    counts: Counter[int] = Counter()
    if len(known) > 1:
        for k in range(shape[0]):
            for index, patch in _by_label(patches(k)).items():
                counts[index] += patch.count
    rank = {index: place for place, index in enumerate(sorted(known, key=lambda index: (-counts[index], index)))}
    overlaps = 0
    for k in range(shape[0]):
        for index, patch in sorted(_by_label(patches(k)).items(), key=lambda item: rank[item[0]]):
            region = patch.within(labels[k])
            overlaps += int(np.count_nonzero(region[patch.pixels]))
            region[patch.pixels] = index
            if len(known) == 1:
                counts[index] += patch.count
    return Painted(labels, dict(counts), overlaps)


def _by_label(patches: Iterable[tuple[int, Patch]]) -> dict[int, Patch]:
    found: dict[int, Patch] = {}
    for index, patch in patches:
        found[index] = found[index].joined(patch) if index in found else patch
    return found


def smaller_wins(first: NDArray[Any], second: NDArray[Any], sizes_mm3: Mapping[int, float]) -> tuple[NDArray[Any], int]:
    """Two arrays of labels on one grid as one.

    Args:
        first: labels.
        second: labels, of the same shape.
        sizes_mm3: the size of each label that occurs.

    Returns:
        The labels, each voxel with the smaller of its two structures, and how many claims gave way.
    """
    dtype = mask_dtype(sizes_mm3)
    rank = np.zeros(max(sizes_mm3, default=0) + 1, np.uint32)
    for place, index in enumerate(sorted(sizes_mm3, key=lambda index: (-sizes_mm3[index], index)), start=1):
        rank[index] = place
    merged = first.astype(dtype)
    overlaps = 0
    for k in range(len(merged)):
        claimed = second[k] != 0
        overlaps += int(np.count_nonzero(claimed & (merged[k] != 0) & (merged[k] != second[k])))
        np.copyto(merged[k], second[k], where=rank[second[k]] > rank[merged[k]], casting="same_kind")
    return merged, overlaps
