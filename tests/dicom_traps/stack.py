"""A stack of slices as classic single-frame DICOM, and the truth about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, config, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.936293363584, -0.275095847318, 0.218350663146, 0.289629477625, 0.956425085849, -0.036957013524)

SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
ROOT = "1.2.826.0.1.3680043.10.9999"
"""A UID root for made-up objects."""

SLOPE_PER_MM = np.array([11.0, -7.0, 13.0])
"""How steeply the phantom rises along L, P and S. Steep, so that a whole number tells 0.03 mm."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Pixels whose place and value are known.

    Args:
        lps_mm: (n, rows, columns, 3).
        values: (n, rows, columns), after the rescale.
        offset: the phantom's value at the origin, for volumes that are interpolated.
    """

    lps_mm: np.ndarray
    values: np.ndarray
    offset: float = 0.0

    def linear(self, lps_mm: np.ndarray) -> np.ndarray:
        """The phantom's value anywhere."""
        return lps_mm @ SLOPE_PER_MM + self.offset


@dataclass(frozen=True)
class Form:
    """How pixels are written (PS3.5, 8.1)."""

    allocated: int = 16
    stored: int = 16
    high_bit: int | None = None
    signed: bool = True
    garbage: bool = False
    """Whether the unused bits are full, as with overlays in them."""
    slope: float = 1.0
    intercept: float = 0.0

    def words(self, values: np.ndarray) -> np.ndarray:
        """Stored words for values after the rescale."""
        stored = np.rint((values - self.intercept) / self.slope).astype(np.int64)
        low, high = (
            (-(1 << self.stored - 1), (1 << self.stored - 1) - 1) if self.signed else (0, (1 << self.stored) - 1)
        )
        assert low <= stored.min() <= stored.max() <= high, f"{stored.min()}..{stored.max()} don't fit {self}"
        bits = stored & ((1 << self.stored) - 1)
        shift = 0 if self.high_bit is None else self.high_bit + 1 - self.stored
        words = bits << shift
        if self.garbage:
            unused = ((1 << self.allocated) - 1) & ~(((1 << self.stored) - 1) << shift)
            words = words | unused & np.resize([0x5A5A5A5A, 0xFFFFFFFF, 0], words.shape)
        elif self.signed and shift == 0:
            words = stored & ((1 << self.allocated) - 1)
        return words.astype(f"<u{self.allocated // 8}")

    def values(self, values: np.ndarray) -> np.ndarray:
        """What those words stand for, in double precision."""
        return np.rint((values - self.intercept) / self.slope) * self.slope + self.intercept


