"""Traps of enhanced multi-frame objects: several volumes in one file, of which frames are lost."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom import Sequence as Items

from tests.dicom_traps.differing import ALTERNATING, FOUR_FILES, HALVES, INCOMPLETE, Place, truths_of, volumes_of
from tests.dicom_traps.stack import Stack, Truth, padded, save
from tests.dicom_traps.trap import Action, Trap
from tests.dicom_traps.volumes import enhanced

SetGroups = Callable[[Dataset, int], None]
"""Functional groups of a frame, by its volume."""


@dataclass(frozen=True)
class FrameKind:
    """What tells the volumes of an enhanced object apart."""

    name: str
    set_groups: SetGroups
    indexed: bool = False
    """Whether DimensionIndexValues count the volumes too."""


def _in(group: Dataset, keyword: str, **values: object) -> None:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    setattr(group, keyword, Items([item]))


def _set_weight(group: Dataset, volume: int) -> None:
    _in(group, "MRDiffusionSequence", DiffusionBValue=1000.0 * volume, DiffusionDirectionality="ISOTROPIC")


def _set_direction(group: Dataset, volume: int) -> None:
    direction = Dataset()
    direction.DiffusionGradientOrientation = [0.0, 0.6, 0.8] if volume else [0.6, 0.8, 0.0]
    _in(
        group,
        "MRDiffusionSequence",
        DiffusionBValue=1000.0,
        DiffusionDirectionality="DIRECTIONAL",
        DiffusionGradientDirectionSequence=Items([direction]),
    )


def _set_echo(group: Dataset, volume: int) -> None:
    _in(group, "MREchoSequence", EffectiveEchoTime=4.6 * (1 + volume))


def _set_component(group: Dataset, volume: int) -> None:
    _in(
        group,
        "MRImageFrameTypeSequence",
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        ComplexImageComponent=("MAGNITUDE", "PHASE")[volume],
    )


def _set_time(group: Dataset, volume: int) -> None:
    group.FrameContentSequence[0].TemporalPositionIndex = volume + 1


KINDS = (
    FrameKind("b-value", _set_weight),
    FrameKind("direction", _set_direction),
    FrameKind("echo-time", _set_echo),
    FrameKind("magnitude-or-phase", _set_component),
    FrameKind("time", _set_time),
    FrameKind("time-indexed", _set_time, indexed=True),
    FrameKind("b-value-indexed", _set_weight, indexed=True),
)


def multiframe(stacks: tuple[Stack, ...], kind: FrameKind, lost: Collection[Place]) -> Dataset:
    """An enhanced object of several volumes, whose frames are in an order that tells nothing."""
    data = enhanced(stacks)
    places = [(volume, number) for volume, stack in enumerate(stacks) for number in range(len(stack.positions_mm))]
    order = np.random.default_rng(5).permutation(len(places))  # that of enhanced()
    groups = []
    words = []
    for place, group in zip(order, data.PerFrameFunctionalGroupsSequence, strict=True):
        volume, number = places[place]
        if (volume, number) in lost:
            continue
        content = group.FrameContentSequence[0]
        if not kind.indexed:
            del content.TemporalPositionIndex
            content.DimensionIndexValues = [number + 1]
        kind.set_groups(group, volume)
        groups.append(group)
        stack = stacks[volume]
        words.append(stack.form_of(number).words(stack.phantom(number)).tobytes())
    if not kind.indexed:
        data.DimensionIndexSequence = Items(data.DimensionIndexSequence[1:])
    data.PerFrameFunctionalGroupsSequence = Items(groups)
    data.NumberOfFrames = len(groups)
    data.PixelData = padded(b"".join(words))
    return data


def _write(kind: FrameKind, lost: Collection[Place], folder: Path) -> tuple[Truth, ...]:
    stacks = volumes_of(2)
    left = [(v, n) for v in (0, 1) for n in range(len(stacks[v].positions_mm)) if (v, n) not in lost]
    save(folder / "frames", multiframe(stacks, kind, lost))
    return truths_of(stacks, left)


FRAMES: tuple[Trap, ...] = (
    *(Trap(f"enhanced-{kind.name}-differs", Action.SPLIT, partial(_write, kind, ())) for kind in KINDS),
    *(
        Trap(f"enhanced-{kind.name}-{name}-lost", Action.SPLIT, partial(_write, kind, (place,)), refused=(INCOMPLETE,))
        for kind in KINDS
        for name, place in (("first", (1, 0)), ("middle", (0, 3)), ("last", (1, 6)))
    ),
    *(
        Trap(f"enhanced-{kind.name}-{name}", Action.REFUSE, partial(_write, kind, lost), INCOMPLETE)
        for kind in KINDS
        for name, lost in (("alternating", ALTERNATING), ("in-halves", HALVES), ("of-four-frames", FOUR_FILES))
    ),
)
