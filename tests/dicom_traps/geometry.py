"""Traps of where slices lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from tests.dicom_traps.stack import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    SLOPE_PER_MM,
    Stack,
    Tamper,
    Truth,
    write_slices,
    write_stack,
)
from tests.dicom_traps.trap import Action, Trap

HEAD = (4.002,) * 13 + (1.081,) + (6.999,) * 13
DENSE = (3.0,) * 8


def one(name: str, action: Action, stack: Stack, code: str = "", **more: Any) -> Trap:
    """A trap of one stack."""
    return Trap(name, action, partial(_write, stack, action), code, **more)


def _write(stack: Stack, action: Action, folder: Path) -> tuple[Truth, ...]:
    truth = write_stack(folder, stack)
    return () if action in (Action.REFUSE, Action.SKIP) else truth


def tampered(**values: Any) -> Tamper:
    """Set elements to values, or by the slice's number where a value is callable; None deletes."""

    def tamper(data: Dataset, number: int) -> None:
        for name, value in values.items():
            found = value(number) if callable(value) else value
            if found is None:
                if name in data:
                    delattr(data, name)
            else:
                setattr(data, name, found)

    return tamper


def tilted(degrees: float, **more: Any) -> Stack:
    """A stack that leans along its columns."""
    return Stack(drift=(0.0, float(np.tan(np.radians(degrees)))), **more)


def shifted(offsets: dict[int, tuple[float, ...]], **more: Any) -> Stack:
    """A stack of which some slices lie off the line, in LPS mm."""

    def tamper(data: Dataset, number: int) -> None:
        moved = np.array([float(value) for value in data.ImagePositionPatient]) + offsets.get(number, (0, 0, 0))
        data.ImagePositionPatient = [f"{value:.6g}" for value in moved]
        rise = round(float(SLOPE_PER_MM @ offsets.get(number, (0, 0, 0))))
        data.PixelData = (np.frombuffer(data.PixelData, "<i2") + np.int16(rise)).tobytes()

    return Stack(tamper=tamper, **more)


def rounded(digits: int) -> Tamper:
    """Positions written with few digits, as scanners do."""

    def tamper(data: Dataset, _: int) -> None:
        data.ImagePositionPatient = [f"{float(value):.{digits}f}" for value in data.ImagePositionPatient]

    return tamper


def _without(numbers: set[int], folder: Path, stack: Stack, *, fixed: bool = False) -> tuple[Truth, ...]:
    kept = [number for number in range(len(stack.positions_mm)) if number not in numbers]
    write_slices(folder, stack.slices(kept))
    return (stack.truth(kept),) if fixed else ()


def lacking(name: str, numbers: set[int], action: Action, **more: Any) -> Trap:
    """A trap of a stack of which slices lack."""
    stack = Stack(gaps_mm=(4.0,) * 10)
    write = partial(_without, numbers, stack=stack, fixed=action is Action.FIX)
    return Trap(name, action, write, **more)


def _several(stacks: tuple[Stack, ...], folder: Path) -> tuple[Truth, ...]:
    write_slices(folder, [image for stack in stacks for image in stack.slices()])
    return tuple(stack.truth() for stack in stacks)


def several(name: str, action: Action, *stacks: Stack, **more: Any) -> Trap:
    """A trap of several stacks in one folder, each a volume."""
    write: Callable[[Path], tuple[Truth, ...]] = partial(_several, stacks)
    return Trap(name, action, write, **more)


def _conflict(number: int, offset: float, folder: Path, stack: Stack, *, copy_uid: bool = False) -> tuple[Truth, ...]:
    """A slice twice, with pixels that differ by ``offset``."""
    slices = stack.slices()
    other = replace(stack, offset=stack.offset + offset)
    uid = str(slices[number].dataset().SOPInstanceUID) if copy_uid else None
    slices.append(other.slices([number])[0].changed(instance=500 + number, uid=uid))
    write_slices(folder, slices)
    return (stack.truth(),) if not offset else ()


def _head_first(position: str) -> Tamper:
    return tampered(PatientPosition=position)


