"""Traps of images of two volumes under one series, of which files are lost.

Their InstanceNumbers tell nothing: only the elements that a volume's slices must share do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.dicom_traps.kinds import ACQUISITION, KINDS, POINTS_IN_TIME, Kind, SetTags
from tests.dicom_traps.stack import ROOT, Stack, Truth, write_slices
from tests.dicom_traps.trap import Action, Trap

Place = tuple[int, int]
"""A volume, and the number of a slice along its normal."""
Numbering = Callable[[int, int], int]
"""The InstanceNumber of a place."""

POSITIONS = 7
INCOMPLETE, CUT_SHORT = "incomplete-volume", "run-cut-short"


def volumes_of(count: int, positions: int = POSITIONS, modality: str = "MR", **more: Any) -> tuple[Stack, ...]:
    """Volumes at the same positions, each with values of its own."""
    return tuple(
        Stack(
            gaps_mm=(5.0,) * (positions - 1),
            modality=modality,
            offset=40 + 100 * volume,
            origin_mm=(-3.9, -4.1, 7.0),
            **more,
        )
        for volume in range(count)
    )


def places_of(stacks: Iterable[Stack]) -> list[Place]:
    """All places of volumes."""
    return [(volume, number) for volume, stack in enumerate(stacks) for number in range(len(stack.positions_mm))]


def telling_nothing(count: int, positions: int = POSITIONS) -> Numbering:
    """InstanceNumbers of which neither order nor gaps say anything: those at one position come in any order."""
    numbers = np.random.default_rng(11).permutation(count * positions) + 1
    return lambda volume, number: int(numbers[volume * positions + number])


def write_left(
    folder: Path,
    stacks: tuple[Stack, ...],
    *,
    lost: Collection[Place],
    set_tags: SetTags,
    numbering: Numbering,
    syntax: str = ExplicitVRLittleEndian,
) -> list[Place]:
    """Write all images but those that are lost; the places of what is left."""
    left = [place for place in places_of(stacks) if place not in lost]
    slices = [
        stacks[volume].slices([number])[0].changed(instance=numbering(volume, number), tamper=_of(set_tags, volume))
        for volume, number in left
    ]
    write_slices(folder, slices, syntax)
    return left


def _of(set_tags: SetTags, volume: int) -> Callable[[Dataset], None]:
    return lambda data: set_tags(data, volume)


def truths_of(stacks: tuple[Stack, ...], left: list[Place], *, parts: bool = False) -> tuple[Truth, ...]:
    """The volumes of which no slice is lost; or what is left of each where that is three even slices and more."""
    truths = []
    for volume, stack in enumerate(stacks):
        numbers = [number for one, number in left if one == volume]
        even = len(numbers) >= 3 and len(set(np.diff(numbers))) == 1
        if len(numbers) == len(stack.positions_mm) or (parts and even):
            truths.append(stack.truth(numbers))
    return tuple(truths)


def _write(kind: Kind, lost: Collection[Place], folder: Path, *, count: int = 2) -> tuple[Truth, ...]:
    stacks = volumes_of(count, modality=kind.modality)
    left = write_left(
        folder, stacks, lost=lost, set_tags=kind.set_tags, numbering=telling_nothing(count), syntax=kind.syntax
    )
    return truths_of(stacks, left)


ALTERNATING = frozenset((volume, number) for volume in (0, 1) for number in range(POSITIONS) if number % 2 != volume)
HALVES = frozenset((volume, number) for volume in (0, 1) for number in range(POSITIONS) if (number > 3) != volume)
FOUR_FILES = frozenset(
    (volume, number) for volume in (0, 1) for number in range(POSITIONS) if number > 3 or volume != (0, 1, 1, 0)[number]
)


def _told(kind: Kind) -> tuple[str, ...]:
    """What is warned of beside the split."""
    return ("several-patients",) if kind.name == "patient" else ()


def both_whole(kind: Kind) -> Trap:
    """A trap of two whole volumes."""
    return Trap(f"{kind.name}-differs", Action.SPLIT, partial(_write, kind, ()), warnings=_told(kind))


def one_left(kind: Kind, name: str, lost: Collection[Place]) -> Trap:
    """A trap with one image left at each position."""
    return Trap(f"{kind.name}-{name}", Action.REFUSE, partial(_write, kind, lost), INCOMPLETE, says=kind.says)


def lost_from(kind: Kind, name: str, place: Place, count: int = 2) -> Trap:
    """A trap of which one volume lacks a slice."""
    write = partial(_write, kind, (place,), count=count)
    return Trap(
        f"{kind.name}-{name}",
        Action.SPLIT,
        write,
        refused=(INCOMPLETE,),
        says=kind.says,
        warnings=_told(kind),
        cautious=kind.cautious,
    )


def losses(kind: Kind) -> tuple[Trap, ...]:
    """All traps of one kind."""
    return (
        both_whole(kind),
        one_left(kind, "alternating", ALTERNATING),
        one_left(kind, "in-halves", HALVES),
        one_left(kind, "of-four-files", FOUR_FILES),
        lost_from(kind, "first-lost", (1, 0)),
        lost_from(kind, "middle-lost", (0, 3)),
        lost_from(kind, "last-lost", (1, POSITIONS - 1)),
    )


def _one_volume(name: str, action: Action = Action.PLAIN, **values: Callable[[int], object]) -> Trap:
    """A trap of one good volume whose elements vary from slice to slice."""
    return Trap(name, action, partial(_vary, values))


def _vary(values: dict[str, Callable[[int], object]], folder: Path) -> tuple[Truth, ...]:
    def tamper(data: Dataset, number: int) -> None:
        for keyword, value in values.items():
            setattr(data, keyword, value(number))

    stack = Stack(modality="MR", tamper=tamper)
    write_slices(folder, stack.slices())
    return (stack.truth(),)


def _moments(number: int) -> str:
    return f"1012{number * 7 % 60:02d}.{number}5"


GOOD = (
    _one_volume("acquisition-of-each-slice", AcquisitionNumber=lambda n: 1 + n * 4 % 7),
    _one_volume("acquisitions-alternating", AcquisitionNumber=lambda n: 1 + n % 2),
    _one_volume("acquisitions-in-halves", AcquisitionNumber=lambda n: 1 + n // 4),
    _one_volume("trigger-time-of-each-slice", TriggerTime=lambda n: f"{33.5 * (n * 3 % 7)}"),
    _one_volume("trigger-times-alternating", TriggerTime=lambda n: f"{500 * (n % 2)}"),
    _one_volume("acquisition-time-of-each-slice", AcquisitionTime=_moments, AcquisitionDate=lambda _: "20200102"),
    _one_volume("content-time-of-each-slice", ContentTime=_moments, InstanceCreationTime=_moments),
    _one_volume(
        "all-that-may-vary",
        AcquisitionNumber=lambda n: 1 + n % 3,
        TriggerTime=lambda n: f"{100 * (n % 2)}",
        AcquisitionTime=_moments,
        ContentTime=_moments,
        WindowCenter=lambda n: f"{40 + n}",
        SliceLocation=lambda n: f"{n}",
        SmallestImagePixelValue=lambda n: n,
        ImageComments=lambda n: f"slice {n}",
    ),
)


def _between(kind: Kind, folder: Path) -> tuple[Truth, ...]:
    """Slices of another volume half way between those of the first: neither lacks one, and together they look even."""
    first, second = (
        Stack(modality=kind.modality, offset=40),
        Stack(modality=kind.modality, offset=140, origin_mm=(-3.9, -4.1, 4.8)),
    )
    write_left(folder, (first, second), lost=(), set_tags=kind.set_tags, numbering=telling_nothing(2))
    return first.truth(), second.truth()


def between(kind: Kind) -> Trap:
    """A trap of two whole volumes whose positions alternate."""
    return Trap(f"{kind.name}-between", Action.SPLIT, partial(_between, kind), cautious=True)


def _two_patients(folder: Path) -> tuple[Truth, ...]:
    """Two people's scans whose series were given one UID, with tables of their own."""
    first, second = Stack(), Stack(offset=340, origin_mm=(-3.9, -4.1, 2.3 + 38.7))

    def set_tags(data: Dataset, volume: int) -> None:
        data.PatientID = ("TRAP", "TRAP2")[volume]
        data.StudyInstanceUID = f"{ROOT}.{1 + volume}"

    write_left(folder, (first, second), lost=(), set_tags=set_tags, numbering=lambda v, n: 1 + 7 * v + n)
    return first.truth(), second.truth()


