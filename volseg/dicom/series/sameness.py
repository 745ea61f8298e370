"""What the slices of one volume agree in, and what else may tell volumes apart where positions repeat."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.file import frame_tags, tags
from volseg.dicom.series.component import component_of
from volseg.dicom.series.diffusion import diffusion_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from volseg.dicom.file.header import Header
    from volseg.dicom.series.diffusion import Diffusion
    from volseg.dicom.series.slices import Slice

Value = tuple[float, ...] | tuple[str, ...]
"""Of an element; empty where it is absent, which is a value of its own."""

SAME_NUMBER = 1e-4
"""Of a number: what spelling and rounding leave between two that are one."""
MAX_TOLD = 9
"""Values with more parts than this are not told: an element may have thousands."""
HOW_IT_WAS_MADE = frozenset({"ADD"})
"""Words in ImageType that tell how a slice was put together, not what it shows. GE marks those with ``ADD`` that are
the sum of thinner ones; a head scan may have them beside others in one stack."""
KERNELS = re.compile(
    r"[ABCDHIJQSTUVEDF][rlvfcpsud]?\d\d[a-z]?|FC\d\d|STANDARD|STND|SOFT|DETAIL|LUNG|BONE|BONEPLUS|CHST|EDGE|"
    r"[A-FL]|[YUSI][A-D]"
)
"""The kernels of Siemens, such as B30f, Canon, GE and Philips; a closed list, written in short."""
KNOWN_TYPES = frozenset(
    {"M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "W", "F", "WATER", "FAT", "IP", "OP", "IN_PHASE",
     "OUT_PHASE", "OPP_PHASE", "ADC", "FA", "TRACEW", "AXIAL", "MPR", "MIP", "ND", "NORM", "MEAN", "DIFFUSION"}
)  # fmt: skip
"""Words in ImageType that may be told to a person; others are free text."""


@dataclass(frozen=True)
class Mark:
    """An element of a header, or a few, that may tell volumes apart.

    Args:
        word: in the names of parts.
        keyword: of the element (PS3.6).
        read: its value.
        tags: what the value depends on; empty where that is more than elements at hand.
        unit: of its number.
        bounds: a number within them may be told to a person; None where no value may.
        floor: numbers are the same within ``SAME_NUMBER`` of this where they are smaller.
        told: the value by the diffusion weighting, which is read once for all marks; None where it is of another kind.
    """

    word: str
    keyword: str
    read: Callable[[Header], Value]
    tags: tuple[int, ...]
    unit: str = ""
    bounds: tuple[float, float] | None = None
    floor: float = 0.0
    told: Callable[[Diffusion], Value] | None = None


def _numeric(
    word: str, keyword: str, tag: int, unit: str = "", bounds: tuple[float, float] | None = (0, 100_000)
) -> Mark:
    def read(header: Header) -> Value:
        return header.numbers(tag) or header.texts(tag)

    return Mark(word, keyword, read, (tag,), unit, bounds)


def _textual(word: str, keyword: str, *of: int) -> Mark:
    def read(header: Header) -> Value:
        found = tuple("\\".join(header.texts(tag)).rstrip("\\") for tag in of)
        return found if any(found) else ()

    return Mark(word, keyword, read, of)


def _weighted(word: str, keyword: str, told: Callable[[Diffusion], Value], **more: Any) -> Mark:
    return Mark(word, keyword, lambda header: told(diffusion_of(header)), (), told=told, **more)


def _b_value(diffusion: Diffusion) -> Value:
    return () if diffusion.b_value_s_mm2 is None else (diffusion.b_value_s_mm2,)


def _direction(diffusion: Diffusion) -> Value:
    return diffusion.direction


def _image_type(header: Header) -> Value:
    words = [word.upper() for word in header.texts(tags.IMAGE_TYPE)[2:]]
    return tuple(word for word in words if word and word not in HOW_IT_WAS_MADE)


def _component(header: Header) -> Value:
    component = component_of(header)
    return (component.upper(),) if component else ()


PATIENT = _textual("patient", "PatientID", tags.PATIENT_ID, tags.ISSUER_OF_PATIENT_ID)
TIME = _numeric("time", "TemporalPositionIdentifier", tags.TEMPORAL_POSITION_IDENTIFIER)
IMAGE_TYPE = Mark("type", "ImageType", _image_type, (tags.IMAGE_TYPE,))
_COMPONENT = Mark("type", "ComplexImageComponent", _component, ())
"""Beside ImageType, in which GE doesn't tell it."""
DIRECTION = _weighted("direction", "DiffusionGradientOrientation", _direction, bounds=(-1, 1), floor=1.0)
_MODALITY = _textual("modality", "Modality", tags.MODALITY)
_ECHO_NUMBERS = _numeric("echo", "EchoNumbers", tags.ECHO_NUMBERS)
_ECHO_TIME = _numeric("echo", "EchoTime", tags.ECHO_TIME, "ms")
_B_VALUE = _weighted("b", "DiffusionBValue", _b_value, bounds=(0, 1_000_000))
_INVERSION_TIME = _numeric("inversion", "InversionTime", tags.INVERSION_TIME, "ms")
_FLIP_ANGLE = _numeric("flip", "FlipAngle", tags.FLIP_ANGLE, "degrees")
_REPETITION_TIME = _numeric("repetition", "RepetitionTime", tags.REPETITION_TIME, "ms")
_KERNEL = _textual("kernel", "ConvolutionKernel", tags.CONVOLUTION_KERNEL)
_CONTRAST = _textual("contrast", "ContrastBolusAgent", tags.CONTRAST_BOLUS_AGENT)
_CONTRAST_PHASE = _textual("contrast", "ContrastBolusAgentPhase", tags.CONTRAST_BOLUS_AGENT_PHASE)

