"""What a person asked a plan for; whatever is not asked for, the preset and the data decide."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, cast

from pydantic import Field, TypeAdapter

from volseg.errors import UsageError
from volseg.planning.augmentations import AugmentationName
from volseg.planning.component import ConfigValue
from volseg.planning.losses import Loss, parse_loss
from volseg.planning.mirroring import AXES
from volseg.planning.networks import NetworkName, Topology
from volseg.planning.optimizers import OptimizerName
from volseg.planning.presets import Preset
from volseg.planning.schedules import ScheduleName

SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([MGT])(i?)B", re.IGNORECASE)
POWERS = {"M": 2, "G": 3, "T": 4}


Triple = tuple[int, int, int]
_Size = Annotated[int, Field(ge=1, le=4096)]
_Sizes = tuple[_Size, _Size, _Size]
_Levels = Annotated[tuple[_Sizes, ...], Field(min_length=1, max_length=16)]


@dataclass(frozen=True)
class Shape:
    """Levels, patch and batch of a network.

    Args:
        topology: the levels.
        patch: voxels along R, A, S, a multiple of what the levels halve.
        batch: patches in a step.
    """

    topology: Topology
    patch: Triple
    batch: int


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was asked for; None where the plan chooses.

    Args:
        spacing_mm: the target spacing along R, A, S.
        memory_bytes: what a training step may take, weights and optimizer included.
        mirror: the axes along which patches are mirrored, 0 to 2 for R, A, S; none are an empty tuple.
        shape: of the network, which then nothing is reckoned for.
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
    shape: Shape | None = None

    def to_plain(self) -> dict[str, ConfigValue]:
        """The choices of a whole plan as ``plan.json`` keeps them; every wish but the memory has to be there."""
        if self.loss is None or self.shape is None or self.spacing_mm is None:
            raise TypeError("not the wishes of a whole plan")
        topology = self.shape.topology
        return cast(
            "dict[str, ConfigValue]",
            {
                "preset": self.preset,
                "spacing_mm": list(self.spacing_mm),
                "network": self.network,
                "loss": self.loss.name,
                "optimizer": self.optimizer,
                "schedule": self.schedule,
                "augment": self.augment,
                "mirror": None if self.mirror is None else list(self.mirror),
                "features": list(topology.features),
                "strides": [list(one) for one in topology.strides],
                "kernels": [list(one) for one in topology.kernels],
                "patch": list(self.shape.patch),
                "batch": self.shape.batch,
            },
        )

    @classmethod
    def from_plain(cls, content: object) -> Wishes:
        """The wishes that give the plan again that ``to_plain`` wrote them of.

        Raises:
            ValueError: they are none.
        """
        told = TypeAdapter(_Plain).validate_python(content)
        if any(
            math.prod(steps) > side for steps, side in zip(zip(*told.strides, strict=True), told.patch, strict=True)
        ):
            raise ValueError("levels that halve more than a patch has")
        return cls(
            preset=told.preset,
            spacing_mm=told.spacing_mm,
            network=told.network,
            loss=parse_loss(told.loss),
            optimizer=told.optimizer,
            schedule=told.schedule,
            augment=told.augment,
            mirror=told.mirror,
            shape=Shape(Topology(told.features, told.strides, told.kernels), told.patch, told.batch),
        )


@dataclass(frozen=True, kw_only=True)
class _Plain:
    """What ``plan.json`` has under ``chosen``."""

    preset: Preset
    spacing_mm: tuple[float, float, float]
    network: NetworkName
    loss: Annotated[str, Field(max_length=200)]
    optimizer: OptimizerName
    schedule: ScheduleName
    augment: AugmentationName
    mirror: Annotated[tuple[Annotated[int, Field(ge=0, le=2)], ...], Field(max_length=3)] | None
    features: Annotated[tuple[_Size, ...], Field(min_length=2, max_length=17)]
    strides: _Levels
    kernels: _Levels
    patch: _Sizes
    batch: _Size


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
