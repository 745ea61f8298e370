"""The networks that a plan may choose.

A new one is a class here, in ``NETWORKS`` and ``NetworkName``, and its target in ``volseg.bundle.vocabulary``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from volseg.planning.component import Built, Component, ConfigValue, by_name, component

NetworkName = Literal["dynunet", "dynunet-residual", "unet"]


@dataclass(frozen=True)
class Topology:
    """The levels of a U-shaped network; the kernel is 3 except across slices that lie far apart."""

    features: tuple[int, ...]
    """Of each level."""
    strides: tuple[tuple[int, int, int], ...]
    """From each level to the next, one fewer than levels."""
    kernels: tuple[tuple[int, int, int], ...]
    """Of each level."""


@dataclass(frozen=True)
class Network(Built):
    """A network as a config describes it.

    Args:
        topology: its levels.
        in_channels: of the image.
        out_channels: one for each label and one for the background.
    """

    topology: Topology
    in_channels: int
    out_channels: int

    target: ClassVar[str]
    """The class that the config names."""
    encoder_parts: ClassVar[tuple[str, ...]] = ()
    """What the names of the encoder's weights begin with, as regular expressions, down to the lowest level."""

    @property
    def heads(self) -> int:
        """Number of deep-supervision outputs beside the main one in training."""
        return 0

    training_only: ClassVar[tuple[str, ...]] = ()
    """Parts of names of weights that the plain form lacks."""

    @property
    def for_inference(self) -> Network:
        """Its plain form: the same weights without the heads that only training needs."""
        return self


@dataclass(frozen=True)
class DynUNet(Network):
    """MONAI's DynUNet, a reimplementation of nnU-Net's U-Net.

    Args:
        deep: whether the heads at the lower levels are there.
    """

    deep: bool = True

    target: ClassVar[str] = "monai.networks.nets.DynUNet"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"input_block\.", r"downsamples\.", r"bottleneck\.")
    name: ClassVar[str] = "dynunet"
    words: ClassVar[str] = "nnU-Net's plain U-Net at full resolution, with deep supervision"
    residual: ClassVar[bool] = False
    training_only: ClassVar[tuple[str, ...]] = ("deep_supervision_heads", "super_head")

    @property
    def heads(self) -> int:
        """One at each level between the first and the last."""
        return len(self.topology.strides) - 1 if self.deep else 0

    @property
    def for_inference(self) -> DynUNet:
        """Without the heads."""
        return replace(self, deep=False)

    def component(self) -> Component:
        """Its target and arguments."""
        strides = _lists(self.topology.strides)
        residual: Component = {"res_block": True} if self.residual else {}
        deep: Component = {"deep_supervision": True, "deep_supr_num": self.heads} if self.heads else {}
        return component(
            self.target,
            spatial_dims=3,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_size=_lists(self.topology.kernels),
            strides=[[1, 1, 1], *strides],
            upsample_kernel_size=strides,
            filters=list(self.topology.features),
            norm_name="INSTANCE",
            **residual,
            **deep,
        )


@dataclass(frozen=True)
class ResidualDynUNet(DynUNet):
    """DynUNet with residual blocks, without deep supervision unless asked for."""

    deep: bool = False

    name: ClassVar[str] = "dynunet-residual"
    words: ClassVar[str] = "U-Net of residual blocks at full resolution, which learns faster"
    residual: ClassVar[bool] = True


@dataclass(frozen=True)
class UNet(Network):
    """MONAI's UNet with residual units; its first convolution halves the resolution."""

    target: ClassVar[str] = "monai.networks.nets.UNet"
    # Each level holds the next as its submodule, between its way down (0) and its way up (2).
    encoder_parts: ClassVar[tuple[str, ...]] = (
        r"model\.(1\.submodule\.)*0\.",
        r"model\.(1\.submodule\.)+(conv|residual)\.",
    )
    name: ClassVar[str] = "unet"
    words: ClassVar[str] = "residual U-Net that halves at its first convolution, at a third of the cost"

    def component(self) -> Component:
        """Its target and arguments."""
        return component(
            self.target,
            spatial_dims=3,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            channels=list(self.topology.features),
            strides=_lists(self.topology.strides),
            num_res_units=2,
            norm="INSTANCE",
        )


NETWORKS: dict[str, type[Network]] = by_name(DynUNet, ResidualDynUNet, UNet)


def encoder_parts_of(target: str) -> tuple[str, ...]:
    """The encoder of the network that a config names, as ``Network.encoder_parts``; empty where nobody knows it."""
    return next((kind.encoder_parts for kind in NETWORKS.values() if kind.target == target), ())


def _lists(triples: tuple[tuple[int, int, int], ...]) -> list[ConfigValue]:
    return [list(triple) for triple in triples]
