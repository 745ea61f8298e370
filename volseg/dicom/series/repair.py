"""Resampling of irregular stacks onto a regular orthogonal grid: uneven spacing, gantry tilt, filled gaps.

The slices are parallel, and each is taken to be where ImagePositionPatient says. A plane of the new grid that lies
between two slices is blended from them, pixel by pixel, and lies where the line between their first pixels crosses
it; it is then shifted within its own plane onto the grid. So every value stays at its true place in the patient, and
a linear function of that place is reproduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.grid import LPS_FROM_RAS, Grid
from volseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.dicom.series.stack import StackFault, StackGeometry

MIN_RUN = 3
"""So many equal gaps in a row are a run that somebody planned; fewer may be slices that got lost."""
SAME_GAP = 0.01
"""Of a gap: what rounding of positions and table feed leave between gaps of one run."""
SAME_GAP_MM = 0.02
"""The same for thin slices, whose positions are rounded to 0.01 mm at either end."""
SNAP_MM = 0.005
"""A plane this near to a slice is that slice, and a shift this small is none: half of what positions are exact to."""
MAX_TILT_DEGREES = 45.0
"""Gantries tilt by 30 degrees at most. A stack that leans further is none, and its straight grid would be mostly
empty."""
MAX_GROWTH = 4
"""Times as many planes as slices: beyond that the volume would be mostly made up."""
EDGE_TOLERANCE = 1e-6
"""Of a pixel: a place this far outside the outer box of a slice still counts as inside."""


TILT_STRAIGHTENED, SPACING_EVENED, GAPS_FILLED = "tilt-straightened", "spacing-evened", "gaps-filled"
STRAIGHTENINGS = frozenset({TILT_STRAIGHTENED, SPACING_EVENED, GAPS_FILLED})
"""The codes of changes after which a volume's voxels are interpolated from its slices."""


@dataclass(frozen=True)
class Repairs:
    """Which faults of a stack are repaired; the others are refused."""

    tilt: bool = True
    """A tilted gantry is straightened."""

    gaps: bool = False
    """Missing slices are filled in from those beside them, which invents what nobody has scanned."""

    def of(
        self, geometry: StackGeometry, faults: Sequence[StackFault]
    ) -> tuple[tuple[str, ...], tuple[StackFault, ...]]:
        """The codes of the changes that put faults right, and the faults that stay."""
        changes, left = [], []
        few = _plane_count(geometry) <= MAX_GROWTH * len(geometry.positions_mm)
        for fault in faults:
            if fault.code == "gantry-tilt" and self.tilt and geometry.tilt_degrees <= MAX_TILT_DEGREES:
                changes.append(TILT_STRAIGHTENED)
            elif fault.code == "uneven-spacing" and few and is_planned(geometry.gaps_mm):
                changes.append(SPACING_EVENED)
            elif fault.code == "missing-slice" and few and self.gaps:
                changes.append(GAPS_FILLED)
            else:
                left.append(fault)
        return tuple(changes), tuple(left)


DEFAULT_REPAIRS = Repairs()


@dataclass(frozen=True)
class Run:
    """Equal gaps in a row: how many, and their mean in mm."""

    count: int
    gap_mm: float


def runs_of(gaps_mm: NDArray[np.float64]) -> tuple[Run, ...]:
    """(n,) gaps between slices as runs of equal ones."""
    runs: list[list[float]] = []
    for gap in gaps_mm:
        mean = float(np.mean(runs[-1])) if runs else 0.0
        if runs and abs(gap - mean) <= max(SAME_GAP_MM, SAME_GAP * mean):
            runs[-1].append(float(gap))
        else:
            runs.append([float(gap)])
    return tuple(Run(len(run), float(np.mean(run))) for run in runs)


def is_planned(gaps_mm: NDArray[np.float64]) -> bool:
    """Whether uneven gaps are runs that somebody planned, so that no slice lacks.

    They are, where each gap belongs to a run of at least ``MIN_RUN``, but for single odd gaps where two runs meet
    that are no wider than the wider of both. A head CT of 13 gaps of 4 mm, one of 1.08 at the joint and 13 of 7 mm is
    such a stack; a wider gap, or an odd one inside a run, is none.
    """
    runs = runs_of(gaps_mm)
    for number, run in enumerate(runs):
        if run.count >= MIN_RUN:
            continue
        before, after = runs[number - 1 : number], runs[number + 1 : number + 2]
        if run.count > 1 or not before or not after or min(before[0].count, after[0].count) < MIN_RUN:
            return False
        wider = max(before[0].gap_mm, after[0].gap_mm)
        same = abs(before[0].gap_mm - after[0].gap_mm) <= max(SAME_GAP_MM, SAME_GAP * wider)
        if same or run.gap_mm > wider * (1 + SAME_GAP):
            return False
    return True


def straight_grid(geometry: StackGeometry) -> Grid:
    """The regular orthogonal grid for a stack, along its own axes.

    Its first and last planes are the first and last slice. The planes between are as far apart as the slices of the
    densest run of at least two gaps, so that nothing is lost; a filled gap gets the planes that it lacks. In the plane
    the pixels keep their size and the grid covers all slices, however far a tilt has shifted them.

    Returns:
        A grid with i along the rows, j along the columns, k along the slice normal.
    """
    distances = geometry.distances_mm
    count = _plane_count(geometry)
    pixel_mm = np.array(geometry.pixel_mm)
    sideways_mm = geometry.positions_mm @ geometry.axes[:2].T
    low_mm, high_mm = sideways_mm.min(axis=0), sideways_mm.max(axis=0)
    # Less than half a pixel of shift needs no further row: the pixels' own width covers it.
    more = np.ceil((high_mm - low_mm) / pixel_mm - 0.5)
    columns, rows = (int(n) for n in geometry.size + more)
    first_mm = (low_mm + high_mm - more * pixel_mm) / 2
    origin = distances[0] * geometry.axes[2] + first_mm @ geometry.axes[:2]
    spacing = np.array((*pixel_mm, (distances[-1] - distances[0]) / (count - 1)))
    return Grid.from_lps((columns, rows, count), origin, geometry.axes.T, spacing)


