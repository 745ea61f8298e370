"""What volumes of one series are called, and what tells each from the others in words for a person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.file import tags
from volseg.dicom.series.sameness import AGREED, DIRECTION, NAMING, TELLING, TIME, Mark, Marked, described

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from volseg.dicom.series.splitting import Volume

MAX_STATED = 99_999
"""Points in time; a header that states more is not believed."""


def names_of(volumes: Sequence[Volume], marked: Marked) -> list[str]:
    """A word for each volume, such as ``echo2``, from what tells it from the others; empty for the only one."""
    names = ["" for _ in volumes]
    groups = [list(range(len(volumes)))]
    for absent in (False, True):
        for mark in NAMING:
            groups = [
                part
                for group in groups
                for part in (
                    _renamed(group, mark, volumes, marked, names, absent=absent) if len(group) > 1 else [group]
                )
            ]
    for group in groups:
        if len(group) < 2:
            continue
        numbers = [volumes[one].number for one in group]
        if len(set(numbers)) < len(numbers):
            numbers = list(range(1, len(group) + 1))
        _append(names, dict(zip(group, numbers, strict=True)), TIME.word, _stated(marked, volumes[group[0]]))
    return names


def _renamed(
    group: list[int], mark: Mark, volumes: Sequence[Volume], marked: Marked, names: list[str], *, absent: bool
) -> list[list[int]]:
    """Volumes by the value of a mark that each has throughout, which goes into their names; or all of them."""
    ranked = marked.of(mark)
    rank_of: dict[int, int] = {}
    for one in group:
        ranks = set(ranked.ranks[list(volumes[one].members)].tolist())
        rank_of[one] = ranks.pop()
        if ranks or not (absent or mark is DIRECTION or ranked.values[rank_of[one]]):
            return [group]
    present = sorted(set(rank_of.values()))
    if len(present) < 2:
        return [group]
    numbers = {rank: number for number, rank in enumerate(present, start=1)}
    if mark is TIME:
        numbers = _stated_times(present, marked, volumes[group[0]]) or numbers
    stated = _stated(marked, volumes[group[0]]) if mark is TIME else 0
    _append(names, {one: numbers[rank] for one, rank in rank_of.items()}, mark.word, stated)
    return [[one for one in group if rank_of[one] == rank] for rank in present]


def _stated_times(ranks: Sequence[int], marked: Marked, volume: Volume) -> dict[int, int]:
    """The points in time as their headers count them, so that a name doesn't depend on what else is there."""
    stated = _stated(marked, volume)
    values = marked.of(TIME).values
    numbers = {
        rank: int(part) for rank in ranks for part in values[rank][:1] if isinstance(part, float) and part.is_integer()
    }
    inside = len(numbers) == len(ranks) and all(1 <= number <= stated for number in numbers.values())
    return numbers if inside else {}


def _stated(marked: Marked, volume: Volume) -> int:
    """How many points in time the header of a volume states, within reason; 0 where it doesn't."""
    stated = marked.slices[volume.members[0]].header.integer(tags.NUMBER_OF_TEMPORAL_POSITIONS) or 0
    return stated if 0 < stated <= MAX_STATED else 0


def _append(names: list[str], numbers: Mapping[int, int], word: str, stated: int = 0) -> None:
    """Number names with as many digits as the greatest number takes, or the stated one where files lack."""
    width = len(str(max(*numbers.values(), stated)))
    for one, number in numbers.items():
        names[one] = f"{names[one]}_{word}{number:0{width}d}".lstrip("_")


def all_unlike(marked: Marked) -> str:
    """What is wrong with images of which no two agree in all that the slices of a volume agree in."""
    count = len(marked.slices)
    marks = [mark for mark in AGREED if len(marked.of(mark).values) == count]
    what = f"another {marks[0].keyword}" if marks else "other values of what a volume's slices agree in"
    return f"Each of its {count} images has {what}, so none has the slices of a volume."


@dataclass(frozen=True, eq=False)
class Told:
    """What tells volumes of one form from one another, for a person: elements and their values, nothing private."""

    volumes: Sequence[Volume]
    marked: Marked

    @cached_property
    def _ranks(self) -> dict[Mark, NDArray[np.int64]]:
        """(n,) of each mark: the rank of a volume's value, -1 where it varies."""
        found = {}
        for mark in (*AGREED, *TELLING):
            ranks = self.marked.of(mark).ranks
            own = [ranks[list(volume.members)] for volume in self.volumes]
            found[mark] = np.array([one[0] if (one == one[0]).all() else -1 for one in own])
        return found

    def of(self, number: int) -> str:
        """What tells one volume."""
        left, words = np.arange(len(self.volumes)) != number, []
        for mark, ranks in self._ranks.items():
            same = left & ((ranks == ranks[number]) | (ranks == -1))
            if ranks[number] >= 0 and same.sum() < left.sum():
                values = self.marked.of(mark).values
                words.append(described(mark, values[ranks[number]], values))
                left = same
        time = self.volumes[number].number
        if left.any() and time:
            words.append(f"point in time {time}" if words else f"Point in time {time}")
        return ", ".join(words) or "A part of this series"
