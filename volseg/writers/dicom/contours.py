"""Outlines of a structure on a slice, as closed contours in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.5
"""Half-way between the centre of a pixel inside and that of one outside."""


def outlines(inside: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The closed contours half-way between pixels inside and pixels outside, by marching squares.

    Around each piece goes one, and one around each hole in it; none crosses another, and pixels that touch at a corner
    alone are apart. So the even-odd rule gives back each pixel by its centre. Points on a straight line are left out.

    Args:
        inside: (rows, columns).

    Returns:
        (points, 2) each, columns and rows in pixels, the first pixel's centre at 0, 0; the first point isn't repeated.
    """
    from skimage.measure import find_contours

    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return []
    box = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    first = (columns[0] - 1, rows[0] - 1)  # by the margin
    found: list[NDArray[np.float64]] = find_contours(np.pad(box, 1).astype(np.float32), LEVEL)
    return [_corners(contour[:-1, ::-1]) + first for contour in found]


def _corners(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of a closed contour at which it turns."""
    along = np.roll(points, -1, axis=0) - points
    before = np.roll(along, 1, axis=0)
    # Steps are halves and wholes, whose products are exact.
    turns: NDArray[np.float64] = points[along[:, 0] * before[:, 1] != along[:, 1] * before[:, 0]]
    return turns
