"""Diffusion weighting of an image, from public elements or its maker's private ones.

Where makers put it is described by dcm2niix (the README of each maker) and NA-MIC ("DICOM for DWI and DTI").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.file import private_tags as private
from volseg.dicom.file import tags
from volseg.dicom.file.csa import csa_number, read_csa
from volseg.dicom.file.elements import Wanted
from volseg.dicom.file.files import CLASSIC_IMAGES, ENHANCED_IMAGES
from volseg.dicom.file.header import read_items
from volseg.errors import FileError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.dicom.file.header import Header

MIN_B_VALUE, MAX_B_VALUE = 0.01, 1e6
"""In s/mm2, beside 0. Preclinical scanners reach some 100,000; text that is read as binary gives less than the least."""
GE_BIAS = 1_000_000_000
"""GE adds it to the b-value of series with several."""

_CSA = Wanted(private.all_places([private.CSA_IMAGE_HEADER]))
_CSA_NAMES = ("B_value", "DiffusionGradientDirection")
_ECHO_PLANAR = "EP"

_Blocks = dict[tuple[int, str], list[int]]


@dataclass(frozen=True, slots=True)
class Diffusion:
    """How an image is weighted by diffusion.

    Args:
        b_value_s_mm2: the b-value; None where nothing tells it. It may be 0 for an image that is no diffusion image.
        direction: of the gradient, three numbers; empty where there is none, as with b-value 0 and in a trace.
        of_patient: whether the direction is along the patient's axes (LPS). GE and UIH give it along those of the image.
    """

    b_value_s_mm2: float | None = None
    direction: tuple[float, ...] = ()
    of_patient: bool = True


def diffusion_of(header: Header) -> Diffusion:
    """The diffusion weighting of an MR image; nothing for any other.

    Public elements go before private ones. Siemens' CSA header, for which the file is read again, is asked where it
    alone may tell: in echo-planar images without any other b-value.

    Args:
        header: of a file or of one of its frames.
    """
    sop_class = header.uid(tags.SOP_CLASS_UID)
    if "MR" not in (CLASSIC_IMAGES.get(sop_class), ENHANCED_IMAGES.get(sop_class)):
        return Diffusion()
    b_value = _b_value(header.doubles(tags.DIFFUSION_B_VALUE)[:1])
    direction, of_patient = _direction(header.doubles(tags.DIFFUSION_GRADIENT_ORIENTATION)), True
    # Private elements at the top of an enhanced file are about none of its frames.
    if sop_class in ENHANCED_IMAGES or (b_value is not None and direction):
        return Diffusion(b_value, direction)
    blocks = private.reserved_blocks(header)
    if b_value is None:
        b_value = _private_b_value(header, blocks)
    if not direction:
        direction, of_patient = _private_direction(header, blocks, weighted=bool(b_value))
    csa = (private.CSA_IMAGE_HEADER.group, private.CSA_IMAGE_HEADER.creator)
    if b_value is None and csa in blocks and _ECHO_PLANAR in header.texts(tags.SCANNING_SEQUENCE):
        texts = _csa_texts(header)
        b_values, directions = ([csa_number(text) for text in texts.get(name, ())] for name in _CSA_NAMES)
        b_value = _b_value(b_values[:1])
        direction = direction or _direction(directions)
    return Diffusion(b_value, direction, of_patient)


def _private_b_value(header: Header, blocks: _Blocks) -> float | None:
    found: list[Sequence[float]] = [
        *(header.numbers(tag)[:1] for tag in private.places(header, private.SIEMENS_B_VALUE, blocks)),
        *(_without_bias(header.numbers(tag)[:1]) for tag in private.places(header, private.GE_B_VALUE, blocks)),
        *(header.floats(tag) for tag in private.places(header, private.PHILIPS_B_VALUE, blocks)),
        *(header.doubles(tag) for tag in private.places(header, private.UIH_B_VALUE, blocks)),
    ]
    return next((number for number in map(_b_value, found) if number is not None), None)


def _private_direction(header: Header, blocks: _Blocks, *, weighted: bool) -> tuple[tuple[float, ...], bool]:
    """The direction, and whether it is along the patient's axes.

    Where an image is not weighted, the elements that GE's direction is in may hold something else.
    """

    def first(element: private.PrivateElement) -> int:
        return next(iter(private.places(header, element, blocks)), 0)

    siemens = header.doubles(first(private.SIEMENS_DIRECTION))
    philips = [number for one in private.PHILIPS_DIRECTION for number in header.floats(first(one))]
    for of_patient in (siemens, philips):
        if _direction(of_patient):
            return _direction(of_patient), True
    if not weighted:
        return (), True
    ge = [number for one in private.GE_DIRECTION for number in header.numbers(first(one))]
    of_image = _direction(ge) or _direction(header.doubles(first(private.UIH_DIRECTION)))
    return of_image, not of_image


def _without_bias(numbers: Sequence[float]) -> list[float]:
    return [number % GE_BIAS for number in numbers if number >= 0]


def _b_value(numbers: Sequence[float]) -> float | None:
    """The only number, where it may be a b-value."""
    if len(numbers) != 1 or (numbers[0] and not MIN_B_VALUE <= numbers[0] <= MAX_B_VALUE):
        return None
    return abs(numbers[0])  # without the sign of a negative zero


def _direction(numbers: Sequence[float]) -> tuple[float, ...]:
    """Three numbers where they are a direction: of length 1, or less where the gradients of one shell differ."""
    return tuple(numbers) if len(numbers) == 3 and 0 < math.hypot(*numbers) < 1.1 else ()


def _csa_texts(header: Header) -> Mapping[str, tuple[str, ...]]:
    """Siemens' CSA header; empty where it is damaged or can't be read."""
    try:
        whole = read_items(header, _CSA)
        places = private.places(whole, private.CSA_IMAGE_HEADER, private.reserved_blocks(whole))
        return read_csa(whole.values[places[0]], _CSA_NAMES) if places else {}
    except (InputError, FileError):
        return {}
