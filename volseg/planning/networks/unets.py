"""U-Nets: an encoder, a decoder, and each level's features carried across."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from volseg.planning.component import Component, ConfigValue
from volseg.planning.networks.network import DeepSupervised, Network, lists

RESENC_BLOCKS = (1, 3, 4, 6)
"""Residual blocks of the first levels of nnU-Net's ResEnc M and L; all below have as many as the last of these."""


@dataclass(frozen=True)
class DynUNet(DeepSupervised):
    """MONAI's DynUNet, a reimplementation of nnU-Net's U-Net (Isensee et al., Nature Methods 18, 2021)."""

    target: ClassVar[str] = "monai.networks.nets.DynUNet"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"input_block\.", r"downsamples\.", r"bottleneck\.")
    name: ClassVar[str] = "dynunet"
    words: ClassVar[str] = "nnU-Net's plain U-Net at full resolution, with deep supervision"
    residual: ClassVar[bool] = False

    @property
    def training_only(self) -> tuple[str, ...]:
        """The heads, which MONAI has under two names."""
        return ("deep_supervision_heads", "super_head") if self.heads else ()

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        strides = lists(self.topology.strides)
        residual: Component = {"res_block": True} if self.residual else {}
        deep: Component = {"deep_supervision": True, "deep_supr_num": self.heads} if self.heads else {}
        return {
            "kernel_size": lists(self.topology.kernels),
            "strides": [[1, 1, 1], *strides],
            "upsample_kernel_size": strides,
            "filters": list(self.topology.features),
            "norm_name": "INSTANCE",
            **residual,
            **deep,
        }


@dataclass(frozen=True)
class ResidualDynUNet(DynUNet):
    """DynUNet with residual blocks, without deep supervision unless asked for."""

    deep: bool = False

    name: ClassVar[str] = "dynunet-residual"
    words: ClassVar[str] = "U-Net of residual blocks at full resolution, which learns faster"
    residual: ClassVar[bool] = True


@dataclass(frozen=True)
class UNet(Network):
    """MONAI's UNet with residual units (Kerfoot et al., STACOM 2018); its first convolution halves the resolution."""

    target: ClassVar[str] = "monai.networks.nets.UNet"
    # Each level holds the next as its submodule, between its way down (0) and its way up (2).
    encoder_parts: ClassVar[tuple[str, ...]] = (
        r"model\.(1\.submodule\.)*0\.",
        r"model\.(1\.submodule\.)+(conv|residual)\.",
    )
    name: ClassVar[str] = "unet"
    words: ClassVar[str] = "residual U-Net that halves at its first convolution, at a ninth of the multiplications"

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        return {
            "channels": list(self.topology.features),
            "strides": lists(self.topology.strides),
            "num_res_units": 2,
            "norm": "INSTANCE",
        }


@dataclass(frozen=True)
class ResEnc(DeepSupervised):
    """nnU-Net's U-Net with a residual encoder (Isensee et al., nnU-Net Revisited, MICCAI 2024)."""

    packages: ClassVar[tuple[str, ...]] = ("volseg",)
    target: ClassVar[str] = "volseg.networks.ResidualEncoderUNet"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"stem\.", r"encoder\.")
    name: ClassVar[str] = "resenc"
    words: ClassVar[str] = "nnU-Net's U-Net with a deep residual encoder, with deep supervision"

    @property
    def training_only(self) -> tuple[str, ...]:
        """The heads."""
        return ("lower_heads",) if self.heads else ()

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        levels = len(self.topology.features)
        blocks: list[ConfigValue] = [RESENC_BLOCKS[min(level, len(RESENC_BLOCKS) - 1)] for level in range(levels)]
        deep: Component = {"heads": self.heads} if self.heads else {}
        return {
            "features": list(self.topology.features),
            "strides": lists(self.topology.strides),
            "kernels": lists(self.topology.kernels),
            "blocks": blocks,
            **deep,
        }


@dataclass(frozen=True)
class AttentionUnet(Network):
    """MONAI's AttentionUnet (Oktay et al., MIDL 2018)."""

    target: ClassVar[str] = "monai.networks.nets.AttentionUnet"
    # Each level's submodule is its way down (0) and the next level (1), or the lowest level itself.
    encoder_parts: ClassVar[tuple[str, ...]] = (r"model\.0\.", r"model\.1\.(submodule\.1\.)*submodule\.(0\.)?conv\.")
    name: ClassVar[str] = "attention-unet"
    words: ClassVar[str] = "plain U-Net at full resolution whose decoder weighs what comes across, with batch norm"

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        return {"channels": list(self.topology.features), "strides": lists(self.topology.strides)}
