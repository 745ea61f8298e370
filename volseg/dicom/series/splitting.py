"""Splitting a series with several images at each position into volumes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.file import frame_tags, tags
from volseg.dicom.series.stack import MIN_SLICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.dicom.series.slices import Slice

ECHO, TIME = "echo", "time"

# What tells volumes apart, the most telling first: the word for names, the element, and whether its value is binary.
_SPLITTERS: tuple[tuple[str, int, bool], ...] = (
    (TIME, tags.TEMPORAL_POSITION_IDENTIFIER, False),
    ("acq", tags.ACQUISITION_NUMBER, False),
    (ECHO, tags.ECHO_NUMBERS, False),
    (ECHO, tags.ECHO_TIME, False),
    ("phase", tags.TRIGGER_TIME, False),
    ("b", tags.DIFFUSION_B_VALUE, True),
    ("direction", tags.DIFFUSION_GRADIENT_ORIENTATION, True),
    ("inversion", tags.INVERSION_TIME, False),
    ("type", tags.IMAGE_TYPE, False),
    (TIME, tags.ACQUISITION_TIME, False),
    (TIME, tags.CONTENT_TIME, False),
    ("dimension", frame_tags.DIMENSION_INDEX_VALUES, False),
    (TIME, frame_tags.FRAME_ACQUISITION_DATETIME, False),
    (TIME, frame_tags.FRAME_REFERENCE_DATETIME, False),
    (TIME, tags.INSTANCE_NUMBER, False),
)


class SplitFault(Exception):
    """Images at one position that nothing tells apart."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code)
        self.code, self.sentence = code, sentence


@dataclass(frozen=True, eq=False)
class Volumes:
    """The volumes among the images: a word for each, empty for the only one, and its images."""

    parts: tuple[tuple[str, tuple[Slice, ...]], ...]
    changes: tuple[str, ...] = ()


_Group = tuple[str, list[int]]


def split_volumes(slices: Sequence[Slice], places: NDArray[np.int64]) -> Volumes:
    """Split images into volumes of which each has one image at a position.

    Args:
        slices: the images, of one orientation.
        places: (n,) the number of each image's position along the normal.

    Raises:
        SplitFault: images at one position that nothing tells apart, or volumes of unequal length.
    """
    groups: list[_Group] = [("", list(range(len(slices))))]
    for word, tag, binary in _SPLITTERS:
        groups = [
            part
            for group in groups
            for part in (
                _parted(group, word, tag, slices, places, binary=binary) if _repeats(group[1], places) else [group]
            )
        ]
    changes: tuple[str, ...] = ()
    final: list[_Group] = []
    for word, members in groups:
        if not _repeats(members, places):
            final.append((word, members))
            continue
        distinct = _distinct(members, slices, places)
        if not _repeats(distinct, places):
            changes = ("duplicates-dropped",)
            final.append((word, distinct))
            continue
        final.extend(_by_instance((word, members), slices, places))
    return Volumes(tuple((word, tuple(slices[place] for place in members)) for word, members in final), changes)


def _repeats(members: Sequence[int], places: NDArray[np.int64]) -> bool:
    return len(np.unique(places[list(members)])) < len(members)


def _parted(
    group: _Group, word: str, tag: int, slices: Sequence[Slice], places: NDArray[np.int64], *, binary: bool
) -> list[_Group]:
    """The group split by one element, or whole where that element doesn't tell its volumes apart."""
    label, members = group
    by_value: dict[tuple[float, ...] | tuple[str, ...], list[int]] = defaultdict(list)
    for place in members:
        header = slices[place].header
        by_value[header.doubles(tag) if binary else (header.numbers(tag) or header.texts(tag))].append(place)
    if len(by_value) < 2 or (() in by_value and word != "direction"):
        return [group]
    everywhere = set(places[members])
    covered = all(set(places[part]) == everywhere for part in by_value.values())
    # Acquisitions may cover different stretches of the body; anything else that does so is no volume of its own.
    apart = word == "acq" and all(not _repeats(part, places) and len(part) >= MIN_SLICES for part in by_value.values())
    if not (covered or apart):
        return [group]
    width = len(str(len(by_value)))
    parts = []
    for number, value in enumerate(sorted(by_value, key=_sortable), start=1):
        name = f"{word}{number:0{width}d}"
        parts.append((f"{label}_{name}" if label else name, by_value[value]))
    return parts


def _sortable(value: tuple[float, ...] | tuple[str, ...]) -> tuple[tuple[int, float, str], ...]:
    return tuple((0, part, "") if isinstance(part, float) else (1, 0.0, part) for part in value)


def _distinct(members: Sequence[int], slices: Sequence[Slice], places: NDArray[np.int64]) -> list[int]:
    """The first image at each position, where all images at each have the same stored pixels; else all images."""
    by_place: dict[int, list[int]] = defaultdict(list)
    for member in members:
        by_place[int(places[member])].append(member)
    for images in by_place.values():
        if len(images) > 1 and len({slices[member].pixel_digest() for member in images}) > 1:
            return list(members)
    return [images[0] for images in by_place.values()]


def _by_instance(group: _Group, slices: Sequence[Slice], places: NDArray[np.int64]) -> list[_Group]:
    """Where no element tells volumes apart: the first image at each position by InstanceNumber, the second, ..."""
    label, members = group
    by_place: dict[int, list[int]] = defaultdict(list)
    for member in members:
        by_place[int(places[member])].append(member)
    lengths = {len(images) for images in by_place.values()}
    most = max(lengths)
    if len(lengths) > 1:
        raise SplitFault(
            "unequal-volumes",
            f"Positions have {min(lengths)} to {most} images each, and nothing in their headers tells the volumes apart.",
        )
    numbers = [slices[member].header.integer(tags.INSTANCE_NUMBER) for member in members]
    if None in numbers or len(set(numbers)) < len(numbers):
        raise SplitFault(
            "several-images-at-one-position",
            f"Each position has {most} images, and nothing in their headers tells the volumes apart.",
        )
    stated = {slices[member].header.integer(tags.NUMBER_OF_TEMPORAL_POSITIONS) for member in members} - {None}
    if stated and stated != {most} and not label:
        raise SplitFault(
            "several-images-at-one-position",
            f"Each position has {most} images, but the headers state another number of points in time.",
        )
    for images in by_place.values():
        images.sort(key=lambda member: slices[member].header.integer(tags.INSTANCE_NUMBER) or 0)
    width = len(str(most))
    return [
        (f"{label}_{TIME}{number + 1:0{width}d}".lstrip("_"), [images[number] for images in by_place.values()])
        for number in range(most)
    ]
