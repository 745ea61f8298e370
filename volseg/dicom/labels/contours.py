"""Rasterising closed contours: a pixel belongs to a contour when its centre lies inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.labels.painting import Patch
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MAX_CROSSINGS = 2**26
"""Of contours' edges with rows of pixels, in one structure on one slice; a contour round a body has some thousand, and
a file made to stall its reader has more than any."""
STRETCH = 2**20
"""Crossings worked out at once, to bound the memory."""


def fill(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> Patch | None:
    """Fill closed polygons by the even-odd rule: a hole is a polygon inside another, or joined to it by a keyhole.

    A pixel is inside when a ray from its centre crosses an odd number of edges. A centre on an edge belongs to the
    polygon at the left and upper edges of what is filled and not at the right and lower ones, so polygons that share
    an edge tile without gap or overlap. Nothing is rounded but each crossing's place, once.

    Args:
        polygons: (points, 2) columns and rows in pixels, the first pixel's centre at 0, 0; closed by their first
            point, which may or may not be repeated.
        size: rows and columns of the slice. What lies outside is cut off.

    Returns:
        The pixels, None where there are none.

    Raises:
        InputError: ``declares-too-much``, there are more edges than any contour needs.
    """
    rows, columns = size
    found = [part for polygon in polygons for part in _crossings(polygon, rows, columns)]
    total = sum(len(row) for row, _ in found)
    if not total:
        return None
    top = min(int(row.min()) for row, _ in found)
    bottom = max(int(row.max()) for row, _ in found)
    left = min(int(column.min()) for _, column in found)
    right = max(int(column.max()) for _, column in found)
    if left >= columns:
        return None
    width = right - left + 1
    toggles = np.zeros((bottom - top + 1) * width, dtype=bool)
    for row, column in found:
        # An even number of crossings at one place cancels out.
        counts = np.bincount((row - top) * width + (column - left), minlength=len(toggles))
        toggles ^= (counts & 1).astype(bool)
    inside = np.logical_xor.accumulate(toggles.reshape(-1, width), axis=1)[:, : columns - left]
    return Patch(top, left, inside) if inside.any() else None


def _crossings(
    polygon: NDArray[np.float64], rows: int, columns: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Where the edges of a polygon cross rows of pixel centres: the row, and the first column right of the crossing."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    # Always from the upper end, so that an edge that two polygons share is crossed at the same place in both.
    swapped = start[:, 1] > end[:, 1]
    x0, y0 = np.where(swapped[:, None], end, start).T
    x1, y1 = np.where(swapped[:, None], start, end).T
    first = np.clip(np.ceil(y0), 0, rows).astype(np.int64)
    last = np.clip(np.ceil(y1), 0, rows).astype(np.int64)
    counts = last - first
    crossed = np.flatnonzero(counts)
    total = int(counts.sum())
    if total > MAX_CROSSINGS:
        raise InputError(
            "A contour has more edges than anybody draws, so the file is damaged or made to do harm; it was left alone.",
            code="declares-too-much",
        )
    bounds = np.searchsorted(np.cumsum(counts[crossed]), np.arange(STRETCH, total, STRETCH))
    for edges in np.split(crossed, bounds):
        if not len(edges):
            continue
        repeats = counts[edges]
        edge = np.repeat(edges, repeats)
        begun = np.repeat(np.cumsum(repeats) - repeats, repeats)
        row = first[edge] + np.arange(len(edge)) - begun
        x = x0[edge] + (row - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
        yield row, np.clip(np.ceil(x), 0, columns).astype(np.int64)


def cross(first: Patch, second: Patch) -> bool:
    """Whether two filled contours overlap without one lying inside the other."""
    top, left = max(first.row, second.row), max(first.column, second.column)
    bottom = min(patch.row + patch.pixels.shape[0] for patch in (first, second))
    right = min(patch.column + patch.pixels.shape[1] for patch in (first, second))
    if top >= bottom or left >= right:
        return False
    shared = np.logical_and(
        *(
            patch.pixels[top - patch.row : bottom - patch.row, left - patch.column : right - patch.column]
            for patch in (first, second)
        )
    )
    return 0 < int(np.count_nonzero(shared)) < min(first.count, second.count)
