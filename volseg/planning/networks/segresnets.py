"""SegResNet and SegResNetDS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from volseg.planning.component import Component
from volseg.planning.networks.network import DeepSupervised, LevelRules, Network

BLOCKS = (1, 2, 2, 4, 4)
"""Residual blocks of each level on the way down."""
GROUPS = 8
"""Of group norm."""


class _Doubling(Network):
    """A network whose class makes the widths itself, of the first."""

    @classmethod
    def widths(cls, features: int, most: int, levels: int) -> tuple[int, ...]:
        """Each level has twice those of the one above it."""
        del most
        return tuple(features * 2**level for level in range(levels))


@dataclass(frozen=True)
class SegResNet(_Doubling):
    """MONAI's SegResNet (Myronenko, BrainLes 2018, without the autoencoder branch).

    It enlarges by transposed convolutions: trilinear interpolation has no gradient on a GPU that is the same at each
    run.
    """

    target: ClassVar[str] = "monai.networks.nets.SegResNet"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"convInit\.", r"down_layers\.")
    name: ClassVar[str] = "segresnet"
    words: ClassVar[str] = "residual encoder with a slim decoder and group norm, made for brain tumours"
    rules: ClassVar[LevelRules] = LevelRules("together", most=4)

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        levels = len(self.topology.features)
        return {
            "init_filters": self.topology.features[0],
            "norm": ["GROUP", {"num_groups": math.gcd(GROUPS, self.topology.features[0])}],
            "blocks_down": list(BLOCKS[:levels]),
            "blocks_up": [1] * (levels - 1),
            "upsample_mode": "deconv",
        }


@dataclass(frozen=True)
class SegResNetDS(_Doubling, DeepSupervised):
    """MONAI's SegResNetDS as Auto3DSeg has it (Myronenko et al., 2022), which won several challenges."""

    target: ClassVar[str] = "monai.networks.nets.SegResNetDS"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"encoder\.",)
    name: ClassVar[str] = "segresnet-ds"
    words: ClassVar[str] = "Auto3DSeg's residual encoder with a slim decoder and deep supervision"
    rules: ClassVar[LevelRules] = LevelRules("thick-wait", most=5)

    @property
    def training_only(self) -> tuple[str, ...]:
        """The heads of all but the last layer on the way up."""
        return tuple(f"up_layers.{layer}.head" for layer in range(self.heads))

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        levels = len(self.topology.features)
        # MONAI halves an axis at first as often as the thickest is longer, in powers of 2.
        waits = [sum(stride[axis] == 1 for stride in self.topology.strides) for axis in range(3)]
        waiting: Component = {"resolution": [float(2**count) for count in waits]} if any(waits) else {}
        return {
            "init_filters": self.topology.features[0],
            "norm": "INSTANCE",
            "blocks_down": list(BLOCKS[:levels]),
            "dsdepth": 1 + self.heads,
            "upsample_mode": "deconv",
            **waiting,
        }
