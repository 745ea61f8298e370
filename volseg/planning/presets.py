"""The presets: what a training may cost, and what is chosen where nobody asks for anything else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from volseg.planning.augmentations import AUGMENTATIONS, AugmentationName
from volseg.planning.component import Choice
from volseg.planning.losses import LOSSES
from volseg.planning.networks import NETWORKS, NetworkName
from volseg.planning.optimizers import OPTIMIZERS, OptimizerName
from volseg.planning.schedules import SCHEDULES, ScheduleName

Preset = Literal["fast", "full", "large"]

REGISTRIES: dict[str, dict[str, type[Choice]]] = {
    "network": dict(NETWORKS),
    "loss": dict(LOSSES),
    "optimizer": dict(OPTIMIZERS),
    "schedule": dict(SCHEDULES),
    "augmentation": dict(AUGMENTATIONS),
}
"""All that a plan may choose from, by kind and name."""


@dataclass(frozen=True, kw_only=True)
class PresetLimits:
    """What a preset may cost, and what it chooses."""

    volume_voxels: float
    """The median volume is resampled coarser above this."""
    patch_voxels: int
    fine_patch_voxels: int
    """Up to this patch the preset's own network is affordable; above it, the coarse one is taken."""
    batch_voxels: float
    max_batch: int
    rounds_patch_up: bool
    """Whether a patch is rounded up to what the network can halve, and not to the nearest size of little loss."""
    features: int
    max_features: int
    max_levels: int
    steps_per_epoch: int
    max_epochs: int
    network: NetworkName
    coarse_network: NetworkName
    optimizer: OptimizerName
    memory_bytes: float
    """What a step may take unless a person says otherwise; the device may have less."""
    fills_memory: bool
    """Whether the patch grows with the memory that a person states."""
    loss: str = "dice-ce"
    schedule: ScheduleName = "polynomial"
    augment: AugmentationName = "light"


PRESETS: dict[Preset, PresetLimits] = {
    # Minutes on two cores.
    "fast": PresetLimits(
        volume_voxels=4e6, patch_voxels=96**3, fine_patch_voxels=100_000, batch_voxels=400_000, max_batch=2,
        rounds_patch_up=False, features=16, max_features=256, max_levels=5, steps_per_epoch=50, max_epochs=100,
        network="dynunet-residual", coarse_network="unet", optimizer="adamw", memory_bytes=math.inf, fills_memory=False,
    ),
    # nnU-Net's topology and length: 1000 epochs of 250 steps, patches of about 128^3, batch 2, up to 320 features.
    # Its reference is a GPU of 11 GB.
    "full": PresetLimits(
        volume_voxels=math.inf, patch_voxels=128**3, fine_patch_voxels=128**3, batch_voxels=2 * 128**3, max_batch=64,
        rounds_patch_up=True, features=32, max_features=320, max_levels=7, steps_per_epoch=250, max_epochs=1000,
        network="dynunet", coarse_network="unet", optimizer="sgd", memory_bytes=11e9, fills_memory=True,
        augment="full",
    ),
    # nnU-Net's ResEnc L (Isensee et al., nnU-Net Revisited, MICCAI 2024): patches as large as a GPU of 24 GB takes.
    "large": PresetLimits(
        volume_voxels=math.inf, patch_voxels=256**3, fine_patch_voxels=256**3, batch_voxels=2 * 256**3, max_batch=64,
        rounds_patch_up=True, features=32, max_features=320, max_levels=7, steps_per_epoch=250, max_epochs=1000,
        network="resenc", coarse_network="resenc", optimizer="sgd", memory_bytes=24e9, fills_memory=True,
        augment="full",
    ),
}  # fmt: skip
