"""Which positions a volume must have: those of all volumes of its series that show the same place.

A volume that lacks some of them is cut short, however regular what is left of it may look.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.series.stack import (
    SPACING_TOLERANCE,
    SPACING_TOLERANCE_MM,
    StackGeometry,
    places_of,
    same_orientation,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

MAX_PAIRS_OF = 64
"""Of so many parts that share no position each pair is looked at; of more only all together."""

NAMED_PLACES = 5
"""So many positions are named where a volume lacks more."""


@dataclass(frozen=True, eq=False)
class Sibling:
    """Images under one SeriesInstanceUID that agree in all that a volume's slices agree in.

    Args:
        form: what is the same for all siblings, such as the size of the images.
        axes: (3, 3) unit vectors as rows: row, column, normal; LPS.
        positions_mm: (n, 3) LPS mm of the first voxels.
    """

    form: Hashable
    axes: NDArray[np.float64]
    positions_mm: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expected:
    """The positions that a volume must have.

    Args:
        places: (n,) the number of each image's position.
        required_mm: every position by its number, in mm along the normal, ascending.
    """

    places: NDArray[np.int64]
    required_mm: Mapping[int, float]


def expected_of(siblings: Sequence[Sibling]) -> list[Expected]:
    """The positions that the volumes in each of some parts of a series must have.

    Parts of one form and orientation belong together where they share a position, or where their positions joined
    make one regular stack: either fills the other's gaps, or begins where the other ends. Each volume in them must
    then have the positions of all.
    """
    found: dict[int, Expected] = {}
    for cluster in _clusters(siblings):
        axes = siblings[cluster[0]].axes
        distances = [siblings[number].positions_mm @ axes[2] for number in cluster]
        joined = places_of(np.concatenate(distances))
        places = np.split(joined, np.cumsum([len(one) for one in distances])[:-1])
        mm = dict(zip(joined.tolist(), np.concatenate(distances).tolist(), strict=True))
        for together in _together([siblings[number] for number in cluster], places, axes):
            required = sorted(set().union(*(set(places[one].tolist()) for one in together)))
            required_mm = {place: mm[place] for place in required}
            for one in together:
                found[cluster[one]] = Expected(places[one], required_mm)
    return [found[number] for number in range(len(siblings))]


def _clusters(siblings: Sequence[Sibling]) -> list[list[int]]:
    """The numbers of siblings of one form and orientation each."""
    clusters: list[list[int]] = []
    for number, one in enumerate(siblings):
        for cluster in clusters:
            leader = siblings[cluster[0]]
            if leader.form == one.form and (leader.axes is one.axes or same_orientation(leader.axes, one.axes)):
                cluster.append(number)
                break
        else:
            clusters.append([number])
    return clusters


def _together(
    parts: Sequence[Sibling], places: Sequence[NDArray[np.int64]], axes: NDArray[np.float64]
) -> list[list[int]]:
    """The numbers of parts that belong together."""
    if len(parts) == 1:
        return [[0]]
    groups = _sharing(places)
    where = {
        int(place): position
        for part, own in zip(parts, places, strict=True)
        for place, position in zip(own, part.positions_mm, strict=True)
    }

    def places_in(group: Sequence[int]) -> set[int]:
        return set().union(*(set(places[one].tolist()) for one in group))

    everything = [one for group in groups for one in group]
    if len(groups) == 1 or _is_one_stack(places_in(everything), where, axes):
        return [everything]
    if len(groups) > MAX_PAIRS_OF:
        return groups
    sets = [places_in(group) for group in groups]
    links = [
        (first, second)
        for first, second in combinations(range(len(groups)), 2)
        if _is_one_stack(sets[first] | sets[second], where, axes)
    ]
    return [[one for number in linked for one in groups[number]] for linked in _linked(len(groups), links)]


def _sharing(parts: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    """The numbers of parts that share a position."""
    first: dict[int, int] = {}
    links = [(first.setdefault(place, number), number) for number, own in enumerate(parts) for place in own.tolist()]
    return _linked(len(parts), links)


def _linked(count: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The groups of numbers below ``count`` that links connect."""
    leader = list(range(count))

    def lead(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    for first, second in links:
        low, high = sorted((lead(first), lead(second)))
        leader[high] = low
    groups: dict[int, list[int]] = {}
    for number in range(count):
        groups.setdefault(lead(number), []).append(number)
    return list(groups.values())


def interlock(first: set[int], second: set[int]) -> bool:
    """Whether places of one set lie among those of the other, which lacks them."""
    low, high = max(min(first), min(second)), min(max(first), max(second))
    inner, other = ({place for place in places if low <= place <= high} for places in (first, second))
    return inner != other


def _is_one_stack(places: set[int], where: Mapping[int, NDArray[np.float64]], axes: NDArray[np.float64]) -> bool:
    """Whether positions lie on one line at whole multiples of one step, and fill more than half of it."""
    positions = np.stack([where[place] for place in sorted(places)])
    gaps = np.diff(positions @ axes[2])
    if not len(gaps):
        return False
    step_mm = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    steps = np.rint(gaps / step_mm)
    tolerance_mm = max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE * step_mm)
    # The slices at both ends of a gap may each be off by the tolerance.
    if (np.abs(gaps - steps * step_mm) > 2 * tolerance_mm).any() or len(positions) <= (steps.sum() + 1) / 2:
        return False
    faults = StackGeometry(axes, positions, (1.0, 1.0), (1, 1)).faults()
    return all(fault.code != "shifted-slices" for fault in faults)


def lacking_mm(distances_mm: NDArray[np.float64], required_mm: Sequence[float]) -> list[float]:
    """Those of the required positions at which no image lies."""
    both = np.concatenate((distances_mm, np.array(required_mm)))
    places = places_of(both)
    there = set(places[: len(distances_mm)].tolist())
    return [
        mm for place, mm in zip(places[len(distances_mm) :].tolist(), required_mm, strict=True) if place not in there
    ]


def lack_of(what: str, missing_mm: Sequence[float], total: int) -> str:
    """What a volume lacks, for a person: the slices of ``total`` at some places, in mm along the normal."""
    places = [f"{round(mm, 2) + 0.0:.10g}" for mm in missing_mm]  # without the sign of a negative zero
    if len(places) == 1:
        return f"{what} lacks the slice at {places[0]} mm."
    more = len(places) - NAMED_PLACES
    shown = [*places[:NAMED_PLACES], f"{more} more"] if more > 0 else places
    where = f"{', '.join(shown[:-1])}{' mm' * (more > 0)} and {shown[-1]}{' mm' * (more <= 0)}"
    return f"{what} lacks {len(places)} of {total} slices, at {where}."