def kinds(*names: str) -> list[Kind]:
    """Some of the kinds."""
    return [kind for kind in KINDS if kind.name in names]


DIFFERING: tuple[Trap, ...] = (
    *(trap for kind in KINDS for trap in losses(kind)),
    *(lost_from(POINTS_IN_TIME, f"of-four-{v}-lacks-{n}", (v, n), count=4) for v in (0, 1, 3) for n in (0, 3, 6)),
    *(
        Trap(
            f"{kind.name}-both-incomplete",
            Action.REFUSE,
            partial(_write, kind, ((0, 0), (1, 6))),
            INCOMPLETE,
            says=kind.says,
        )
        for kind in kinds("echo-time", "b-value", "magnitude-or-phase", "kernel")
    ),
    *(
        between(kind)
        for kind in kinds("patient", "study", "frame-of-reference", "kernel", "echo-time", "b-value", "contrast")
    ),
    both_whole(ACQUISITION),
    lost_from(ACQUISITION, "first-lost", (1, 0)),
    lost_from(ACQUISITION, "middle-lost", (0, 3)),
    lost_from(ACQUISITION, "last-lost", (1, POSITIONS - 1)),
    *GOOD,
    Trap("two-patients-one-behind-the-other", Action.SPLIT, _two_patients, warnings=("several-patients",)),
)
