"""Rasterising closed contours: a pixel belongs to a contour when its centre lies inside or on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.labels.painting import Patch
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

ROUNDED_MM = 0.02
"""A centre as near as this to a contour through centres lies on it. A point that its writer rounded to 0.01 mm is off
by 0.0087 mm at most (half a step along each of three axes), float32 and DS of 16 characters are off by less; cosines
of 5 decimals, which programs make orthogonal in different ways or not at all, add 0.007 mm in 500 mm."""
ON_CENTRES = 0.25
"""Of its points a contour through centres has at least so many there, if some program put more between them. Of another
contour's points hardly any come to lie there."""
EXACT_MM = 1e-6
"""A centre as near as this to any contour lies on it: what sums of numbers with 16 characters are off by. No more, since
elsewhere nobody rounded towards centres, and a wider margin would make structures larger."""
TOLERANCE_PIXELS = 0.1
"""Either tolerance is never more, so that it can't reach from a pixel's edge, or from half-way between centres, to a
centre, however small pixels are."""
MAX_CROSSINGS = 2**26
"""Of contours' edges with rows or columns of pixels, in one structure on one slice; a contour round a body has some
thousand, and a file made to stall its reader has more than any."""
NO_LENGTH = 1e-9
"""Of an edge, in tolerances: one that is shorter is a point."""
STRETCH = 2**20
"""Edges or crossings worked out at once, to bound the memory."""


@dataclass(frozen=True, eq=False, slots=True)
class Filled(Patch):
    """What closed contours fill on a slice.

    Args:
        on: (rows, columns) bool, which pixels have their centre on a contour; all of them are filled.
    """

    on: NDArray[np.bool_]


def through_centres(polygon: NDArray[np.float64], pixel_mm: Sequence[float]) -> bool:
    """Whether a contour was drawn through pixels' centres: ``ON_CENTRES`` of its points lie there, by ``ROUNDED_MM``."""
    on = (np.abs(polygon - np.rint(polygon)) <= _in_pixels(ROUNDED_MM, pixel_mm)).all(axis=1)
    return bool(on.mean() >= ON_CENTRES)


def fill(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int], pixel_mm: Sequence[float]) -> Filled | None:
    """Fill closed polygons by the even-odd rule: a hole is a polygon inside another, or joined to it by a keyhole.

    A pixel is filled when a ray from its centre crosses an odd number of edges, or when its centre lies on a polygon:
    within ``ROUNDED_MM`` of a polygon ``through_centres`` and of a long edge along a row or column of centres, within
    ``EXACT_MM`` of any other edge. So programs that draw contours through the centres of a structure's outermost pixels,
    round its holes too, get back the pixels that they drew: OpenCV's ``findContours`` makes such contours, and its
    ``fillPoly`` fills them so. A single pixel is a contour of one point there, a line of pixels one without area.

    Args:
        polygons: (points, 2) columns and rows in pixels, the first pixel's centre at 0, 0; closed by their first
            point, which may or may not be repeated.
        size: rows and columns of the slice. What lies outside is cut off.
        pixel_mm: the step along a row and along a column.

    Returns:
        The pixels, None where there are none.

    Raises:
        InputError: ``declares-too-much``, there are more edges than any contour needs.
    """
    points = np.concatenate(polygons)
    ends = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    through = np.repeat([through_centres(polygon, pixel_mm) for polygon in polygons], [*map(len, polygons)])
    margin = _in_pixels(ROUNDED_MM, pixel_mm)
    left, top = np.ceil(np.maximum(points.min(axis=0) - margin, 0)).astype(int).tolist()
    last = np.minimum(points.max(axis=0) + margin, (size[1] - 1, size[0] - 1))
    right, bottom = np.floor(last).astype(int).tolist()
    if left > right or top > bottom:
        return None
    shape = bottom - top + 1, right - left + 1
    start, end = points - (left, top), ends - (left, top)
    within = np.clip(start, -1, shape[::-1]), np.clip(end, -1, shape[::-1])
    if np.abs(within[1] - within[0]).max(axis=1).sum() > MAX_CROSSINGS:
        raise InputError(
            "A contour has more edges than anybody draws, so the file is damaged or made to do harm; it was left alone.",
            code="declares-too-much",
        )
    # Counted modulo 256, of which the even-odd rule needs the last bit. The last column takes what lies further right.
    crossed = np.zeros((shape[0], shape[1] + 1), np.uint8)
    on = np.zeros(shape, dtype=bool)
    for first in range(0, len(start), STRETCH):
        part = np.s_[first : first + STRETCH]
        for row, column in _crossings(start[part], end[part], shape):
            np.add.at(crossed.reshape(-1), row * crossed.shape[1] + column, np.uint8(1))
        tolerances = _tolerances(start[part], end[part], through[part], pixel_mm)
        for row, column in _centres_on(start[part], end[part], shape, tolerances):
            on[row, column] = True
    filled = (np.cumsum(crossed[:, :-1], axis=1, dtype=np.uint8) & 1).astype(bool)
    filled |= on
    return Filled(top, left, filled, on) if filled.any() else None


def _in_pixels(tolerance_mm: float, pixel_mm: Sequence[float]) -> NDArray[np.float64]:
    """Along a row and along a column."""
    return np.minimum(tolerance_mm / np.asarray(pixel_mm), TOLERANCE_PIXELS)


