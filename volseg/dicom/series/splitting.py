"""Splitting the images of a series into volumes.

What a volume's slices must agree in splits first, whether positions repeat or not. Where they still repeat, it takes
an element with one value for each volume, or the InstanceNumber.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.file import tags
from volseg.dicom.series.numbering import FIRST_NUMBERS, Numbered
from volseg.dicom.series.sameness import ACQUISITION, AGREED, TELLING, TIME, Mark, Marked
from volseg.dicom.series.siblings import interlock
from volseg.dicom.series.stack import MIN_SLICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from volseg.dicom.series.siblings import Expected
    from volseg.dicom.series.slices import Slice

RUN_CUT_SHORT = "run-cut-short"
"""The code of volumes behind which points in time lack, as after a scan that was stopped early."""
NUMBERS_JUMP = "numbers-jump"
"""The code of volumes whose InstanceNumbers jump though no position is missing."""
MAX_NUMBER = 2**53
"""InstanceNumbers beyond it are none."""

_Members = tuple[int, ...]


class SplitFault(Exception):
    """Images at one position that nothing tells apart."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code)
        self.code, self.sentence = code, sentence


@dataclass(frozen=True)
class SeriesNumbers:
    """The InstanceNumbers of all images under one SeriesInstanceUID.

    Args:
        first: the least.
        step: between all neighbours, so that no file is lost between the first and the last; 0 where there are gaps,
            or numbers that several files have.
    """

    first: int = 0
    step: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether they run from 0 or 1 on without a gap."""
        return self.first in FIRST_NUMBERS and self.step == 1

    @classmethod
    def of(cls, slices: Iterable[Slice]) -> SeriesNumbers:
        """Those of images; the frames of a file, or the tiles of a mosaic, count once."""
        numbers = sorted(
            {image.header.path: _number(image) or 0 for image in slices}.values(),
        )
        if len(numbers) < 2:
            return cls(*numbers)
        steps = set(np.diff(numbers).tolist())
        return cls(numbers[0], steps.pop() if len(steps) == 1 else 0)


@dataclass(frozen=True, eq=False)
class Volume:
    """Images that make a volume.

    Args:
        members: their places among all images.
        number: of its point in time, where its images' InstanceNumbers alone tell it from others; else 0.
        is_stretch: whether it is an acquisition of a stretch of its own, whatever other volumes show.
        changes: stable codes of what was put right.
        notes: codes of what a person has to know, each with what its sentence counts; see ``notes``.
        is_doubtful: whether its images, one at each position, are of several volumes by their numbers, or may well be.
    """

    members: _Members
    number: int = 0
    is_stretch: bool = False
    changes: tuple[str, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    is_doubtful: bool = False


def agreeing(marked: Marked) -> list[_Members]:
    """The images that agree in all that a volume's slices must agree in, by their places among all."""
    keys = np.stack([marked.of(mark).ranks for mark in AGREED], axis=1)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        groups[key.tobytes()].append(place)
    return [tuple(group) for group in groups.values()]


def split_volumes(
    members: Sequence[int],
    marked: Marked,
    expected: Expected,
    series: SeriesNumbers,
    *,
    parts: int = 1,
) -> list[Volume]:
    """Split images that agree in all that they must into volumes of which each has at most one image at a position.

    Args:
        members: the images, by their places in ``marked``.
        marked: all images of one form and orientation.
        expected: the position of each member, and those that a volume must have.
        series: the numbers of the whole series.
        parts: into how many parts ``marked`` was split by what the slices of a volume agree in.

    Raises:
        SplitFault: images at one position that nothing tells apart, or volumes of unequal length.
    """
    splitter = _Splitter(
        marked, dict(zip(members, expected.places.tolist(), strict=True)), expected.required_mm, series, parts
    )
    return splitter.split(tuple(members))


