"""Enhanced multi-frame images: each frame with the header of an equivalent single-frame image.

Where a frame lies and what its values stand for is told by functional groups alone (PS3.3, C.7.6.16.2), whatever else
the header says. The rest, such as echo time and diffusion weight, is given under the classic elements, so that frames
are ordered, split and verified as classic images are.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from volseg.dicom.file import frame_tags as frames
from volseg.dicom.file import tags
from volseg.dicom.file.elements import Item, Wanted
from volseg.dicom.file.header import read_items
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from volseg.dicom.file.header import Header

_RESCALE = (tags.RESCALE_SLOPE, tags.RESCALE_INTERCEPT)
_NEVER_OF_THE_FILE = frozenset(
    {tags.IMAGE_POSITION_PATIENT, tags.IMAGE_ORIENTATION_PATIENT, tags.PIXEL_SPACING, tags.RESCALE_TYPE, *_RESCALE}
)
"""What functional groups alone say; beside them it would be a second truth."""
_CONVERTED = (
    tags.ACQUISITION_NUMBER, tags.ECHO_NUMBERS, tags.ECHO_TIME, tags.TEMPORAL_POSITION_IDENTIFIER, tags.TRIGGER_TIME,
    tags.INVERSION_TIME, tags.ACQUISITION_TIME, tags.CONTENT_TIME, tags.KVP, tags.REPETITION_TIME, tags.FLIP_ANGLE,
    tags.CONVOLUTION_KERNEL,
)  # fmt: skip
"""Elements of classic images that legacy converted objects keep (PS3.3, C.7.6.16.2.25)."""

_GROUPS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (frames.PLANE_POSITION_SEQUENCE, (tags.IMAGE_POSITION_PATIENT,)),
    (frames.PLANE_ORIENTATION_SEQUENCE, (tags.IMAGE_ORIENTATION_PATIENT,)),
    (frames.PIXEL_MEASURES_SEQUENCE, (tags.PIXEL_SPACING, tags.SLICE_THICKNESS, tags.SPACING_BETWEEN_SLICES)),
    (frames.PIXEL_VALUE_TRANSFORMATION_SEQUENCE, (*_RESCALE, tags.RESCALE_TYPE)),
    (
        frames.FRAME_CONTENT_SEQUENCE,
        (
            frames.STACK_ID, frames.TEMPORAL_POSITION_INDEX, frames.DIMENSION_INDEX_VALUES,
            frames.FRAME_ACQUISITION_DATETIME, frames.FRAME_REFERENCE_DATETIME,
        ),
    ),
    (frames.MR_IMAGE_FRAME_TYPE_SEQUENCE, (frames.FRAME_TYPE, frames.COMPLEX_IMAGE_COMPONENT)),
    (frames.CT_IMAGE_FRAME_TYPE_SEQUENCE, (frames.FRAME_TYPE,)),
    (frames.PET_FRAME_TYPE_SEQUENCE, (frames.FRAME_TYPE,)),
    (frames.MR_ECHO_SEQUENCE, (frames.EFFECTIVE_ECHO_TIME,)),
    (frames.MR_TIMING_SEQUENCE, (tags.REPETITION_TIME, tags.FLIP_ANGLE, tags.ECHO_TRAIN_LENGTH)),
    (frames.MR_MODIFIER_SEQUENCE, (frames.INVERSION_TIMES,)),
    (frames.MR_AVERAGES_SEQUENCE, (tags.NUMBER_OF_AVERAGES,)),
    (frames.MR_DIFFUSION_SEQUENCE, (tags.DIFFUSION_B_VALUE,)),
    (frames.CARDIAC_SYNCHRONIZATION_SEQUENCE, (frames.NOMINAL_CARDIAC_TRIGGER_DELAY_TIME,)),
    (frames.CT_X_RAY_DETAILS_SEQUENCE, (tags.KVP,)),
    (frames.CT_RECONSTRUCTION_SEQUENCE, (tags.CONVOLUTION_KERNEL,)),
    (frames.CONTRAST_BOLUS_USAGE_SEQUENCE, (tags.CONTRAST_BOLUS_AGENT_PHASE,)),
    (frames.UNASSIGNED_SHARED_CONVERTED_ATTRIBUTES_SEQUENCE, _CONVERTED),
    (frames.UNASSIGNED_PER_FRAME_CONVERTED_ATTRIBUTES_SEQUENCE, _CONVERTED),
)  # fmt: skip
"""What is taken from which functional group."""

_AS_CLASSIC = (
    (frames.EFFECTIVE_ECHO_TIME, tags.ECHO_TIME),
    (frames.INVERSION_TIMES, tags.INVERSION_TIME),
    (frames.NOMINAL_CARDIAC_TRIGGER_DELAY_TIME, tags.TRIGGER_TIME),
)
"""Binary numbers in ms and the classic elements that hold the same as text."""

_WANTED = Wanted(
    frozenset(
        {
            *(tag for _, wanted in _GROUPS for tag in wanted),
            tags.DIFFUSION_GRADIENT_ORIENTATION, frames.DIMENSION_INDEX_POINTER,
        }
    ),
    frozenset(
        {
            *(sequence for sequence, _ in _GROUPS),
            frames.SHARED_FUNCTIONAL_GROUPS_SEQUENCE, frames.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
            frames.DIFFUSION_GRADIENT_DIRECTION_SEQUENCE, frames.DIMENSION_INDEX_SEQUENCE,
        }
    ),
)  # fmt: skip
_OF_PLACES = frozenset(
    {frames.STACK_ID, frames.IN_STACK_POSITION_NUMBER, tags.IMAGE_POSITION_PATIENT, frames.PLANE_POSITION_SEQUENCE}
)
"""Dimensions along which the slices of one volume follow each other."""


def frames_of(header: Header) -> tuple[Header, ...]:
    """The frames of an enhanced image in the order of the file, each as a header of its own.

    Position, orientation, pixel spacing and rescale are those of the frame's functional groups, or of the groups that
    all frames share (PS3.3, C.7.6.16.2.2, .3, .4 and .9), and absent where those don't give them.

    Args:
        header: of the file.

    Raises:
        InputError: ``damaged-file``, frames lack, or some have a rescale and others none; and what reading nested
            elements may raise.
        FileError: the file can't be read.
    """
    whole = read_items(header, _WANTED)
    groups = whole.items(frames.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
    declared = max(1, header.integer(tags.NUMBER_OF_FRAMES) or 1)
    if len(groups) != declared:
        raise InputError(
            f"A file declares {declared} frames and describes {len(groups)}. Export it again.", code="damaged-file"
        )
    volume_dimensions = _volume_dimensions(whole)
    shared = whole.first(frames.SHARED_FUNCTIONAL_GROUPS_SEQUENCE)
    of_all = dict(_values(shared)) if shared is not None else {}
    of_file = {tag: value for tag, value in header.values.items() if tag not in _NEVER_OF_THE_FILE}
    found = []
    for group in groups:
        own = of_all | dict(_values(group))
        _translate(own, volume_dimensions, big=whole.big_endian)
        found.append(own)
    for tag in _RESCALE:
        if len({bool(own.get(tag, b"").strip()) for own in found}) > 1:
            raise InputError(
                "Some frames of a file have a rescale and others none. Export it again.", code="damaged-file"
            )
    return tuple(replace(header, values=ChainMap(own, of_file)) for own in found)


def _values(group: Item) -> Iterator[tuple[int, bytes]]:
    """The wanted values of the functional groups that one item holds."""
    for sequence, wanted in _GROUPS:
        inner = group.first(sequence)
        if inner is None:
            continue
        for tag in wanted:
            if tag in inner.values:
                yield tag, inner.values[tag]
        for direction in inner.items(frames.DIFFUSION_GRADIENT_DIRECTION_SEQUENCE)[:1]:
            if tags.DIFFUSION_GRADIENT_ORIENTATION in direction.values:
                yield tags.DIFFUSION_GRADIENT_ORIENTATION, direction.values[tags.DIFFUSION_GRADIENT_ORIENTATION]


def _translate(own: dict[int, bytes], volume_dimensions: Sequence[int], *, big: bool) -> None:
    """Give what tells volumes apart under the classic elements, as text."""
    order: Literal["big", "little"] = "big" if big else "little"
    index = own.pop(frames.TEMPORAL_POSITION_INDEX, b"")
    if len(index) >= 4:
        own[tags.TEMPORAL_POSITION_IDENTIFIER] = str(int.from_bytes(index[:4], order)).encode()
    for binary, classic in _AS_CLASSIC:
        number = _first_double(own.pop(binary, b""), big=big)
        # A frame without an echo, such as a field map's, says that its echo time is 0.
        if number is not None and (number or classic != tags.ECHO_TIME):
            own[classic] = repr(number).encode()
    kinds = [own.pop(tag, b"").strip(b" \x00") for tag in (frames.FRAME_TYPE, frames.COMPLEX_IMAGE_COMPONENT)]
    if any(kinds):
        own[tags.IMAGE_TYPE] = b"\\".join(filter(None, kinds))
    values = own.pop(frames.DIMENSION_INDEX_VALUES, b"")
    numbers = [int.from_bytes(values[place : place + 4], order) for place in range(0, len(values) - 3, 4)]
    if volume_dimensions and len(numbers) > max(volume_dimensions):
        own[frames.DIMENSION_INDEX_VALUES] = "\\".join(str(numbers[place]) for place in volume_dimensions).encode()


def _first_double(raw: bytes, *, big: bool) -> float | None:
    numbers = Item({0: raw[:8]}, {}, big).doubles(0)
    return numbers[0] if numbers else None


def _volume_dimensions(whole: Item) -> tuple[int, ...]:
    """Which of the dimension index values tell volumes apart, not the slices of one (PS3.3, C.7.6.17)."""
    pointers = []
    for item in whole.items(frames.DIMENSION_INDEX_SEQUENCE):
        raw = item.values.get(frames.DIMENSION_INDEX_POINTER, b"")
        order: Literal["big", "little"] = "big" if item.big_endian else "little"
        # An attribute tag is two words (PS3.5, 6.2).
        words = [int.from_bytes(raw[place : place + 2], order) for place in (0, 2)] if len(raw) >= 4 else [0, 0]
        pointers.append(words[0] << 16 | words[1])
    return tuple(place for place, pointer in enumerate(pointers) if pointer not in _OF_PLACES)
