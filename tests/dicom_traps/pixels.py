"""Traps of how pixels are written and what they mean."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom import Sequence as Items
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom_traps.geometry import one, tampered
from tests.dicom_traps.stack import Form, Stack, Truth, write_slices, write_stack
from tests.dicom_traps.trap import Action, Trap

UNSIGNED_12 = Form(stored=12, signed=False, intercept=-1024)
PADDING = -2000
LARGER = (40, 36)
"""JPEG 2000 with its usual five levels needs 32 pixels."""


def _write(folder: Path, *, stack: Stack, syntax: str) -> tuple[Truth, ...]:
    return write_stack(folder, stack, syntax)


def written(name: str, syntax: str, action: Action = Action.PLAIN, form: Form | None = None, **more: Any) -> Trap:
    """A plain stack in another transfer syntax."""
    return Trap(name, action, partial(_write, stack=Stack(form=form or Form()), syntax=syntax), **more)


def compressed(name: str, syntax: str, form: Form, **more: Any) -> Trap:
    """A plain stack, compressed without loss."""

    def tamper(data: Dataset, _: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.compress(syntax, generate_instance_uid=False)

    return Trap(
        name, Action.PLAIN, partial(_write, stack=Stack(form=form, size=LARGER, tamper=tamper), syntax=syntax), **more
    )


def _big_endian(folder: Path) -> tuple[Truth, ...]:
    def tamper(data: Dataset, _: int) -> None:
        words = np.frombuffer(data.PixelData, "<u2")
        data.PixelData = words.astype(">u2").tobytes()

    return write_stack(folder, Stack(tamper=tamper), ExplicitVRBigEndian)


def _padding(folder: Path) -> tuple[Truth, ...]:
    """A circle of -2000 about the image, as CT scanners put it; it stands for air."""
    stack = Stack()

    def tamper(data: Dataset, number: int) -> None:
        words = stack.phantom(number).round().astype("<i2")
        words[outside] = PADDING
        data.PixelData = words.tobytes()
        data.PixelPaddingValue = PADDING & 0xFFFF
        data["PixelPaddingValue"].VR = "US"

    columns, rows = stack.size
    down, right = np.mgrid[:rows, :columns]
    outside = (down - (rows - 1) / 2) ** 2 / rows**2 + (right - (columns - 1) / 2) ** 2 / columns**2 > 0.2
    slices = [image.changed(tamper=partial(_tamper_with, tamper, image.number)) for image in stack.slices()]
    write_slices(folder, slices)
    truth = stack.truth()
    values = truth.values.copy()
    values[:, outside] = -1024
    return (Truth(truth.lps_mm, values, truth.offset),)


def _tamper_with(tamper: Any, number: int, data: Dataset) -> None:
    tamper(data, number)


def _lookup_table(folder: Path) -> tuple[Truth, ...]:
    """Values that only a table in the header gives (PS3.3, C.11.1)."""

    def tamper(data: Dataset, _: int) -> None:
        del data.RescaleSlope, data.RescaleIntercept
        data.PixelRepresentation = 0
        data.PixelData = (39999 - np.frombuffer(data.PixelData, "<i2").astype("<u2")).astype("<u2").tobytes()
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [40000, 0, 16], "HU"
        table.add_new(0x00283006, "OW", np.arange(40000, dtype="<u2")[::-1].tobytes())
        data.ModalityLUTSequence = Items([table])

    write_slices(folder, Stack(tamper=tamper, offset=2000).slices())
    return ()


def _pet(folder: Path, *, lacking: str = "", suv: bool = False) -> tuple[Truth, ...]:
    weight_kg, dose_bq, half_life_s, delay_s = 70.0, 3.7e8, 6586.2, 3600.0
    forms = [Form(slope=0.5 + 0.125 * number, signed=False) for number in range(7)]

    def tamper(data: Dataset, _: int) -> None:
        data.Units, data.DecayCorrection = "BQML", "START"
        data.CorrectedImage = ["ATTN", "DECY"]
        data.SeriesDate, data.SeriesTime = "20200102", "110000"
        data.AcquisitionDate, data.AcquisitionTime = "20200102", "110000"
        data.PatientWeight = f"{weight_kg:g}"
        dose = Dataset()
        dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = f"{dose_bq:g}", f"{half_life_s:g}"
        dose.RadiopharmaceuticalStartTime = "100000"
        data.RadiopharmaceuticalInformationSequence = Items([dose])
        for holder in (data, dose):
            if lacking and lacking in holder:
                delattr(holder, lacking)

    stack = Stack(modality="PT", form=forms, tamper=tamper, offset=2000)
    truth = write_stack(folder, stack)[0]
    if lacking:
        return ()
    scale = weight_kg * 1000 / (dose_bq * 2 ** (-delay_s / half_life_s)) if suv else 1.0
    return (Truth(truth.lps_mm, truth.values * scale),)


def _slices_but_one(folder: Path, tamper: Any) -> list[Path]:
    stack = Stack()
    slices = stack.slices()
    slices[3] = slices[3].changed(tamper=tamper)
    return write_slices(folder, slices)


def _middle(paths: list[Path]) -> Path:
    """The file of the middle slice, which no reader can leave out unseen."""
    order = sorted(paths, key=lambda path: int(dcmread(path, specific_tags=["InstanceNumber"]).InstanceNumber))
    return order[len(order) // 2]


def _cut(folder: Path) -> tuple[Truth, ...]:
    path = _middle(write_slices(folder, Stack().slices()))
    path.write_bytes(path.read_bytes()[:-40])
    return ()


def _cut_compressed(folder: Path) -> tuple[Truth, ...]:
    def tamper(data: Dataset, _: int) -> None:
        data.compress(RLELossless, generate_instance_uid=False)

    path = _middle(write_slices(folder, Stack(tamper=tamper).slices(), RLELossless))
    path.write_bytes(path.read_bytes()[:-60])
    return ()


def _declares(folder: Path) -> tuple[Truth, ...]:
    def tamper(data: Dataset) -> None:
        data.Rows = data.Columns = 46341

    _slices_but_one(folder, tamper)
    return ()


def _all_without(folder: Path, *, keyword: str) -> tuple[Truth, ...]:
    write_slices(folder, Stack(tamper=tampered(**{keyword: None})).slices())
    return ()


def _unknown_codec(folder: Path) -> tuple[Truth, ...]:
    def tamper(data: Dataset, _: int) -> None:
        data.compress(RLELossless, generate_instance_uid=False)

    write_slices(folder, Stack(tamper=tamper).slices(), "1.2.840.10008.1.2.4.100")
    return ()


def _garbled(folder: Path) -> tuple[Truth, ...]:
    """Fragments of run lengths whose table points nowhere."""

    def tamper(data: Dataset, _: int) -> None:
        data.PixelData = encapsulate([np.arange(2, 34, dtype="<u4").tobytes()])
        data["PixelData"].is_undefined_length = True

    write_slices(folder, Stack(tamper=tamper).slices(), RLELossless)
    return ()


PIXELS = (
    one("twelve-bits-unsigned", Action.PLAIN, Stack(form=UNSIGNED_12)),
    one(
        "overlay-bits-above-twelve",
        Action.PLAIN,
        Stack(form=Form(stored=12, signed=False, garbage=True, intercept=-1024)),
    ),
    one("garbage-above-twelve-signed", Action.PLAIN, Stack(form=Form(stored=12, garbage=True))),
    one("bits-left-aligned", Action.PLAIN, Stack(form=Form(stored=12, high_bit=15, signed=False, intercept=-1024))),
    one("unsigned-above-32767", Action.PLAIN, Stack(form=Form(signed=False), modality="MR", offset=60000)),
    one("eight-bits", Action.PLAIN, Stack(form=Form(allocated=8, stored=8, signed=False, slope=8, intercept=-600))),
    one("thirty-two-bits", Action.PLAIN, Stack(form=Form(allocated=32, stored=32), modality="MR", offset=100000)),
    one("rescale-with-fractions", Action.PLAIN, Stack(form=Form(slope=0.1, intercept=0.3), modality="MR")),
    one(
        "rescale-per-slice",
        Action.PLAIN,
        Stack(form=[Form(slope=0.5 + 0.1 * n, intercept=n) for n in range(7)], modality="MR"),
    ),
    one(
        "inverted-display",
        Action.FIX,
        Stack(tamper=tampered(PhotometricInterpretation="MONOCHROME1")),
        changes=("monochrome1",),
    ),
    Trap("padding-is-air", Action.FIX, _padding, changes=("padding-to-air",)),
    Trap("modality-lookup-table", Action.REFUSE, _lookup_table, "modality-lut"),
    Trap("pet-activity", Action.PLAIN, _pet),
    Trap("pet-suv", Action.FIX, partial(_pet, suv=True), changes=("suv",), options={"suv": True}),
    Trap(
        "pet-suv-without-weight",
        Action.REFUSE,
        partial(_pet, lacking="PatientWeight"),
        "suv-facts-missing",
        options={"suv": True},
    ),
    Trap(
        "pet-suv-without-half-life",
        Action.REFUSE,
        partial(_pet, lacking="RadionuclideHalfLife"),
        "suv-facts-missing",
        options={"suv": True},
    ),
    written("implicit-vr", ImplicitVRLittleEndian),
    written("deflated", DeflatedExplicitVRLittleEndian),
    Trap("big-endian", Action.PLAIN, _big_endian),
    compressed("rle", RLELossless, Form()),
    compressed("rle-overlay-bits", RLELossless, UNSIGNED_12),
    compressed("jpeg-2000-signed", JPEG2000Lossless, Form()),
    compressed("jpeg-2000-unsigned", JPEG2000Lossless, UNSIGNED_12),
    compressed("jpeg-ls", JPEGLSLossless, UNSIGNED_12),
    Trap("cut-off", Action.REFUSE, _cut, "truncated-pixels"),
    Trap("cut-off-compressed", Action.REFUSE, _cut_compressed, "truncated-pixels"),
    Trap("declares-too-much", Action.REFUSE, _declares, "declares-too-much"),
    Trap("codec-unknown", Action.REFUSE, _unknown_codec, "unsupported-syntax"),
    Trap("codestream-garbled", Action.REFUSE, _garbled, "undecodable"),
    Trap("rows-absent", Action.SKIP, partial(_all_without, keyword="Rows"), "image without rows or columns"),
    Trap("pixel-data-absent", Action.SKIP, partial(_all_without, keyword="PixelData"), "image without pixel data"),
)
