"""Contours through the centres of a mask's outermost pixels, as rt-utils and others write them by OpenCV.

S. Suzuki and K. Abe, "Topological structural analysis of digitized binary images by border following", CVGIP 30
(1985), 32-46, as in ``cv2.findContours`` with ``RETR_TREE``.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

CLOCKWISE = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Steps to the neighbours, row and column, from the one on the right."""
LEFT, RIGHT = 4, 0


def borders(mask: np.ndarray, *, simple: bool = True) -> list[np.ndarray]:
    """Trace the outer border of each part and the border round each hole.

    Args:
        mask: (rows, columns) bool.
        simple: leave out points on straight runs, as by ``CHAIN_APPROX_SIMPLE``.

    Returns:
        (points, 2) columns and rows. Parts touch at corners as well, holes don't. The points round a hole are those
        of the mask; of a single pixel there is one, and a line is gone along twice.
    """
    padded = np.pad(mask, 1)
    parts, count = ndimage.label(padded, np.ones((3, 3)))
    holes, around = ndimage.label(~padded)
    starts = [(*_first(parts == part), LEFT) for part in range(1, count + 1)]
    for hole in range(1, around + 1):
        row, column = _first(holes == hole)
        if (row, column) != (0, 0):
            starts.append((row, column - 1, RIGHT))
    found = []
    for row, column, empty in starts:
        points = _follow(padded, row, column, empty)
        if simple and len(points) > 2:
            turns = (np.roll(points, -1, axis=0) - points != points - np.roll(points, 1, axis=0)).any(axis=1)
            points = points[turns]
        found.append(points[:, ::-1] - 1.0)
    return found


def _first(pixels: np.ndarray) -> tuple[int, int]:
    row, column = np.argwhere(pixels)[0]
    return int(row), int(column)


def _follow(mask: np.ndarray, row: int, column: int, empty: int) -> np.ndarray:
    """(points, 2) rows and columns, from a pixel whose neighbour in the direction ``empty`` lies outside."""

    def reached(place: tuple[int, int], direction: int) -> tuple[int, int]:
        return place[0] + CLOCKWISE[direction % 8][0], place[1] + CLOCKWISE[direction % 8][1]

    begin = row, column
    around = [turn for turn in range(empty, empty + 8) if mask[reached(begin, turn)]]
    if not around:
        return np.array([begin])
    last = reached(begin, around[0])
    here, back, points = begin, around[0], []
    while True:
        points.append(here)
        direction = next(turn for turn in range(back - 1, back - 9, -1) if mask[reached(here, turn)])
        ahead = reached(here, direction)
        if ahead == begin and here == last:
            return np.array(points)
        here, back = ahead, direction + 4