ACQUISITION = _numeric("acq", "AcquisitionNumber", tags.ACQUISITION_NUMBER)
_TRIGGER_TIME = _numeric("phase", "TriggerTime", tags.TRIGGER_TIME, "ms")
_WHOLE_TYPE = _textual("type", "ImageType", tags.IMAGE_TYPE)
_MOMENTS = (
    _textual("time", "AcquisitionTime", tags.ACQUISITION_TIME),
    _textual("time", "ContentTime", tags.CONTENT_TIME),
    _textual("dimension", "DimensionIndexValues", frame_tags.DIMENSION_INDEX_VALUES),
    _textual("time", "FrameAcquisitionDateTime", frame_tags.FRAME_ACQUISITION_DATETIME),
    _textual("time", "FrameReferenceDateTime", frame_tags.FRAME_REFERENCE_DATETIME),
    _numeric("time", "InstanceNumber", tags.INSTANCE_NUMBER, bounds=None),
)

AGREED = (
    PATIENT, _MODALITY, TIME, _ECHO_NUMBERS, _ECHO_TIME, _B_VALUE, DIRECTION, _INVERSION_TIME, _FLIP_ANGLE,
    _REPETITION_TIME, IMAGE_TYPE, _COMPONENT, _KERNEL, _CONTRAST, _CONTRAST_PHASE,
)  # fmt: skip
"""The slices of a volume agree in these, as in study, frame of reference, size and spacing."""
TELLING = (ACQUISITION, _TRIGGER_TIME, _WHOLE_TYPE, *_MOMENTS)
"""What tells volumes apart where positions repeat, the most telling first. In a good volume it may vary."""
NAMING = (
    PATIENT, _MODALITY, TIME, ACQUISITION, _ECHO_NUMBERS, _ECHO_TIME, _TRIGGER_TIME, _B_VALUE, DIRECTION,
    _INVERSION_TIME, _WHOLE_TYPE, IMAGE_TYPE, _COMPONENT, _FLIP_ANGLE, _REPETITION_TIME, _KERNEL, _CONTRAST, _CONTRAST_PHASE,
    *_MOMENTS,
)  # fmt: skip
"""What names volumes, the first that tells them apart."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The values of images by rank.

    Args:
        ranks: (n,) of each image's value among all.
        values: by rank, ascending; what is absent goes first.
    """

    ranks: NDArray[np.int64]
    values: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Marked:
    """Images and the values of their marks, each read once."""

    slices: Sequence[Slice]
    _ranked: dict[Mark, Ranked] = field(default_factory=dict)

    def of(self, mark: Mark) -> Ranked:
        """The values of a mark; numbers that differ by rounding alone are one."""
        found = self._ranked.get(mark)
        if found is None:
            read, told = mark.read, mark.told
            if told is not None:
                read = lambda header: told(self._diffusion[id(header)])
            found = self._ranked[mark] = _ranked(mark, [image.header for image in self.slices], read)
        return found

    @cached_property
    def _diffusion(self) -> dict[int, Diffusion]:
        headers = {id(image.header): image.header for image in self.slices}
        return {number: diffusion_of(header) for number, header in headers.items()}


