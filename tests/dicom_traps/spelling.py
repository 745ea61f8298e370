"""Traps of one value that is spelled in several ways, of values that some slices lack, and of values close together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from tests.dicom_traps.differing import (
    ALTERNATING,
    INCOMPLETE,
    both_whole,
    one_left,
    telling_nothing,
    truths_of,
    volumes_of,
    write_left,
)
from tests.dicom_traps.geometry import tampered
from tests.dicom_traps.kinds import Kind, either, private
from tests.dicom_traps.stack import ROOT, Stack, Tamper, Truth, write_stack
from tests.dicom_traps.trap import Action, Trap


def in_turn(name: str, *tampers: Tamper, modality: str = "MR", cautious: bool = False) -> Trap:
    """A trap of one good volume whose slices are written in several ways, in turn."""
    return Trap(name, Action.PLAIN, partial(_in_turn, tampers, modality), cautious=cautious)


def _in_turn(tampers: tuple[Tamper, ...], modality: str, folder: Path) -> tuple[Truth, ...]:
    # Three slices of each, so that each could be an even volume of its own.
    def tamper(data: Dataset, number: int) -> None:
        tampers[number % len(tampers)](data, number)

    return write_stack(folder, Stack(gaps_mm=(5.0,) * (max(3 * len(tampers), 6) - 1), modality=modality, tamper=tamper))


def spelled(name: str, keyword: str, *values: object, modality: str = "MR", cautious: bool = False) -> Trap:
    """A trap of one good volume with a value in several spellings; None leaves it out."""
    tampers = [tampered(**{keyword: value}) for value in values]
    return in_turn(name, *tampers, modality=modality, cautious=cautious)


def _without_truth(keyword: str, values: tuple[object, ...], modality: str, folder: Path) -> tuple[Truth, ...]:
    _in_turn(tuple(tampered(**{keyword: value}) for value in values), modality, folder)
    return ()


def _private(*arguments: Any) -> Tamper:
    """A private element of one value."""
    set_tags = private(*arguments, arguments[-1])
    return lambda data, _: set_tags(data, 0)


def _siemens(vr: str, value: object) -> Tamper:
    return _private(0x0019, 0x10, "SIEMENS MR HEADER", 0x0C, vr, value)


def _ge(*values: int) -> Tamper:
    return _private(0x0043, 0x10, "GEMS_PARM_01", 0x39, "IS", list(values))


SPELLED = (
    spelled("echo-time-spelled", "EchoTime", "4.6", "4.60", "4.6000001"),
    spelled("echo-time-signed", "EchoTime", "4.6", "+4.6", "46E-1", " 4.6 "),
    spelled("repetition-time-spelled", "RepetitionTime", "500", "500.0", "5.0E2"),
    spelled("flip-angle-spelled", "FlipAngle", "12", "12.0", "12.000001"),
    spelled("inversion-time-spelled", "InversionTime", "150", "150.0", "150.000"),
    spelled("time-spelled", "TemporalPositionIdentifier", "1", "01", " 1 "),
    spelled("echo-number-spelled", "EchoNumbers", "1", "01", "+1"),
    spelled("image-type-blanks", "ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL ", "PRIMARY", "M  "]),
    spelled(
        "image-type-ends-empty",
        "ImageType",
        ["ORIGINAL", "PRIMARY", "M"],
        ["ORIGINAL", "PRIMARY", "M", ""],
        cautious=True,
    ),
    spelled(
        "image-type-small-letters",
        "ImageType",
        ["ORIGINAL", "PRIMARY", "M"],
        ["Original", "Primary", "m"],
        cautious=True,
    ),
    # The first two values say how an image came about, not what it shows.
    spelled("image-type-first-two", "ImageType", ["ORIGINAL", "PRIMARY", "M"], ["DERIVED", "SECONDARY", "M"]),
    spelled("kernel-blanks", "ConvolutionKernel", "B30f", "B30f ", " B30f", modality="CT"),
    spelled("kernel-letters", "ConvolutionKernel", "STANDARD", "Standard", modality="CT", cautious=True),
    spelled("patient-blanks", "PatientID", "TRAP", "TRAP ", " TRAP  "),
    spelled("contrast-blanks", "ContrastBolusAgent", "OMNIPAQUE", "OMNIPAQUE   ", modality="CT"),
    spelled("contrast-phase-blanks", "ContrastBolusAgentPhase", "ARTERIAL", "ARTERIAL  ", modality="CT"),
    spelled("modality-blanks", "Modality", "MR", "MR  "),
    spelled("frame-of-reference-blanks", "FrameOfReferenceUID", f"{ROOT}.9.1", f"{ROOT}.9.1 ", f"{ROOT}.9.1\0"),
    spelled("study-blanks", "StudyInstanceUID", f"{ROOT}.1", f"{ROOT}.1 ", f"{ROOT}.1\0"),
    spelled("b-value-rounded", "DiffusionBValue", 1000.0, 1000.0000001, 999.9999999),
    spelled(
        "direction-rounded",
        "DiffusionGradientOrientation",
        [0.6, 0.0, 0.8],
        [0.6, -0.0, 0.8],
        [float(np.float32(0.6)), 1e-9, float(np.float32(0.8))],
    ),
    in_turn("b-value-siemens-spelled", _siemens("IS", "1000"), _siemens("UN", b"1000 "), _siemens("IS", " 1000")),
    in_turn("b-value-ge-other-settings", _ge(1000, 8, 0, 0), _ge(1000, 6, 0, 0), _ge(1000, 8, 0, 1)),
    in_turn(
        "b-value-public-or-private",
        tampered(DiffusionBValue=1000.0),
        _private(0x2001, 0x10, "Philips Imaging DD 001", 0x03, "FL", 1000.0),
        cautious=True,
    ),
    # Another creator's elements at the same numbers mean something else.
    in_turn(
        "no-b-value-but-its-number",
        _private(0x2001, 0x10, "Other Maker 001", 0x03, "FL", 0.0),
        _private(0x2001, 0x10, "Other Maker 001", 0x03, "FL", 1000.0),
    ),
)

# What some slices lack may be what tells two volumes apart, as with images before contrast and after it.
SOME = tuple(
    Trap(f"{name}-of-some", Action.REFUSE, partial(_without_truth, keyword, (value, other), modality), INCOMPLETE)
    for name, keyword, value, other, modality in (
        ("echo-time", "EchoTime", "4.6", None, "MR"),
        ("echo-time-empty", "EchoTime", "4.6", "", "MR"),
        ("inversion-time", "InversionTime", "150", None, "MR"),
        ("flip-angle-empty", "FlipAngle", "12", "", "MR"),
        ("time", "TemporalPositionIdentifier", "1", None, "MR"),
        ("image-type-empty", "ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], "", "CT"),
        ("contrast-empty", "ContrastBolusAgent", "OMNIPAQUE", "", "CT"),
        ("kernel", "ConvolutionKernel", "B30f", None, "CT"),
        ("patient-empty", "PatientID", "TRAP", "", "CT"),
        ("frame-of-reference", "FrameOfReferenceUID", f"{ROOT}.9.1", None, "CT"),
    )
)

NONE = tuple(
    spelled(f"{name}-empty-everywhere", keyword, value, modality=modality)
    for name, keyword, value, modality in (
        ("echo-time", "EchoTime", "", "MR"),
        ("time", "TemporalPositionIdentifier", "", "MR"),
        ("b-value", "DiffusionBValue", None, "MR"),
        ("image-type", "ImageType", "", "MR"),
        ("kernel", "ConvolutionKernel", "", "CT"),
        ("patient", "PatientID", "", "CT"),
        ("frame-of-reference", "FrameOfReferenceUID", None, "CT"),
    )
)


def _set_close_direction(data: Dataset, volume: int) -> None:
    angle = np.radians(1.5 * volume)
    data.DiffusionBValue = 1000.0
    data.DiffusionGradientOrientation = [float(np.cos(angle)), float(np.sin(angle)), 0.0]


def _set_opposite(data: Dataset, volume: int) -> None:
    data.DiffusionBValue = 1000.0
    data.DiffusionGradientOrientation = [-0.6, 0.0, -0.8] if volume else [0.6, 0.0, 0.8]


CLOSE = (
    Kind("echo-time-close", either("EchoTime", "4.60", "4.61")),
    Kind("flip-angle-close", either("FlipAngle", "3", "3.5")),
    Kind("b-value-close", either("DiffusionBValue", 1000.0, 1010.0)),
    Kind("direction-close", _set_close_direction),
    Kind("direction-opposite", _set_opposite),
)

WEIGHTINGS: tuple[tuple[float, tuple[float, float, float] | None], ...] = (
    (0.0, None),
    (1000.0, (1.0, 0.0, 0.0)),
    (1000.0, (0.0, 1.0, 0.0)),
    (2000.0, (0.0, 1.0, 0.0)),
)


def _set_weighting(data: Dataset, volume: int) -> None:
    """Weights and directions, which what isn't weighted has none of."""
    data.DiffusionBValue, direction = WEIGHTINGS[volume]
    if direction:
        data.DiffusionGradientOrientation = list(direction)


def _weightings(folder: Path, *, lost: tuple[tuple[int, int], ...] = ()) -> tuple[Truth, ...]:
    stacks = volumes_of(len(WEIGHTINGS))
    left = write_left(folder, stacks, lost=lost, set_tags=_set_weighting, numbering=telling_nothing(len(WEIGHTINGS)))
    return truths_of(stacks, left)


SPELLING: tuple[Trap, ...] = (
    *SPELLED,
    *SOME,
    *NONE,
    *(both_whole(kind) for kind in CLOSE),
    *(one_left(kind, "alternating", ALTERNATING) for kind in CLOSE),
    Trap("weights-and-directions", Action.SPLIT, _weightings),
    *(
        Trap(
            f"weights-and-directions-{volume}-lacks-one",
            Action.SPLIT,
            partial(_weightings, lost=((volume, 3),)),
            refused=(INCOMPLETE,),
        )
        for volume in range(len(WEIGHTINGS))
    ),
    Trap(
        "weights-and-directions-all-lack-one",
        Action.REFUSE,
        partial(_weightings, lost=((0, 0), (1, 2), (2, 4), (3, 6))),
        INCOMPLETE,
    ),
)
