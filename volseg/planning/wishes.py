"""What a person asked a plan for; whatever is not asked for, the preset and the data decide."""

from __future__ import annotations

import re
from dataclasses import dataclass

from volseg.errors import UsageError
from volseg.planning.augmentations import AugmentationName
from volseg.planning.losses import Loss
from volseg.planning.mirroring import AXES
from volseg.planning.networks import NetworkName
from volseg.planning.optimizers import OptimizerName
from volseg.planning.presets import Preset
from volseg.planning.schedules import ScheduleName

SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([MGT])(i?)B", re.IGNORECASE)
POWERS = {"M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was asked for; None where the plan chooses.

    Args:
        spacing_mm: the target spacing along R, A, S.
        memory_bytes: what a training step may take, weights and optimizer included.
        mirror: the axes along which patches are mirrored, 0 to 2 for R, A, S; none are an empty tuple.
    """

    preset: Preset = "fast"
    spacing_mm: tuple[float, float, float] | None = None
    network: NetworkName | None = None
    loss: Loss | None = None
    optimizer: OptimizerName | None = None
    schedule: ScheduleName | None = None
    augment: AugmentationName | None = None
    memory_bytes: int | None = None
    mirror: tuple[int, ...] | None = None


def parse_mirror(text: str) -> tuple[int, ...]:
    """The axes of ``--mirror``: ``none``, or letters such as ``R``, ``RA`` or ``r,a,s``; 0 to 2 for R, A, S, ascending.

    Raises:
        UsageError: it is neither.
    """
    letters = text.upper().replace(",", "").replace(" ", "")
    if letters != "NONE" and (not letters or set(letters) - set(AXES) or len(set(letters)) < len(letters)):
        raise UsageError(
            f"--mirror takes none, or axes such as R or RA (right-left, front-back, head-feet), not {text!r}."
        )
    return () if letters == "NONE" else tuple(axis for axis, letter in enumerate(AXES) if letter in letters)


def parse_memory(text: str, option: str = "--memory") -> int:
    """Bytes of a size such as ``24GB`` (powers of 1000) or ``24GiB`` (powers of 1024).

    Raises:
        UsageError: it is none.
    """
    found = SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * (1024 if found[3] else 1000) ** POWERS[found[2].upper()]) if found else 0
    if not size:
        raise UsageError(f"{option} takes a size such as 24GB or 900MB, not {text!r}.")
    return size
