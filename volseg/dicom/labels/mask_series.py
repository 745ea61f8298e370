"""Series of images that are masks: two values, slice on slice with the image that they were drawn on.

No standard tells of them. Old tools and some public sets write a structure as a CT or MR series of its own, with
identifiers that may be missing, made up, or those of the image itself; so the grid decides where it belongs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.dicom.file import tags
from volseg.dicom.labels.label_object import (
    MAX_NAME_LENGTH,
    Drawing,
    LabelObject,
    Note,
    References,
    Structure,
    require_structures,
)
from volseg.dicom.labels.matching import Unmatched
from volseg.dicom.labels.painting import Patch, paint
from volseg.dicom.labels.segment_frames import Frames, places_on_slices
from volseg.dicom.series.loading import slice_values
from volseg.errors import InputError
from volseg.nomenclature import key_of
from volseg.outcomes import Status
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.dicom.series.series import Rejected, Series

BY_GRID = "matched-by-grid"
"""The code of masks that say of no frame of reference, or of another one than their image's."""
MOSTLY_FILLED = "mostly-filled"
"""The code of a structure that fills more than half of its image."""


@dataclass(frozen=True, eq=False)
class NamedSeries:
    """A series that is to be a mask.

    Args:
        series: its slices.
        name: of the structure.
        given: whether a person gave the name, or it is that of a folder.
    """

    series: Series
    name: str
    given: bool


