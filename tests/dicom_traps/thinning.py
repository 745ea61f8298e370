"""Traps of series of which every second or third slice is absent."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

from tests.dicom_traps.differing import truths_of, volumes_of, write_left
from tests.dicom_traps.geometry import one, tampered
from tests.dicom_traps.kinds import KINDS, POINTS_IN_TIME
from tests.dicom_traps.numbering import position_by_position, volume_by_volume
from tests.dicom_traps.stack import Stack, Truth, write_slices
from tests.dicom_traps.trap import Action, Trap

THINNED, FAR_APART = "evenly-thinned", "slices-far-apart"


def _thin(step: int, folder: Path, *, modality: str, renumbered: bool, thickness_mm: str) -> tuple[Truth, ...]:
    """Every second or third slice of what was scanned."""
    stack = Stack(
        gaps_mm=(2.0,) * 18, modality=modality, tamper=tampered(SliceThickness=thickness_mm, SpacingBetweenSlices=None)
    )
    kept = range(0, 19, step)
    slices = [
        image.changed(instance=1 + (place if renumbered else image.number))
        for place, image in enumerate(stack.slices(kept))
    ]
    write_slices(folder, slices)
    return (stack.truth(kept),)


def thinned(
    name: str,
    step: int,
    *warnings: str,
    modality: str = "MR",
    renumbered: bool = False,
    thickness_mm: str = "2",
    allowed: Collection[str] = (),
) -> Trap:
    """A trap of one volume of which only some slices are left."""
    write = partial(_thin, step, modality=modality, renumbered=renumbered, thickness_mm=thickness_mm)
    return Trap(name, Action.PLAIN, write, warnings=warnings, allowed=frozenset(allowed))


def _thinned_runs(folder: Path) -> tuple[Truth, ...]:
    """Every second slice of two points in time."""
    stacks = volumes_of(2, 13)
    lost = {(v, n) for v in (0, 1) for n in range(1, 13, 2)}
    left = write_left(
        folder, stacks, lost=lost, set_tags=POINTS_IN_TIME.set_tags, numbering=volume_by_volume(positions=13)
    )
    return truths_of(stacks, left, parts=True)


def _echoes_by_position(folder: Path) -> tuple[Truth, ...]:
    """Two echoes whose numbers alternate: each has every second number and lacks nothing."""
    stacks = volumes_of(2)
    (echo,) = (kind for kind in KINDS if kind.name == "echo-time")
    left = write_left(folder, stacks, lost=(), set_tags=echo.set_tags, numbering=position_by_position(2))
    return truths_of(stacks, left)


THINNING: tuple[Trap, ...] = (
    thinned("every-second-slice", 2, THINNED),
    thinned("every-third-slice", 3, THINNED),
    thinned("every-second-slice-of-a-ct", 2, THINNED, modality="CT", allowed=(FAR_APART,)),
    thinned("every-third-slice-of-a-ct", 3, THINNED, FAR_APART, modality="CT"),
    thinned("every-third-slice-renumbered", 3, FAR_APART, modality="CT", renumbered=True),
    thinned("thin-slices-far-apart", 3, FAR_APART, modality="CT", renumbered=True, thickness_mm="0.6"),
    thinned("no-slice-thinned", 1),
    thinned("no-slice-of-a-ct-thinned", 1, modality="CT"),
    thinned("slices-of-a-ct-overlap", 1, modality="CT", thickness_mm="3"),
    thinned("slices-of-an-mr-far-apart", 2, modality="MR", renumbered=True, allowed=(FAR_APART,)),
    one(
        "numbers-by-two-backwards",
        Action.PLAIN,
        Stack(tamper=tampered(InstanceNumber=lambda n: 40 - 2 * n)),
        warnings=(THINNED,),
    ),
    Trap("every-second-slice-of-two-times", Action.SPLIT, _thinned_runs, warnings=(THINNED,)),
    Trap("echoes-by-position", Action.SPLIT, _echoes_by_position),
)