def _tolerances(
    start: NDArray[np.float64], end: NDArray[np.float64], through: NDArray[np.bool_], pixel_mm: Sequence[float]
) -> NDArray[np.float64]:
    """(edges, 2) in pixels, how far from each edge a centre still lies on it; ``through``, of a contour of centres."""
    rounded, exact = _in_pixels(ROUNDED_MM, pixel_mm), _in_pixels(EXACT_MM, pixel_mm)
    line = np.rint(start)
    along = (np.abs(start - line) <= rounded) & (np.abs(end - line) <= rounded)
    # Of a curve with many points, short edges lie along rows and columns by chance.
    long = np.abs(end - start).max(axis=1) > 1 - 2 * TOLERANCE_PIXELS
    return np.where((through | (long & along.any(axis=1)))[:, None], rounded, exact)


def _crossings(
    start: NDArray[np.float64], end: NDArray[np.float64], shape: tuple[int, int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Where edges cross rows of pixel centres: the row, and the first column right of the crossing."""
    # Always from the upper end, so that an edge that two polygons share is crossed at the same place in both.
    swapped = start[:, 1] > end[:, 1]
    x0, y0 = np.where(swapped[:, None], end, start).T
    x1, y1 = np.where(swapped[:, None], start, end).T
    for edge, row in _steps(np.ceil(y0), np.ceil(y1), shape[0]):
        x = x0[edge] + (row - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
        yield row, np.clip(np.ceil(x), 0, shape[1]).astype(np.int64)


def _centres_on(
    start: NDArray[np.float64], end: NDArray[np.float64], shape: tuple[int, int], tolerance: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows and columns of the pixels whose centre is as near to an edge as the tolerance.

    Measured in tolerances, an edge goes further along one axis of the slice, here ``a``, than along the other, ``b``.
    So of the centres at one place along ``a``, only the one nearest to the edge there can be near enough.
    """
    along = (end - start) / tolerance
    steep = np.abs(along[:, 1:]) > np.abs(along[:, :1])
    a0, b0 = np.where(steep, start[:, ::-1], start).T
    a_run, b_run = np.where(steep, along[:, ::-1], along).T
    a_unit, b_unit = np.where(steep, tolerance[:, ::-1], tolerance).T
    a_places, b_places = np.where(steep, shape, shape[::-1]).T
    divisor = np.where(np.abs(a_run) < NO_LENGTH, 1.0, a_run)
    length2 = divisor**2 + b_run**2
    low, high = a0 + (np.minimum(a_run, 0) - 1) * a_unit, a0 + (np.maximum(a_run, 0) + 1) * a_unit
    for edge, a in _steps(np.ceil(low), np.floor(high) + 1, a_places):
        a_off = (a - a0[edge]) / a_unit[edge]
        there = np.clip(a_off / divisor[edge], 0, 1) * b_run[edge]
        b = np.rint(b0[edge] + there * b_unit[edge])
        b_off = (b - b0[edge]) / b_unit[edge]
        nearest = np.clip((a_off * a_run[edge] + b_off * b_run[edge]) / length2[edge], 0, 1)
        near = (a_off - nearest * a_run[edge]) ** 2 + (b_off - nearest * b_run[edge]) ** 2 <= 1
        hit = np.flatnonzero(near & (b >= 0) & (b < b_places[edge]))
        across, turned = b[hit].astype(np.int64), steep[edge[hit], 0]
        yield np.where(turned, a[hit], across), np.where(turned, across, a[hit])


def _steps(
    first: NDArray[np.float64], end: NDArray[np.float64], places: NDArray[np.int64] | int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The whole numbers from ``first`` to before ``end`` of each edge, of those from 0 to ``places``: edge and number."""
    begin = np.clip(first, 0, places).astype(np.int64)
    counts = np.maximum(np.clip(end, 0, places).astype(np.int64) - begin, 0)
    crossed = np.flatnonzero(counts)
    bounds = np.searchsorted(np.cumsum(counts[crossed]), np.arange(STRETCH, counts.sum(), STRETCH))
    for edges in np.split(crossed, bounds):
        if not len(edges):
            continue
        repeats = counts[edges]
        offset = np.repeat(begin[edges] + repeats - np.cumsum(repeats), repeats)
        yield np.repeat(edges, repeats), np.arange(len(offset)) + offset


def cross(first: Filled, second: Filled) -> bool:
    """Whether two filled contours overlap without one lying inside the other.

    Pixels on a contour count for neither: contours through pixels' centres run along each other where two parts of a
    structure touch, and where a hole is one pixel away from its structure's outside.
    """
    top, left = max(first.row, second.row), max(first.column, second.column)
    bottom = min(patch.row + patch.pixels.shape[0] for patch in (first, second))
    right = min(patch.column + patch.pixels.shape[1] for patch in (first, second))
    if top >= bottom or left >= right:
        return False
    cut = [
        np.s_[top - patch.row : bottom - patch.row, left - patch.column : right - patch.column]
        for patch in (first, second)
    ]
    cores = [patch.pixels & ~patch.on for patch in (first, second)]
    if not (cores[0][cut[0]] & cores[1][cut[1]]).any():
        return False
    beyond = [
        np.count_nonzero(core) - np.count_nonzero(core[own] & other.pixels[others])
        for core, own, other, others in zip(cores, cut, (second, first), cut[::-1], strict=True)
    ]
    return all(beyond)
