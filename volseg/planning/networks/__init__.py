"""The networks that a plan may choose.

A new one is a class in a module here, in ``NETWORKS`` and ``NetworkName``, and its target in
``volseg.bundle.vocabulary``.
"""

from __future__ import annotations

from typing import Literal

from volseg.planning.component import by_name
from volseg.planning.networks.encoder_decoders import DeepLab, SegNet, VNet
from volseg.planning.networks.network import LevelRules, Network, Topology
from volseg.planning.networks.segresnets import SegResNet, SegResNetDS
from volseg.planning.networks.transformers import UNETR, SwinUNETR
from volseg.planning.networks.unets import AttentionUnet, DynUNet, ResEnc, ResidualDynUNet, UNet

NetworkName = Literal[
    "dynunet", "dynunet-residual", "unet", "resenc", "segresnet", "segresnet-ds", "attention-unet", "vnet", "unetr",
    "swin-unetr", "segnet", "deeplab",
]  # fmt: skip

NETWORKS: dict[str, type[Network]] = by_name(
    DynUNet, ResidualDynUNet, UNet, ResEnc, SegResNet, SegResNetDS, AttentionUnet, VNet, UNETR, SwinUNETR, SegNet, DeepLab
)  # fmt: skip


def encoder_parts_of(target: str) -> tuple[str, ...]:
    """The encoder of the network that a config names, as ``Network.encoder_parts``; empty where nobody knows it."""
    return next((kind.encoder_parts for kind in NETWORKS.values() if kind.target == target), ())


__all__ = ["NETWORKS", "LevelRules", "Network", "NetworkName", "Topology", "encoder_parts_of"]
