"""Which volume an image is of by its InstanceNumber, where nothing else tells it.

Scanners number the images of several volumes volume by volume or position by position. So a number tells the volume,
also where files are lost, as long as it is certain where a volume begins. Where it isn't, the images are refused: the
first image at each position, the second and so on may well be of different volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.series.stack import MIN_SLICES

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST_NUMBERS = (0, 1)
"""With which a series begins."""
MAX_STEP = 8
"""Between slices that a scanner takes one after the other."""
MAX_PLACES = 4096
"""Of a volume that is told by numbers that run position by position, of which each pair is compared."""


@dataclass(frozen=True, eq=False)
class Numbered:
    """Images that one part of a series has at its positions.

    Args:
        numbers: (m,) InstanceNumbers, each once.
        places: (m,) the position of each, from 0 to ``count`` - 1, ascending along the normal.
        count: how many positions there are.
        first: the least number of the whole series.
        step: between all neighbouring numbers of the whole series, so that no file is lost between its first and its
            last; 0 where there are gaps.
        parts: how many parts of the series are numbered together.
        stated: how many points in time the headers state; None where they don't.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    count: int
    first: int
    step: int
    parts: int
    stated: int | None

    def volumes(self) -> tuple[NDArray[np.int64], bool] | None:
        """(m,) the volume of each image, and whether the last one was cut short; None where that isn't certain."""
        by_volume, by_place = self._volume_by_volume(), self._place_by_place()
        if by_volume is None:
            return None if by_place is None else (by_place, False)
        if by_place is not None and not _same_groups(by_volume, by_place):
            return None
        return by_volume, self._is_cut_short(by_volume)

    def are_mixed(self) -> bool:
        """Whether the images, one at each position, are of several volumes by their numbers."""
        order = np.argsort(self.places)
        numbers, places = self.numbers[order], self.places[order]
        steps = np.diff(numbers)
        # Numbers without a gap, from the first one on, are those of one volume in whatever order.
        without_gap = int(np.ptp(numbers)) < len(numbers)
        if (steps == steps[0]).all() or (without_gap and (self.first in FIRST_NUMBERS or self.count <= MIN_SLICES)):
            return False
        for rising in (numbers - places, numbers + places):
            if np.ptp(rising) and not np.ptp(rising % self.count):
                return True
        # As many files in a row as a volume has slices, but from the end of one and the beginning of the next.
        if not without_gap or self.count <= MIN_SLICES:
            return False
        return (self.stated or 1) > 1 or _begins_inside(places[np.argsort(numbers)].tolist())

    def jumps(self, distances_mm: NDArray[np.float64]) -> tuple[NDArray[np.int64], bool]:
        """Behind which image along the normal the number jumps, and whether numbers rise or fall throughout.

        Numbers without a gap don't jump in any order, nor do those that rise or fall in steps as even as the positions.

        Args:
            distances_mm: (count,) of the positions along the normal.
        """
        steps = np.diff(self.numbers[np.argsort(self.places)])
        gaps = np.diff(distances_mm)
        pace = steps / np.rint(gaps / gaps.min())
        rises = bool((steps > 0).all() or (steps < 0).all())
        if int(np.ptp(self.numbers)) < len(self.numbers) or (rises and (pace == pace[0]).all()):
            return np.zeros(0, np.int64), rises
        return np.flatnonzero(np.abs(pace) > np.abs(pace).min()), rises

    def _counted(self) -> NDArray[np.int64]:
        """The numbers, or their ranks where no number lacks in the series."""
        return np.argsort(np.argsort(self.numbers)) if self.step else self.numbers

    def _volume_by_volume(self) -> NDArray[np.int64] | None:
        counted = self._counted()
        for parts in range(1, 2 if self.step else self.parts + 1):
            period = self.count * parts
            slots = _one_to_one(self.places, counted % period)
            if slots is None:
                continue
            start = _start(slots, self.count, period)
            if start is not None:
                before = (int(counted.min()) - start) % period
                begins = int(self.numbers.min()) - before * max(1, self.step)
                return (counted - start) // period if begins >= min(FIRST_NUMBERS) else None
            if parts == 1:
                return self._in_any_order(counted, slots)
        return None

    def _in_any_order(self, counted: NDArray[np.int64], slots: dict[int, int]) -> NDArray[np.int64] | None:
        """Volumes whose slices follow each other in an order of its own, such as every other slice first."""
        start = 0 if self.step else self.first % self.count
        whole = bool(self.step) and len(counted) % self.count == 0
        order = sorted(slots, key=lambda place: (slots[place] - start) % self.count)
        outermost = order[0] in (0, self.count - 1) and slots[order[0]] == start
        # Of one part among several the first image may lack, and another volume's be taken for it.
        regular = self.parts == 1 and len(order) == self.count and _is_regular(order)
        if self.first in FIRST_NUMBERS and ((whole and self.count > MIN_SLICES) or (outermost and (whole or regular))):
            return (counted - start) // self.count
        if whole and self.stated is not None and len(counted) == self.count * self.stated:
            return counted // self.count
        return None

    def _place_by_place(self) -> NDArray[np.int64] | None:
        """The images of one position follow each other: the number modulo the count of volumes tells the volume."""
        counted = self._counted()
        counts = self._counts_by_place(counted)
        if counts is None:
            return None
        least, greatest = counts
        if self.step:
            # Renumbered after a loss, such images would be taken for those of other volumes.
            most = len(counted) // self.count
            return counted % most if len(counted) == most * self.count and least <= most <= greatest else None
        if self.stated is not None and least <= self.stated <= greatest:
            volumes = (counted - self.first) % self.stated
            # What is stated needs a second witness: most volumes whole.
            whole = int((np.bincount(volumes) == self.count).sum())
            return volumes if 2 * whole >= self.stated else None
        return (counted - self.first) % least if least == greatest else None

    def _counts_by_place(self, counted: NDArray[np.int64]) -> tuple[int, int] | None:
        """The least and the greatest number of volumes that images numbered position by position may have; None where
        they are not."""
        changes = int((np.diff(self.places[np.argsort(counted)]) != 0).sum())
        present = np.unique(self.places)
        if changes != len(present) - 1 or len(present) < self.count or not MIN_SLICES <= self.count <= MAX_PLACES:
            return None
        spans = sorted((int(counted[self.places == k].min()), int(counted[self.places == k].max())) for k in present)
        least, greatest = _fitting(np.array(spans))
        return (least, greatest) if least <= greatest else None

    @property
    def runs_by_place(self) -> bool:
        """Whether the images of one position follow each other, as many at each."""
        counts = self._counts_by_place(self.numbers)
        return counts is not None and counts[0] == counts[1] == len(self.numbers) / self.count

    def allow(self, numbers: NDArray[np.int64]) -> bool:
        """Whether some of the numbers may be those of one volume, by how all of them run."""
        if len(self.numbers) <= self.count or int(np.ptp(numbers)) < len(numbers):
            return True
        if _one_to_one(self.places, self.numbers % self.count) is not None:
            return int(np.ptp(numbers)) < self.count
        counts = self._counts_by_place(self.numbers)
        if counts is None:
            return True
        least, greatest = counts
        # Where so much is lost that several counts are possible, even steps alone show one volume.
        even = len(np.unique(np.diff(np.sort(numbers)))) <= 1
        return even if least < greatest else len(np.unique(numbers % least)) == 1

    def _is_cut_short(self, volumes: NDArray[np.int64]) -> bool:
        """Whether the last volume lacks what would have come last."""
        last = np.sort(self._counted()[volumes == volumes.max()])
        if len(last) == self.count:
            return False
        earlier = self._counted()[volumes < volumes.max()]
        contiguous = int(last[-1] - last[0]) == len(last) - 1
        return contiguous and bool(len(earlier)) and int(last[0] - earlier.max()) == 1