def _plane_count(geometry: StackGeometry) -> int:
    """The planes of the straight grid: at the spacing of the densest run, from the first slice to the last."""
    runs = runs_of(geometry.gaps_mm)
    dense = [run.gap_mm for run in runs if run.count > 1] or [run.gap_mm for run in runs]
    return max(1, round(float(geometry.gaps_mm.sum()) / min(dense))) + 1


def straighten(
    slices: NDArray[Any], geometry: StackGeometry, *, labels: bool = False, fill: float | None = None
) -> Volume:
    """Resample a stack from its slices' true positions onto ``straight_grid(geometry)``.

    Args:
        slices: (n, rows, columns), ascending along the normal as ``geometry`` has them; integers or floats.
        geometry: where the slices lie.
        labels: whether the values are labels: the nearest slice and the nearest pixel then, without blending.
        fill: where no slice reaches, as in the corners of a straightened tilt; the lowest value by default, 0 for
            labels.

    Returns:
        Voxels [i, j, k] of the same type, integers rounded; as a view of one C-ordered [k, j, i] array.
    """
    grid = straight_grid(geometry)
    columns, rows, planes = grid.shape
    if fill is None:
        fill = 0 if labels else slices.min()
    result = np.full((planes, rows, columns), fill, dtype=slices.dtype)
    origin = LPS_FROM_RAS[:3, :3] @ grid.affine[:3, 3]
    places_mm = geometry.distances_mm[0] + np.arange(planes) * grid.spacing_mm[2]
    for k, place_mm in enumerate(places_mm):
        below, weight = _between(geometry.distances_mm, float(place_mm))
        if labels:
            below, weight = (below + 1, 0.0) if weight >= 0.5 else (below, 0.0)
        position = geometry.positions_mm[below]
        plane = slices[below]
        if weight:
            position = position + weight * (geometry.positions_mm[below + 1] - position)
            plane = _blend(plane, slices[below + 1], weight)
        shift = (position - origin) @ geometry.axes[:2].T / np.array(geometry.pixel_mm)
        shift = np.where(np.abs(shift - np.rint(shift)) * geometry.pixel_mm <= SNAP_MM, np.rint(shift), shift)
        if labels:
            shift = np.floor(shift + 0.5)
        _lay(plane, float(shift[0]), float(shift[1]), result[k])
    return Volume(result.T, grid)


def _between(distances_mm: NDArray[np.float64], place_mm: float) -> tuple[int, float]:
    """The slice at or below a place, and the weight of the next one above."""
    nearest = int(np.abs(distances_mm - place_mm).argmin())
    if abs(distances_mm[nearest] - place_mm) <= SNAP_MM:
        return nearest, 0.0
    below = int(np.searchsorted(distances_mm, place_mm, side="right")) - 1
    below = min(max(below, 0), len(distances_mm) - 2)
    return below, float((place_mm - distances_mm[below]) / (distances_mm[below + 1] - distances_mm[below]))


def _working(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """The float type that holds such values exactly."""
    return np.float64 if dtype.itemsize > (4 if dtype.kind == "f" else 2) else np.float32


def _blend(first: NDArray[Any], second: NDArray[Any], weight: float) -> NDArray[Any]:
    kind = _working(first.dtype)
    blended: NDArray[Any] = first.astype(kind) * kind(1 - weight) + second.astype(kind) * kind(weight)
    return blended


def _lay(plane: NDArray[Any], right: float, down: float, out: NDArray[Any]) -> None:
    """Lay a plane (rows, columns) into ``out``, shifted by fractions of a pixel, with linear interpolation."""
    shifted, top = _shifted(plane, down, 0, out.shape[0])
    shifted, left = _shifted(shifted, right, 1, out.shape[1])
    if out.dtype.kind in "iu" and shifted.dtype.kind == "f":
        shifted = np.rint(shifted)
    out[top : top + shifted.shape[0], left : left + shifted.shape[1]] = shifted


def _shifted(plane: NDArray[Any], shift: float, axis: int, room: int) -> tuple[NDArray[Any], int]:
    """The plane sampled at whole places along an axis after a shift, and the first such place.

    Places within half a pixel outside the first or last pixel's centre take that pixel's value.
    """
    count = plane.shape[axis]
    first = max(0, int(np.ceil(shift - 0.5 - EDGE_TOLERANCE)))
    last = min(room - 1, int(np.floor(shift + count - 0.5 + EDGE_TOLERANCE)))
    places = np.arange(first, last + 1) - shift
    below = np.clip(np.floor(places).astype(int), 0, count - 1)
    above = np.minimum(below + 1, count - 1)
    weight = np.clip(places - below, 0, 1)
    if not weight.any():
        return (plane if len(places) == count else plane.take(below, axis)), first
    kind = _working(plane.dtype)
    weight = weight.astype(kind).reshape((-1, 1) if axis == 0 else (1, -1))
    values = plane.astype(kind, copy=False)
    blended: NDArray[Any] = values.take(below, axis) * (1 - weight) + values.take(above, axis) * weight
    return blended, first
