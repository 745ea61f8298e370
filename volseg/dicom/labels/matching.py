"""Matching label objects with the series that they refer to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.dicom.file.files import LABEL_OBJECTS
from volseg.dicom.labels.label_object import ON_SLICE, ImageReference
from volseg.dicom.labels.segmentation import read_segmentation
from volseg.dicom.labels.structure_set import read_structure_set
from volseg.outcomes import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from volseg.dicom.file.header import Header
    from volseg.dicom.labels.label_object import LabelObject
    from volseg.dicom.series.series import Rejected, Series


@dataclass(frozen=True)
class Unmatched:
    """Why a label object belongs to no series that can be converted.

    Args:
        status: skipped where the images are not there, refused where nobody can tell which they are.
        code: the stable reason code.
        message: the sentence for a person.
    """

    status: Status
    code: str
    message: str


BY_FRAME, BY_SERIES = "matched-by-frame", "matched-by-series"

OF_REFUSED = Unmatched(
    Status.SKIPPED, "labels-of-refused-series", "The series that it was drawn on was refused, skipped or not chosen."
)
OTHER_FRAME = Unmatched(
    Status.REFUSED,
    "other-frame-of-reference",
    "Its positions are given in another frame of reference than those of its images, so they mean nothing there. Export "
    "both again from one system.",
)


@dataclass(frozen=True)
class Matched:
    """The series that a label object was drawn on.

    Args:
        numbers: of the series.
        by: ``matched-by-frame`` or ``matched-by-series`` where nothing but the frame of reference, or nothing but
            SeriesInstanceUID leads there: the object was drawn on other images, in the same millimetres. Else empty.
        parts: the places of the frames or contours that were drawn on each, by its number; empty where all were on all.
    """

    numbers: tuple[int, ...]
    by: str = ""
    parts: Mapping[int, frozenset[int]] = field(default_factory=dict)


def read_label_object(header: Header, name: str) -> LabelObject:
    """Read what a segmentation or structure set says of its structures and of the images that it was drawn on.

    Args:
        header: of a file whose SOP class is in ``LABEL_OBJECTS``.
        name: of the file relative to the folder that the user gave; private.

    Raises:
        InputError: the file is damaged, of a type that is not known, or declares too much.
        FileError: it can't be read.
    """
    kind = LABEL_OBJECTS[header.uid(tags.SOP_CLASS_UID)]
    return read_structure_set(header, name) if kind == "RTSTRUCT" else read_segmentation(header, name)


@dataclass(frozen=True, eq=False)
class SeriesIndex:
    """Series by what label objects refer to.

    Args:
        series: those that can be converted.
        rejected: those that can't.
        case_of: the first series of the case that a series is a channel of, by number; every other is its own case.
    """

    series: Sequence[Series]
    rejected: Sequence[Rejected]
    case_of: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def _by_uid(self) -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for number, one in enumerate(self.series):
            found[one.identity.series_uid].append(number)
        return found

    @cached_property
    def _by_image(self) -> Mapping[ImageReference, set[int]]:
        """Series by their files, and by the frames of these."""
        found: dict[ImageReference, set[int]] = defaultdict(set)
        for number, one in enumerate(self.series):
            for image in one.slices:
                uid = image.header.uid(tags.SOP_INSTANCE_UID)
                found[ImageReference(uid, 0)].add(number)
                found[ImageReference(uid, image.frame + 1)].add(number)
        return found

    @cached_property
    def _by_frame(self) -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for number, one in enumerate(self.series):
            found[_frame(one)].append(number)
        return found

    def match(self, labels: LabelObject) -> Matched | Unmatched:
        """The series that a label object was drawn on.

        By SeriesInstanceUID; where that names several volumes or none that is there, by ReferencedSOPInstanceUID; where
        neither leads to a series, by the FrameOfReferenceUID, if it is that of one series alone. The frame of
        reference must be the same in the end, since positions mean nothing in another (PS3.3, C.7.4.1). Where other
        volumes of its series were refused, and it names images but none of those that are there, it is theirs.

        Of several volumes, each frame or contour goes to those whose images it names; where it names none, or a file
        that holds several, to the one on whose slices it lies.

        Raises:
            InputError, FileError: as ``LabelObject.off_slices_mm``.
        """
        references = labels.references
        found = sorted(number for uid in references.series for number in self._by_uid.get(uid, ()))
        named = self._named(labels)
        elsewhere = bool(references.instances) and named.isdisjoint(found)
        if found and elsewhere and self._is_of_rejected(references.series):
            return OF_REFUSED
        if len(found) != 1:
            holding = sorted(named.intersection(found)) if found else sorted(named)
            if not holding and len({self.series[number].identity.series_uid for number in found}) < len(found):
                return _ambiguous(len(found), "come from the series that it refers to, and it names no image of theirs")
            found = holding or found
        if not found:
            return self._by_frame_alone(labels)
        if self._is_of_rejected(references.series) and self._names_lost_frames(labels):
            return OF_REFUSED
        sound = [number for number in found if shares_frame(self.series[number], references.frames)]
        if not sound:
            return OTHER_FRAME
        if len(sound) == 1:
            elsewhere = bool(references.instances) and named.isdisjoint(found)
            return Matched(tuple(sound), BY_SERIES if elsewhere and len(found) == 1 else "")
        return self._divided(labels, sound)

    def _named(self, labels: LabelObject) -> set[int]:
        """The series whose images an object names; a file of which it names frames stands for these alone."""
        images = {image for part in labels.parts for image in part.images}
        by_frame = {image.uid for image in images if image.frame}
        images |= {ImageReference(uid, 0) for uid in labels.references.instances - by_frame}
        return {number for image in images for number in self._by_image.get(image, ())}

    def _names_lost_frames(self, labels: LabelObject) -> bool:
        """Whether a part was drawn on frames of a file that is there, which no volume has."""
        images = {image for part in labels.parts for image in part.images if image.frame}
        return any(ImageReference(one.uid, 0) in self._by_image and one not in self._by_image for one in images)

    def _divided(self, labels: LabelObject, sound: Sequence[int]) -> Matched | Unmatched:
        """Which parts of an object were drawn on which of several series."""
        by_uid: dict[str, set[int]] = defaultdict(set)
        for number in sound:
            by_uid[self.series[number].identity.series_uid].add(number)
        on_slices: dict[int, NDArray[np.bool_]] = {}
        parts: dict[int, set[int]] = defaultdict(set)
        for place, part in enumerate(labels.parts):
            named = [self._by_image.get(image, set()).intersection(sound) for image in part.images]
            for volumes in [some for some in named if some] or by_uid.values():
                on = volumes
                if len(volumes) > 1:
                    for number in volumes - on_slices.keys():
                        geometry = self.series[number].geometry
                        off_mm = labels.off_slices_mm(self.series[number])
                        on_slices[number] = off_mm <= ON_SLICE * float(geometry.gaps_mm.min())
                    on = {number for number in volumes if on_slices[number][place]} or volumes
                if len({self.case_of.get(number, number) for number in on}) > 1:
                    return _ambiguous(
                        len(on),
                        "come into question for a part of it, which names no image or frame of one of them alone",
                    )
                for number in on:
                    parts[number].add(place)
        if all(len(some) == len(labels.parts) for some in parts.values()):
            return Matched(tuple(sorted(parts)) or tuple(sound))
        return Matched(tuple(sorted(parts)), "", {number: frozenset(some) for number, some in parts.items()})

    def _is_of_rejected(self, series: Collection[str]) -> bool:
        return any(one.identity.series_uid in series for one in self.rejected)

    def _by_frame_alone(self, labels: LabelObject) -> Matched | Unmatched:
        references = labels.references
        if self._is_of_rejected(references.series):
            return OF_REFUSED
        found = sorted({number for uid in references.frames for number in self._by_frame.get(uid, ())})
        if len({self.case_of.get(number, number) for number in found}) > 1:
            return _ambiguous(len(found), "share its frame of reference, and those that it refers to are not there")
        if not found:
            return Unmatched(
                Status.SKIPPED, "labels-without-series", "The series that it was drawn on is not among the files."
            )
        return Matched(tuple(found), BY_FRAME)


def _ambiguous(count: int, why: str) -> Unmatched:
    return Unmatched(
        Status.REFUSED, "ambiguous-labels", f"{count} volumes {why}, so nobody can tell which one it was drawn on."
    )


def _frame(series: Series) -> str:
    return series.slices[0].header.uid(tags.FRAME_OF_REFERENCE_UID)


def shares_frame(series: Series, frames: Collection[str]) -> bool:
    """Whether a series is in one of some frames of reference; so it counts where either side doesn't say."""
    frame = _frame(series)
    return not frame or not frames or frame in frames