Tamper = Callable[[Dataset, int], None]


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel slices.

    Args:
        gaps_mm: between slices, along the normal.
        orientation: ImageOrientationPatient.
        origin_mm: LPS of the first slice's first pixel.
        drift: mm along row and column by which slices shift for each mm along the normal.
        size: columns and rows.
        pixel_mm: the step along a row and along a column.
        tamper: changes to each dataset before it is written, by the slice's number along the normal.
        offset: the phantom's value at the origin.
        series, study, frame: the last part of the UIDs.
        number: the first InstanceNumber.
    """

    gaps_mm: tuple[float, ...] = (5.0,) * 6
    orientation: tuple[float, ...] = AXIAL
    origin_mm: tuple[float, float, float] = (-3.9, -4.1, 2.3)
    drift: tuple[float, float] = (0.0, 0.0)
    size: tuple[int, int] = (10, 12)
    pixel_mm: tuple[float, float] = (0.8, 0.6)
    modality: str = "CT"
    form: Form | Sequence[Form] = field(default_factory=Form)
    tamper: Tamper | None = None
    offset: float = 40.0
    series: int = 1
    study: int = 1
    frame: int = 1
    number: int = 1

    @cached_property
    def axes(self) -> np.ndarray:
        """(3, 3) row direction, column direction and normal as rows, LPS."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return np.stack((row, column, np.cross(row, column)))

    @cached_property
    def positions_mm(self) -> np.ndarray:
        """(n, 3) LPS."""
        along = np.concatenate(([0.0], np.cumsum(self.gaps_mm)))
        return np.array(self.origin_mm) + np.outer(along, self.axes[2]) + np.outer(along, self.drift) @ self.axes[:2]

    def form_of(self, number: int) -> Form:
        """The form of one slice."""
        return self.form if isinstance(self.form, Form) else self.form[number]

    def world_of(self, number: int) -> np.ndarray:
        """(rows, columns, 3) LPS mm."""
        columns, rows = self.size
        right = np.arange(columns)[None, :, None] * self.pixel_mm[0] * self.axes[0]
        down = np.arange(rows)[:, None, None] * self.pixel_mm[1] * self.axes[1]
        return self.positions_mm[number] + right + down

    def phantom(self, number: int) -> np.ndarray:
        """(rows, columns) the phantom's values."""
        return self.world_of(number) @ SLOPE_PER_MM + self.offset

    def truth(self, numbers: Iterable[int] | None = None) -> Truth:
        """The truth about all slices, or about some."""
        chosen = range(len(self.positions_mm)) if numbers is None else list(numbers)
        world = np.stack([self.world_of(number) for number in chosen])
        values = np.stack([self.form_of(number).values(self.phantom(number)) for number in chosen])
        return Truth(world, values, self.offset)

    def slices(self, numbers: Iterable[int] | None = None) -> list[Slice]:
        """The slices to write."""
        chosen = range(len(self.positions_mm)) if numbers is None else numbers
        return [Slice(self, number) for number in chosen]


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a stack, on the way to its file."""

    stack: Stack
    number: int
    instance: int | None = None
    uid: str | None = None
    tamper: Callable[[Dataset], None] | None = None
    """After the stack's own."""

    def changed(self, **changes: Any) -> Slice:
        """A slice that differs in some fields."""
        return replace(self, **changes)

    def dataset(self) -> Dataset:
        """As DICOM."""
        stack, form = self.stack, self.stack.form_of(self.number)
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SpecificCharacterSet = "ISO_IR 192"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.SOPClassUID = SOP_CLASSES[stack.modality]
        instance = stack.number + self.number if self.instance is None else self.instance
        data.SOPInstanceUID = self.uid or f"{ROOT}.{stack.study}.{stack.series}.{instance}.{self.number}"
        data.Modality = stack.modality
        data.PatientName = "Phantom^Trap"
        data.PatientID = "TRAP"
        data.StudyInstanceUID = f"{ROOT}.{stack.study}"
        data.SeriesInstanceUID = f"{ROOT}.{stack.study}.{stack.series}"
        data.FrameOfReferenceUID = f"{ROOT}.9.{stack.frame}"
        data.SeriesNumber = stack.series
        data.InstanceNumber = instance
        data.ImagePositionPatient = [decimal(number) for number in stack.positions_mm[self.number]]
        data.ImageOrientationPatient = [decimal(number) for number in stack.orientation]
        data.PixelSpacing = [decimal(stack.pixel_mm[1]), decimal(stack.pixel_mm[0])]
        data.SliceThickness = "5"
        data.SamplesPerPixel = 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.Columns, data.Rows = stack.size
        describe_words(data, form)
        if (form.slope, form.intercept) != (1.0, 0.0) or stack.modality in ("CT", "PT"):
            data.RescaleSlope, data.RescaleIntercept = decimal(form.slope), decimal(form.intercept)
        if stack.modality == "CT":
            data.RescaleType = "HU"
        data.PixelData = padded(form.words(stack.phantom(self.number)).tobytes())
        data["PixelData"].VR = "OW" if form.allocated > 8 else "OB"
        if stack.tamper is not None:
            stack.tamper(data, self.number)
        if self.tamper is not None:
            self.tamper(data)
        return data


def describe_words(data: Dataset, form: Form) -> None:
    """The elements that say how words are written."""
    data.BitsAllocated, data.BitsStored = form.allocated, form.stored
    data.HighBit = form.stored - 1 if form.high_bit is None else form.high_bit
    data.PixelRepresentation = int(form.signed)


def decimal(number: float) -> str:
    """A DS value, which has at most 16 characters (PS3.5, 6.2)."""
    for digits in range(14, 0, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= 16:
            return text
    raise AssertionError(number)


def padded(raw: bytes) -> bytes:
    """To an even length."""
    return raw + b"\0" * (len(raw) % 2)


def save(path: Path, data: Dataset, syntax: str = ExplicitVRLittleEndian, *, bare: bool = False) -> Path:
    """Write one object; ``bare`` leaves preamble and meta header out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    implicit, little = syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2"
    previous = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wrong on purpose
            if bare:
                del data.file_meta
                dcmwrite(path, data, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
                return path
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = data.get("SOPClassUID", SOP_CLASSES["CT"])
            meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", f"{ROOT}.1")
            meta.TransferSyntaxUID = syntax
            data.file_meta = meta
            dcmwrite(path, data, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = previous
    return path


def write_slices(folder: Path, slices: Sequence[Slice], syntax: str = ExplicitVRLittleEndian) -> list[Path]:
    """Write slices in an order and under names that tell nothing."""
    order = np.random.default_rng(len(slices)).permutation(len(slices))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wrong on purpose
        return [save(folder / f"{place:04d}", slices[number].dataset(), syntax) for place, number in enumerate(order)]


def write_stack(folder: Path, stack: Stack, syntax: str = ExplicitVRLittleEndian) -> tuple[Truth, ...]:
    """Write a whole stack; its truth."""
    write_slices(folder, stack.slices(), syntax)
    return (stack.truth(),)