@dataclass(frozen=True, eq=False)
class _Splitter:
    marked: Marked
    place_of: Mapping[int, int]
    required: Mapping[int, float]
    series: SeriesNumbers
    parts: int

    def split(self, members: _Members) -> list[Volume]:
        """The volumes among images that agree."""
        if not self._repeats(members):
            return [self._judged(Volume(members)) if len(members) == len(self.required) else Volume(members)]
        if len(self.required) < MIN_SLICES:
            return [Volume(members)]
        volumes = [Volume(members)]
        for mark in TELLING:
            volumes = [
                part
                for volume in volumes
                for part in (self._parted(volume, mark) if self._repeats(volume.members) else [volume])
            ]
        found: list[Volume] = []
        for volume in volumes:
            found.extend(self._told(volume, alone=len(volumes) == 1) if self._repeats(volume.members) else [volume])
        return found

    def _told(self, volume: Volume, *, alone: bool) -> list[Volume]:
        """The volumes among images of which several show the same position, and no element has one value for each."""
        distinct = self._distinct(volume.members)
        if not self._repeats(distinct):
            return [replace(volume, members=distinct, changes=("duplicates-dropped",))]
        for mark in TELLING:
            told = self._partly_parted(volume, mark)
            if told:
                return told
        return self._by_number(volume.members, alone=alone)

    def _places(self, members: Sequence[int]) -> list[int]:
        return [self.place_of[member] for member in members]

    def _repeats(self, members: Sequence[int]) -> bool:
        return len(set(self._places(members))) < len(members)

    def _by_value(self, members: _Members, mark: Mark) -> list[_Members]:
        """The images of each value; none where some image has none."""
        ranked = self.marked.of(mark)
        groups: dict[int, list[int]] = defaultdict(list)
        for member in members:
            groups[int(ranked.ranks[member])].append(member)
        if any(not ranked.values[rank] for rank in groups):
            return []
        return [tuple(groups[rank]) for rank in sorted(groups)]

    def _parted(self, volume: Volume, mark: Mark) -> list[Volume]:
        """The images by one element, or all where that doesn't tell volumes apart."""
        groups = self._by_value(volume.members, mark)
        if len(groups) < 2:
            return [volume]
        everywhere = set(self._places(volume.members))
        if all(set(self._places(group)) == everywhere for group in groups):
            return [replace(volume, members=group) for group in groups]
        if mark is ACQUISITION and self._are_stretches(groups):
            return [replace(volume, members=group, is_stretch=True) for group in groups]
        return [volume]

    def _are_stretches(self, groups: Sequence[_Members]) -> bool:
        """Whether acquisitions cover different stretches of the body: where two overlap, they show the same places,
        and by less than half of either."""
        if any(self._repeats(group) or len(group) < MIN_SLICES for group in groups):
            return False
        return all(
            len(first & second) <= min(len(first), len(second)) / 2 and not interlock(first, second)
            for first, second in combinations([set(self._places(group)) for group in groups], 2)
        )

    def _partly_parted(self, volume: Volume, mark: Mark) -> list[Volume]:
        """The images by one element that has a value for each volume, though files lack; none where that isn't so.

        No value repeats a position, and all but one, which may be a run that was stopped, cover more than half of all.
        """
        groups = self._by_value(volume.members, mark)
        if len(groups) < 2 or any(self._repeats(group) for group in groups):
            return []
        half = len(self.required) / 2
        if sum(len(group) <= half for group in groups) > 1:
            return []
        return [replace(volume, members=group) for group in groups]

    def _distinct(self, members: _Members) -> _Members:
        """The first image at each position, where all images at each have the same stored pixels; else all images."""
        by_place: dict[int, list[int]] = defaultdict(list)
        for member in members:
            by_place[self.place_of[member]].append(member)
        for images in by_place.values():
            if len(images) > 1 and len({self.marked.slices[member].pixel_digest() for member in images}) > 1:
                return members
        return tuple(images[0] for images in by_place.values())

    def _numbered(self, members: _Members, *, alone: bool) -> Numbered | None:
        """The images by their numbers; None where not each has its own."""
        slices = [self.marked.slices[member] for member in members]
        numbers = [number for number in map(_number, slices) if number is not None]
        if len(set(numbers)) < len(members):
            return None
        order = {place: rank for rank, place in enumerate(self.required)}
        places = np.array([order[place] for place in self._places(members)])
        stated = {image.header.integer(tags.NUMBER_OF_TEMPORAL_POSITIONS) for image in slices} - {None}
        count = stated.pop() if len(stated) == 1 and alone else None
        return Numbered(
            np.array(numbers), places, len(self.required), self.series.first, self.series.step, self.parts, count
        )

    def _judged(self, volume: Volume) -> Volume:
        """Images of which each shows another position, judged by their numbers."""
        members, ranked = volume.members, self.marked.of(TIME)
        told = self.parts > 1 or any(ranked.values[int(ranked.ranks[member])] for member in members)
        numbered = self._numbered(members, alone=not told)
        if numbered is None or len(members) < MIN_SLICES:
            return volume
        stated = numbered.stated or 1
        jumps, rises = numbered.jumps(np.array(list(self.required.values())))
        if numbered.are_mixed():
            return replace(volume, is_doubtful=True)
        if told or self.series.step == 1 or not len(jumps):
            return replace(volume, notes={RUN_CUT_SHORT: stated - 1}) if stated > 1 else volume
        if not rises or stated > 1 or self._parts_at(members, numbered.numbers, jumps):
            return replace(volume, is_doubtful=True)
        return replace(volume, notes={NUMBERS_JUMP: len(jumps)})

    def _parts_at(self, members: _Members, numbers: NDArray[np.int64], jumps: NDArray[np.int64]) -> bool:
        """Whether an element parts the images as their numbers do: in runs between jumps, or in turn."""
        along = np.argsort(self._places(members))
        for mark in TELLING[:-1]:
            ranks = np.unique(self.marked.of(mark).ranks[list(members)], return_inverse=True)[1]
            if np.array_equal(np.flatnonzero(np.diff(ranks[along])), jumps):
                return True
            count = int(ranks.max()) + 1
            if (
                1 < count < len(members)
                and len(set(zip((numbers % count).tolist(), ranks.tolist(), strict=True))) == count
            ):
                return True
        return False

    def _by_number(self, members: _Members, *, alone: bool) -> list[Volume]:
        """Volumes that InstanceNumber alone tells apart."""
        lengths = np.bincount(np.unique(self._places(members), return_inverse=True)[1])
        most = int(lengths.max())
        unequal = SplitFault(
            "unequal-volumes",
            f"Positions have {lengths.min()} to {most} images each, and nothing in their headers tells the volumes "
            "apart.",
        )
        untold = SplitFault(
            "several-images-at-one-position",
            f"Each position has {most} images, and nothing in their headers tells the volumes apart.",
        )
        fault = unequal if lengths.min() < most else untold
        numbered = self._numbered(members, alone=alone and self.parts == 1)
        if numbered is None:
            raise fault
        found = numbered.volumes()
        if found is None:
            raise fault
        volumes, is_cut_short = found
        count, stated = len(np.unique(volumes)), numbered.stated
        by_volume = np.diff(volumes[np.argsort(numbered.numbers)]).min() >= 0
        if stated and (count > stated or (count < stated and not by_volume)):
            raise SplitFault(
                "several-images-at-one-position",
                f"Each position has {most} images, but the headers state another number of points in time.",
            )
        base = 0 if stated and volumes.min() >= 0 and volumes.max() < stated else int(volumes.min())
        whole = sum(int((volumes == volume).sum()) == len(self.required) for volume in np.unique(volumes))
        lost = stated - whole if stated and (is_cut_short or count < stated) else int(is_cut_short)
        return [
            Volume(
                tuple(np.array(members)[volumes == volume].tolist()),
                number=int(volume) - base + 1,
                notes={RUN_CUT_SHORT: lost} if lost else {},
            )
            for volume in np.unique(volumes)
        ]