@dataclass(frozen=True, eq=False)
class MaskSeries(LabelObject):
    """The series that are masks on one image: a structure each, numbered from 1."""

    kind: ClassVar[str] = "mask series"

    series: tuple[Series, ...] = field(default_factory=tuple)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of all its series."""
        return tuple(dict.fromkeys(image.header.path for one in self.series for image in one.slices))

    @property
    def count(self) -> int:
        """How many series it is."""
        return len(self.series)

    def off_slices_mm(self, series: Series) -> NDArray[np.float64]:
        """0 where a mask lies on the slices of a series."""
        return np.array([0.0 if lies_on(one, series) else np.inf for one in self.series])

    def draw(self, series: Series, chosen: Mapping[int, int], parts: Collection[int] | None = None) -> Drawing:
        """Draw masks, which have no parts: the higher of two values is the structure.

        Raises:
            InputError: ``not-a-mask``, a series has more values than two, or one that is not 0; and what reading pixels
                may raise.
            FileError: a file can't be read.
        """
        assert parts is None, "whole series are matched"
        masks = [(index, _Mask.of(self.series[number - 1])) for number, index in sorted(chosen.items())]
        columns, rows = series.geometry.size

        def patches(k: int) -> Iterator[tuple[int, Patch]]:
            for index, mask in masks:
                patch, _ = Patch.of_plane(mask.plane(k), 0, 0, (rows, columns))
                if patch is not None:
                    yield index, patch

        painted = paint((len(series.slices), rows, columns), chosen.values(), patches)
        right_mm, down_mm = series.geometry.pixel_mm
        voxel_mm3 = right_mm * down_mm * series.geometry.spacing_mm
        frame = _frame(series)
        apart = any(not frame or _frame(one) != frame for one in self.series)
        return Drawing(
            painted.labels,
            None,
            {index: painted.counts.get(index, 0) * voxel_mm3 for index, _ in masks},
            painted.overlaps,
            (BY_GRID,) if apart else (),
            tuple(
                Note(MOSTLY_FILLED, index, count)
                for index, count in sorted(painted.counts.items())
                if 2 * count > painted.labels.size
            ),
        )


@dataclass(frozen=True, eq=False)
class _Mask:
    bits: NDArray[np.uint8]
    """(slices, bytes): 512 x 512 x 500 take 16 MB, and a case may have fifty such."""
    size: tuple[int, int]

    @classmethod
    def of(cls, series: Series) -> _Mask:
        values = slice_values(series)
        low, high = values.min(), values.max()
        filled = values == high
        nothing = (0, series.slices[0].intercept)  # as a pixel of 0 may stand for either
        if not ((values == low) | filled).all() or (low == high and high not in nothing):
            error = InputError(
                "A series that was taken for a mask has more values than two, or one that is not 0, so it is none. Name "
                "the masks alone by --masks-from.",
                code="not-a-mask",
            )
            error.private = series.source
            raise error
        if low == high:
            filled[...] = False
        columns, rows = series.geometry.size
        return cls(np.packbits(filled.reshape(len(filled), -1), axis=1), (rows, columns))

    def plane(self, k: int) -> NDArray[np.bool_]:
        rows, columns = self.size
        return np.unpackbits(self.bits[k], count=rows * columns).reshape(rows, columns).view(bool)


def lies_on(mask: Series, image: Series) -> bool:
    """Whether a series has the slices of another, one to one and pixel on pixel."""
    first, second = mask.geometry, image.geometry
    count = len(mask.slices)
    if count != len(image.slices) or first.size != second.size:
        return False
    frames = Frames(
        header=mask.slices[0].header,
        numbers=np.arange(count),
        segments=np.zeros(count, np.int64),
        positions_mm=first.positions_mm,
        axes=first.axes,
        pixel_mm=first.pixel_mm,
        size=first.size,
        spacing_mm=None,
        thickness_mm=None,
    )
    places = places_on_slices(frames, second)
    return (
        places is not None
        and not places.rows.any()
        and not places.columns.any()
        and np.array_equal(places.planes, np.arange(count))
    )


OFF_GRID = Unmatched(
    Status.REFUSED,
    "mask-off-grid",
    "It lies on no image, slice on slice and pixel on pixel, so nobody can tell where its structure is. Convert it with "
    "its image.",
)
AMBIGUOUS = Unmatched(
    Status.REFUSED,
    "ambiguous-mask",
    "Several images lie on its grid, and nothing tells which one it was drawn on. If the others are masks, name them "
    "by --masks-from as well and choose labels by --labels; else convert one image at a time, by --series.",
)
PERHAPS_OF_REFUSED = Unmatched(
    Status.REFUSED,
    "ambiguous-mask",
    "An image lies on its grid, but a series that was refused may be the one that it was drawn on. Export that one again, "
    "or choose the image by --series.",
)
SAME_NAME = Unmatched(
    Status.REFUSED,
    "conflicting-labels",
    "Two mask series of one image lie in folders of the same name, or of names that differ in case, blanks or "
    "punctuation alone, so they may be two persons' drawings. Name them by --masks-from, such as liver=*first/liver.",
)
INCOMPLETE = Unmatched(
    Status.SKIPPED,
    "labels-incomplete",
    "Not drawn, since another mask series of its study was refused and structures would be missing.",
)


def assign_masks(
    masks: Sequence[NamedSeries], images: Sequence[Series], rejected: Sequence[Rejected], case_of: Mapping[int, int]
) -> tuple[dict[int, MaskSeries], list[tuple[NamedSeries, Unmatched]]]:
    """Find the image of each mask: the one whose grid it has.

    Of several, one of its own study goes before others, and one of its frame of reference. Where any image of its study
    is there, it belongs to one of these; and never to one of another PatientID. It goes to none where it may belong to
    one that was refused.

    Args:
        masks: that are to be drawn.
        images: that are converted.
        rejected: that are not, whose studies are there nevertheless.
        case_of: the first series of the case that a series is a channel of, by number.

    Returns:
        The masks of each image by its number, and those that are not drawn.

    Raises:
        InputError: ``declares-too-much``.
    """
    by_image: dict[int, list[NamedSeries]] = defaultdict(list)
    left: list[tuple[NamedSeries, Unmatched]] = []
    there: list[Series | Rejected] = [*images, *rejected]
    studies = {one.identity.study_uid for one in there} - {""}
    for mask in masks:
        found = _images_of(mask.series, images, studies)
        cases = {case_of.get(number, number) for number in found}
        if len(cases) != 1:
            left.append((mask, AMBIGUOUS if cases else OFF_GRID))
        elif any(_may_be_of(mask.series, one, images[found[0]], studies) for one in rejected):
            left.append((mask, PERHAPS_OF_REFUSED))
        else:
            by_image[found[0]].append(mask)
    for number, members in list(by_image.items()):
        unnamed = [key_of(mask.name) for mask in members if not mask.given]
        if len(set(unnamed)) < len(unnamed):
            left.extend((mask, SAME_NAME) for mask in by_image.pop(number))
    faulty = {mask.series.identity.study_uid for mask, _ in left} - {""}
    for number, members in list(by_image.items()):
        if any(mask.series.identity.study_uid in faulty for mask in members):
            left.extend((mask, INCOMPLETE) for mask in by_image.pop(number))
    return {number: _object(members) for number, members in by_image.items()}, left


def _images_of(mask: Series, images: Sequence[Series], studies: set[str]) -> list[int]:
    frame = _frame(mask)
    found = [
        number for number, image in enumerate(images) if _may_belong(mask, image, studies) and lies_on(mask, image)
    ]
    same = [number for number in found if frame and _frame(images[number]) == frame]
    return same or found


def _may_belong(mask: Series, one: Series | Rejected, studies: set[str]) -> bool:
    """Whether patient and study are the same, as far as they are known."""
    mine, other = mask.identity, one.identity
    of_others = mine.patient_id and other.patient_id and mine.patient_id != other.patient_id
    of_another = mine.study_uid in studies and other.study_uid != mine.study_uid
    return not of_others and not of_another


def _may_be_of(mask: Series, one: Rejected, image: Series, studies: set[str]) -> bool:
    """Whether a mask may have been drawn on a refused series and not on the image whose grid it has.

    It may where that one has about as many images, and is of its study or, where that is unknown, lies nearer to it.
    """
    if one.status is not Status.REFUSED or one.modality != image.modality or 2 * one.count <= len(mask.slices):
        return False
    nearer = _shared_folders(mask, one) > _shared_folders(mask, image)
    return _may_belong(mask, one, studies) and (mask.identity.study_uid in studies or nearer)


def _shared_folders(first: Series | Rejected, second: Series | Rejected) -> int:
    pairs = zip(first.source.split("/"), second.source.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _object(members: Sequence[NamedSeries]) -> MaskSeries:
    require_structures(len(members))
    series = tuple(mask.series for mask in members)
    structures = (Structure(number, mask.name, len(mask.series.slices)) for number, mask in enumerate(members, start=1))
    source = os.path.commonpath([one.source for one in series]) or "."
    return MaskSeries(series[0].slices[0].header, source, References(), tuple(structures), series=series)


def folder_of(series: Series) -> str:
    """The folder that the files of a series lie in, relative to the one that was given; empty for that one itself."""
    return os.path.commonpath([image.name.rpartition("/")[0] for image in series.slices])


def folder_name(series: Series) -> str:
    """The last part of a series' folder, made printable; empty where it is the one that was given."""
    return printable(" ".join(folder_of(series).rpartition("/")[2].split()))[:MAX_NAME_LENGTH].strip()


def _frame(series: Series) -> str:
    return series.slices[0].header.uid(tags.FRAME_OF_REFERENCE_UID)
