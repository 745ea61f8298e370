"""The geometry of a stack of slices: order, spacing, tilt, and its faults.

ImagePositionPatient and ImageOrientationPatient are the authority (PS3.3 C.7.6.2.1.1), never SliceThickness,
GantryDetectorTilt or InstanceNumber.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_SLICES = 3
"""Fewer positions show no spacing that a third could confirm."""
TILT_TOLERANCE_DEGREES = 0.1
"""Scanners round positions: a good MR series leans by 0.07 degrees. A tilted gantry starts near one degree."""
SPACING_TOLERANCE = 0.01
"""Of the spacing: how far a slice may lie from its place on a regular grid."""
SPACING_TOLERANCE_MM = 0.01
"""The same for thin slices, where positions rounded to 0.01 mm are more than 1 % apart."""
DRIFT_TOLERANCE_MM = 0.02
"""A stack that leans by less than this from end to end leans by the rounding of its positions alone; over a few thin
slices that can be more than 0.1 degrees."""
SAME_PLACE_MM = 0.005
"""Images nearer to each other than this along the normal show the same place."""
ORIENTATION_TOLERANCE_DEGREES = 0.1
"""Slices whose axes differ by less belong to one stack."""
COSINE_TOLERANCE = 1e-3
"""How far the direction cosines of one image may be from unit length and from square; they are written with six
digits."""


@dataclass(frozen=True, slots=True)
class StackFault:
    """What keeps slices from being a volume: the stable code, and the sentence for a person."""

    code: str
    sentence: str


@dataclass(frozen=True, eq=False)
class StackGeometry:
    """Where the slices of a stack lie.

    Args:
        axes: (3, 3) unit vectors as rows: the image's row direction, its column direction, the normal; LPS.
        positions_mm: (n, 3) LPS mm of the first voxels, ascending along the normal.
        pixel_mm: the step along a row and along a column, in mm.
        size: columns and rows.
    """

    axes: NDArray[np.float64]
    positions_mm: NDArray[np.float64]
    pixel_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def distances_mm(self) -> NDArray[np.float64]:
        """(n,) along the normal, ascending."""
        distances: NDArray[np.float64] = self.positions_mm @ self.axes[2]
        return distances

    @property
    def gaps_mm(self) -> NDArray[np.float64]:
        """(n - 1,) between neighbours along the normal."""
        return np.diff(self.distances_mm)

    @property
    def spacing_mm(self) -> float:
        """The mean gap."""
        distances = self.distances_mm
        return float((distances[-1] - distances[0]) / (len(distances) - 1))

    @property
    def drift(self) -> NDArray[np.float64]:
        """(2,) mm along row and column by which the slices shift for each mm along the normal, by least squares."""
        along = self.distances_mm - self.distances_mm.mean()
        sideways = self.positions_mm @ self.axes[:2].T
        slope: NDArray[np.float64] = along @ (sideways - sideways.mean(axis=0)) / (along @ along)
        return slope

    @property
    def tilt_degrees(self) -> float:
        """The angle between the line through the slices and their normal."""
        return float(np.degrees(np.arctan(np.linalg.norm(self.drift))))

    def faults(self) -> tuple[StackFault, ...]:
        """All that keeps the stack from being a regular volume, the gravest first."""
        return (*self._tilt_faults(), *self._spacing_faults())

    def _tilt_faults(self) -> list[StackFault]:
        distances, drift = self.distances_mm, self.drift
        found = []
        total_mm = float(np.linalg.norm(drift)) * float(distances[-1] - distances[0])
        if self.tilt_degrees > TILT_TOLERANCE_DEGREES and total_mm > DRIFT_TOLERANCE_MM:
            found.append(
                StackFault(
                    "gantry-tilt",
                    f"The slices are stacked {self.tilt_degrees:.1f} degrees off their normal, as with a tilted gantry.",
                )
            )
        sideways = self.positions_mm @ self.axes[:2].T
        fitted = sideways.mean(axis=0) + np.outer(distances - distances.mean(), drift)
        off_mm = float(np.linalg.norm(sideways - fitted, axis=1).max())
        if off_mm > max(DRIFT_TOLERANCE_MM, self._tolerance_mm()):
            found.append(
                StackFault("shifted-slices", f"Slices lie up to {off_mm:.3g} mm beside the line through the others.")
            )
        return found

    def _tolerance_mm(self) -> float:
        return max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE * float(np.median(self.gaps_mm)))

    def _spacing_faults(self) -> list[StackFault]:
        gaps = self.gaps_mm
        tolerance_mm = self._tolerance_mm()
        distances = self.distances_mm
        steps = np.arange(len(distances)) - (len(distances) - 1) / 2
        step_mm = float(steps @ distances / (steps @ steps))
        off_place_mm = float(np.abs(distances - distances.mean() - steps * step_mm).max())
        # Both: no gap differs from the middle of all, and no slice leaves its place on the regular grid.
        if float(np.ptp(gaps)) / 2 <= tolerance_mm and off_place_mm <= tolerance_mm:
            return []
        missing = _missing_slices(gaps)
        if missing:
            where = "one slice is" if missing == 1 else f"{missing} slices are"
            return [StackFault("missing-slice", f"The gaps are {_described(gaps)}, so {where} missing.")]
        return [StackFault("uneven-spacing", f"The gaps between slices are {_described(gaps)}.")]

    def regular_grid(self) -> Grid:
        """The orthogonal grid through the slices, turned about the stack's centre where positions were rounded.

        Holds only where ``faults`` is empty.
        """
        count = len(self.positions_mm)
        spacing = np.array((*self.pixel_mm, self.spacing_mm))
        shape = (*self.size, count)
        in_plane = ((self.size[0] - 1) * self.pixel_mm[0], (self.size[1] - 1) * self.pixel_mm[1])
        centre = self.positions_mm.mean(axis=0) + 0.5 * (in_plane[0] * self.axes[0] + in_plane[1] * self.axes[1])
        origin = centre - (0.5 * (np.array(shape) - 1) * spacing) @ self.axes
        return Grid.from_lps(shape, origin, self.axes.T, spacing)


def axes_of(orientation: Sequence[float]) -> NDArray[np.float64] | None:
    """(3, 3) orthonormal axes as rows from ImageOrientationPatient's six cosines; None where they make no sense."""
    if len(orientation) != 6:
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if (
        abs(float(np.linalg.norm(row)) - 1) > COSINE_TOLERANCE
        or abs(float(np.linalg.norm(column)) - 1) > COSINE_TOLERANCE
        or abs(float(row @ column)) > COSINE_TOLERANCE
    ):
        return None
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return np.stack((row, column, np.cross(row, column)))