def mixed(volumes: Sequence[Volume], marked: Marked, place_of: Mapping[int, int], series: SeriesNumbers) -> list[bool]:
    """Which volumes hold images of several, or may well do so, by the numbers of all images beside them.

    None does where no number lacks and all volumes have as many images.

    Args:
        volumes: of one form and orientation.
        marked: their images.
        place_of: the position of each image, by its place in ``marked``.
        series: the numbers of the whole series.
    """
    counts = np.unique(list(place_of.values()), return_counts=True)[1]
    if series.is_whole and len(set(counts.tolist())) == 1 and len({len(volume.members) for volume in volumes}) == 1:
        return [False] * len(volumes)
    members = sorted(place_of)
    numbers = [number for number in (_number(marked.slices[member]) for member in members) if number is not None]
    if len(set(numbers)) < len(members) or len(set(place_of.values())) < MIN_SLICES:
        return [volume.is_doubtful for volume in volumes]
    order = {place: rank for rank, place in enumerate(sorted(set(place_of.values())))}
    places = np.array([order[place_of[member]] for member in members])
    whole = Numbered(np.array(numbers), places, len(order), min(numbers), 0, 1, None)
    number_of = dict(zip(members, numbers, strict=True))
    # Of one image at each position, numbers without a gap may still be those of the end of one and the beginning of another.
    certain = series.step == 1 and whole.runs_by_place and len(members) > len(order)
    return [
        (volume.is_doubtful and not certain)
        or not whole.allow(np.array([number_of[member] for member in volume.members]))
        for volume in volumes
    ]


def points_in_time_lost(volumes: Sequence[Volume], marked: Marked) -> int:
    """How many points in time there is no image of, where each image says of which one it is and of how many.

    Args:
        volumes: of one form and orientation.
        marked: their images.
    """
    ranked = marked.of(TIME)
    times = {int(ranked.ranks[volume.members[0]]) for volume in volumes}
    stated = {image.header.integer(tags.NUMBER_OF_TEMPORAL_POSITIONS) or 0 for image in marked.slices}
    if len(stated) > 1 or not all(ranked.values[time] for time in times):
        return 0
    return max(0, stated.pop() - len(times))


def _number(image: Slice) -> int | None:
    number = image.header.integer(tags.INSTANCE_NUMBER)
    return number if number is not None and abs(number) < MAX_NUMBER else None