def _start(slots: dict[int, int] | None, count: int, period: int) -> int | None:
    """The slot at which volumes begin, where their slices follow each other in space; else None.

    Args:
        slots: of each place, out of ``period``.
        count: how many places there are.
        period: how many slots there are.
    """
    # Any three slices follow each other in space, one way or the other, if they may begin anywhere.
    if slots is None or count <= MIN_SLICES:
        return None
    for end, way in ((0, 1), (count - 1, -1)):
        if end in slots:
            behind = [(slots[place] - slots[end]) % period for place in sorted(slots)[::way]]
            if behind == sorted(behind):
                return slots[end]
    return None


def _is_regular(order: list[int]) -> bool:
    """Whether places follow each other in space, or come as every second one, or every third and so on, then those
    between, all in one direction."""
    greatest = len(order) // 2 if len(order) > MIN_SLICES else 1
    for step in range(1, min(greatest, MAX_STEP) + 1):
        for way in (1, -1):
            classes = [list(range(first, len(order), step))[::way] for first in range(step)]
            classes.sort(key=lambda one: order.index(one[0]))
            if [place for one in classes for place in one] == order:
                return True
    return False


def _begins_inside(order: list[int]) -> bool:
    """Whether places follow each other as ``_is_regular`` has it, but only if one begins somewhere inside."""
    if _is_regular(order):
        return False
    ends = {*range(MAX_STEP), *range(len(order) - MAX_STEP, len(order))}
    starts = (order.index(place) for place in ends if 0 <= place < len(order))
    return any(_is_regular(order[start:] + order[:start]) for start in starts)


def _one_to_one(places: NDArray[np.int64], slots: NDArray[np.int64]) -> dict[int, int] | None:
    """The slot of each place, where each place has its own."""
    pairs = set(zip(places.tolist(), slots.tolist(), strict=True))
    found = dict(pairs)
    return found if len(pairs) == len(found) == len(set(found.values())) else None


def _fitting(spans: NDArray[np.int64]) -> tuple[int, int]:
    """The least and the greatest length of equal runs, one after the other, that hold the numbers of one place each.

    Run r begins at a + r * length, so that no number of place k may lie a run or more behind one of place j, whatever a.

    Args:
        spans: (n, 2) least and greatest number of each place, ascending.
    """
    rank = np.arange(len(spans))
    apart = spans[:, 1][:, None] - spans[:, 0][None, :]  # the greatest of k less the least of j
    runs = rank[:, None] + 1 - rank[None, :]
    least = (apart[runs > 0] // runs[runs > 0]).max() + 1
    greatest = ((-apart[runs < 0] - 1) // -runs[runs < 0]).min()
    return (int(least), int(greatest)) if (apart[runs == 0] < 0).all() else (1, 0)


def _same_groups(first: NDArray[np.int64], second: NDArray[np.int64]) -> bool:
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    return len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})