GEOMETRY = (
    one("plain", Action.PLAIN, Stack()),
    one("plain-coronal", Action.PLAIN, Stack(orientation=CORONAL)),
    one("plain-sagittal", Action.PLAIN, Stack(orientation=SAGITTAL)),
    one("plain-oblique", Action.PLAIN, Stack(orientation=OBLIQUE, modality="MR")),
    one("pixels-not-square", Action.PLAIN, Stack(pixel_mm=(0.4, 0.64))),
    one("decubitus", Action.PLAIN, Stack(orientation=(0, -1, 0, 1, 0, 0), tamper=_head_first("HFDL"))),
    one("feet-first", Action.PLAIN, Stack(orientation=(-1, 0, 0, 0, 1, 0), tamper=_head_first("FFS"))),
    one("prone", Action.PLAIN, Stack(orientation=(-1, 0, 0, 0, -1, 0), tamper=_head_first("HFP"))),
    one("instance-numbers-downwards", Action.PLAIN, Stack(tamper=tampered(InstanceNumber=lambda n: 90 - n))),
    one("instance-numbers-shuffled", Action.PLAIN, Stack(tamper=tampered(InstanceNumber=lambda n: 1 + 3 * n % 7))),
    one("instance-numbers-all-one", Action.PLAIN, Stack(tamper=tampered(InstanceNumber=1))),
    one("instance-numbers-absent", Action.PLAIN, Stack(tamper=tampered(InstanceNumber=None))),
    one(
        "thickness-and-spacing-tags-lie",
        Action.PLAIN,
        Stack(tamper=tampered(SliceThickness="1.25", SpacingBetweenSlices="9")),
        warnings=("slices-far-apart",),
    ),
    one("slice-location-lies", Action.PLAIN, Stack(tamper=tampered(SliceLocation=lambda n: f"{-3 * n}"))),
    one("tilt-tag-without-tilt", Action.PLAIN, Stack(tamper=tampered(GantryDetectorTilt="18.5"))),
    one("leans-by-rounding", Action.PLAIN, tilted(0.07, gaps_mm=(6.5,) * 20), exact=False),
    one("spacing-jitters", Action.PLAIN, Stack(gaps_mm=(6.958, 7.071, 6.99, 7.01, 7.0, 6.98)), exact=False),
    one("positions-to-a-tenth", Action.PLAIN, Stack(gaps_mm=(5.0,) * 6, orientation=AXIAL, tamper=rounded(1))),
    lacking("missing-slice", {4}, Action.REFUSE, code="missing-slice"),
    lacking("missing-two-slices-in-a-row", {4, 5}, Action.REFUSE, code="missing-slice"),
    lacking("missing-slices-at-two-places", {2, 6}, Action.REFUSE, code="missing-slice"),
    lacking(
        "missing-slice-filled", {4}, Action.FIX, changes=("gaps-filled",), options={"fill_gaps": True}, exact=False
    ),
    lacking(
        "missing-two-slices-filled",
        {4, 5},
        Action.FIX,
        changes=("gaps-filled",),
        options={"fill_gaps": True},
        exact=False,
    ),
    one("uneven-runs-with-a-joint", Action.FIX, Stack(gaps_mm=HEAD), changes=("spacing-evened",), exact=False),
    one("uneven-runs", Action.FIX, Stack(gaps_mm=(4.0,) * 4 + (7.0,) * 4), changes=("spacing-evened",), exact=False),
    one(
        "uneven-runs-oblique",
        Action.FIX,
        Stack(gaps_mm=(2.0,) * 5 + (5.0,) * 4, orientation=OBLIQUE, modality="MR"),
        changes=("spacing-evened",),
        exact=False,
    ),
    one("uneven-without-runs", Action.REFUSE, Stack(gaps_mm=(3.0, 4.2, 3.7, 5.1, 3.3, 4.9)), "uneven-spacing"),
    one("odd-gap-inside-a-run", Action.REFUSE, Stack(gaps_mm=(4.0,) * 4 + (5.3,) + (4.0,) * 4), "uneven-spacing"),
    one("wide-gap-between-runs", Action.REFUSE, Stack(gaps_mm=(4.0,) * 4 + (9.0,) + (7.0,) * 4), "uneven-spacing"),
    one("tilt", Action.FIX, tilted(18.5, gaps_mm=DENSE), changes=("tilt-straightened",), exact=False),
    one("tilt-the-other-way", Action.FIX, tilted(-12.0, gaps_mm=DENSE), changes=("tilt-straightened",), exact=False),
    one(
        "tilt-with-wrong-tag",
        Action.FIX,
        replace(tilted(15.0, gaps_mm=DENSE), tamper=tampered(GantryDetectorTilt="-15")),
        changes=("tilt-straightened",),
        exact=False,
    ),
    one(
        "tilt-with-uneven-runs",
        Action.FIX,
        tilted(18.5, gaps_mm=HEAD),
        changes=("tilt-straightened", "spacing-evened"),
        exact=False,
    ),
    one("tilt-refused", Action.REFUSE, tilted(18.5, gaps_mm=DENSE), "gantry-tilt", options={"refuse_tilt": True}),
    one("slice-beside-the-others", Action.REFUSE, shifted({3: (2.5, 0.0, 0.0)}), "shifted-slices"),
    several("two-orientations", Action.SPLIT, Stack(), Stack(orientation=CORONAL, number=50, offset=300)),
    several(
        "three-orientations",
        Action.SPLIT,
        Stack(modality="MR"),
        Stack(orientation=CORONAL, number=50, modality="MR"),
        Stack(orientation=SAGITTAL, number=90, modality="MR"),
    ),
    several("two-pixel-spacings", Action.SPLIT, Stack(), Stack(pixel_mm=(0.7, 0.7), number=50, offset=300)),
    several("two-image-sizes", Action.SPLIT, Stack(), Stack(size=(8, 8), number=50, offset=300)),
    several("two-frames-of-reference", Action.SPLIT, Stack(), Stack(frame=2, number=50, offset=300)),
    Trap("duplicate-slice", Action.FIX, partial(_conflict, 3, 0.0, stack=Stack()), changes=("duplicates-dropped",)),
    Trap(
        "duplicate-file",
        Action.FIX,
        partial(_conflict, 3, 0.0, stack=Stack(), copy_uid=True),
        changes=("copies-dropped",),
    ),
    Trap(
        "duplicate-slice-with-other-pixels",
        Action.REFUSE,
        partial(_conflict, 3, 70.0, stack=Stack()),
        "unequal-volumes",
    ),
    Trap(
        "duplicate-uid-with-other-pixels",
        Action.REFUSE,
        partial(_conflict, 3, 70.0, stack=Stack(), copy_uid=True),
        "conflicting-copies",
    ),
    one("two-slices", Action.SKIP, Stack(gaps_mm=(5.0,)), "too-few-slices"),
    one("one-slice", Action.SKIP, Stack(gaps_mm=()), "one-position"),
    one("images-at-one-position", Action.SKIP, Stack(gaps_mm=(0.0,) * 3), "one-position"),
    one(
        "a-position-absent",
        Action.REFUSE,
        Stack(tamper=tampered(ImagePositionPatient=lambda n: None if n == 2 else [0, 0, 5 * n])),
        "no-position",
    ),
    one("positions-absent", Action.REFUSE, Stack(tamper=tampered(ImagePositionPatient=None)), "no-position"),
    one(
        "orientation-absent",
        Action.REFUSE,
        Stack(orientation=OBLIQUE, tamper=tampered(ImageOrientationPatient=None)),
        "no-position",
    ),
    one("pixel-spacing-absent", Action.REFUSE, Stack(tamper=tampered(PixelSpacing=None)), "no-position"),
    one("pixel-spacing-zero", Action.REFUSE, Stack(tamper=tampered(PixelSpacing=["0", "0.8"])), "no-position"),
    one(
        "orientation-not-square",
        Action.REFUSE,
        Stack(tamper=tampered(ImageOrientationPatient=["1", "0", "0", "0.5", "0.8660254", "0"])),
        "no-position",
    ),
    one(
        "orientation-zero",
        Action.REFUSE,
        Stack(orientation=OBLIQUE, tamper=tampered(ImageOrientationPatient=["0"] * 6)),
        "no-position",
    ),
)