def _ranked(mark: Mark, headers: Sequence[Header], read_value: Callable[[Header], Value]) -> Ranked:
    known: dict[object, Value] = {}
    read: list[Value] = []
    for header in headers:
        key: object = tuple(header.values.get(tag) for tag in mark.tags) or id(header)
        value = known.get(key)
        if value is None:
            value = known[key] = read_value(header)
        read.append(value)
    distinct = set(read)
    if len(distinct) == 1:
        return Ranked(np.zeros(len(read), np.int64), (read[0],))
    same = _same(distinct, mark.floor)
    values = sorted(set(same.values()), key=_sortable)
    ranks = {value: rank for rank, value in enumerate(values)}
    return Ranked(np.array([ranks[same[value]] for value in read]), tuple(values))


def _same(values: Iterable[Value], floor: float) -> dict[Value, Value]:
    """Each value, and the one that stands for all that are the same."""
    texts: dict[Value, Value] = {}
    numbers: list[tuple[float, ...]] = []
    for value in values:
        found = tuple(part for part in value if isinstance(part, float))
        if found:
            numbers.append(found)
        else:
            texts[value] = value
    width = max(map(len, numbers), default=0)
    levels = [_levels((value[place] for value in numbers if place < len(value)), floor) for place in range(width)]
    return texts | {value: tuple(level[part] for level, part in zip(levels, value, strict=False)) for value in numbers}


def _levels(numbers: Iterable[float], floor: float) -> dict[float, float]:
    """Each number, and the lowest of those that are the same: neighbours in order whose distance is rounding."""
    found: dict[float, float] = {}
    level = before = 0.0
    for number in sorted(set(numbers)):
        if not found or number - before > SAME_NUMBER * max(abs(number), abs(before), floor):
            level = number
        found[number] = level
        before = number
    return found


def _sortable(value: Value) -> tuple[tuple[int, float, str], ...]:
    return tuple((0, part, "") if isinstance(part, float) else (1, 0.0, part) for part in value)


def described(mark: Mark, value: Value, values: Sequence[Value]) -> str:
    """A value in words that hold nothing private: numbers within bounds and known words, else that it is one of some.

    Args:
        mark: whose value it is.
        value: the value.
        values: all that the images have.
    """
    numbers = [part for part in value if isinstance(part, float)]
    if not value:
        return f"What has no {mark.keyword}"
    if len(value) > MAX_TOLD:
        return f"One of {len(values)} values of {mark.keyword}"
    if mark.bounds and numbers and all(mark.bounds[0] <= number <= mark.bounds[1] for number in numbers):
        return " ".join(filter(None, (mark.keyword, ", ".join(f"{number:.6g}" for number in numbers), mark.unit)))
    if mark in (IMAGE_TYPE, _COMPONENT):
        known = [[part for part in one if part in KNOWN_TYPES] for one in (value, *values)]
        if known[0] and known[1:].count(known[0]) == 1:
            return f"{mark.keyword} {', '.join(map(str, known[0]))}"
    if mark is _KERNEL and KERNELS.fullmatch(str(value[0])) and [one[:1] for one in values].count(value[:1]) == 1:
        return f"{mark.keyword} {value[0]}"
    return f"One of {len(values)} values of {mark.keyword}"