def same_orientation(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether two sets of axes (3, 3) differ by no more than rounding."""
    # The chord between unit vectors holds small angles that an arc cosine loses.
    chords = np.linalg.norm(first - second, axis=1)
    return bool(chords.max() <= np.radians(ORIENTATION_TOLERANCE_DEGREES))


def places_of(distances_mm: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) the number of each image's place along the normal, equal for images that show the same place.

    Args:
        distances_mm: (n,) along the normal, in any order.
    """
    order = np.argsort(distances_mm, kind="stable")
    apart = np.diff(distances_mm[order]) > SAME_PLACE_MM
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.concatenate(([0], np.cumsum(apart)))
    return places


def _missing_slices(gaps: NDArray[np.float64]) -> int:
    """How many slices lack, where single gaps are whole multiples of the gaps beside them; 0 where that is not so."""
    base = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    tolerance_mm = max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE * base)
    multiples = np.maximum(1, np.rint(gaps / base)).astype(int)
    # Each slice beside the gap may be off by the tolerance.
    if (np.abs(gaps - multiples * base) > 2 * tolerance_mm).any():
        return 0
    wide = multiples > 1
    if not wide.any() or (wide[1:] & wide[:-1]).any():
        return 0
    return int((multiples - 1).sum())


def _described(gaps: NDArray[np.float64]) -> str:
    """The gaps in words, runs of equal ones counted: ``2 x 5 mm, 1 x 10 mm``."""
    runs: list[tuple[float, int]] = []
    for gap in gaps:
        tolerance_mm = max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE * float(gap))
        if runs and abs(runs[-1][0] - gap) <= tolerance_mm:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((float(gap), 1))
    if len(runs) > 6:
        return f"from {gaps.min():.4g} to {gaps.max():.4g} mm"
    return ", then ".join(f"{count} x {gap:.4g} mm" for gap, count in runs)
