"""UNETR and SwinUNETR: transformers whose features a convolutional decoder takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from volseg.planning.component import Component
from volseg.planning.networks.network import LevelRules, Network

HEAD_FEATURES = 64
"""Of each attention head of a vision transformer."""


@dataclass(frozen=True)
class UNETR(Network):
    """MONAI's UNETR (Hatamizadeh et al., WACV 2022).

    With 32 features it is the paper's, whose transformer is ViT-B (768 features, 12 heads); with 16 it is half as wide.
    """

    packages: ClassVar[tuple[str, ...]] = ("einops",)
    target: ClassVar[str] = "monai.networks.nets.UNETR"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"vit\.",)
    name: ClassVar[str] = "unetr"
    words: ClassVar[str] = "vision transformer over blocks of 16 voxels with a convolutional decoder; wants many cases"
    rules: ClassVar[LevelRules] = LevelRules("together", least=5, most=5)

    @classmethod
    def widths(cls, features: int, most: int, levels: int) -> tuple[int, ...]:
        """Those of the decoder, which double, and last those of the transformer."""
        del most
        first = 4 * max(1, round(features / 8))
        return (*(first * 2**level for level in range(levels - 1)), 48 * first)

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        hidden = self.topology.features[-1]
        return {
            "img_size": list(self.patch),
            "feature_size": self.topology.features[0],
            "hidden_size": hidden,
            "mlp_dim": 4 * hidden,
            "num_heads": hidden // HEAD_FEATURES,
        }


@dataclass(frozen=True)
class SwinUNETR(Network):
    """MONAI's SwinUNETR (Hatamizadeh et al., BrainLes 2021); with 32 features of the preset it is the paper's 48."""

    packages: ClassVar[tuple[str, ...]] = ("einops",)
    target: ClassVar[str] = "monai.networks.nets.SwinUNETR"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"swinViT\.",)
    name: ClassVar[str] = "swin-unetr"
    words: ClassVar[str] = (
        "transformer of shifted windows with a convolutional decoder; slow on a CPU, wants many cases"
    )
    rules: ClassVar[LevelRules] = LevelRules("together", least=6, most=6)

    @classmethod
    def widths(cls, features: int, most: int, levels: int) -> tuple[int, ...]:
        """The first is a multiple of 12, and they double."""
        del most
        first = 12 * max(1, round(features / 8))
        return tuple(first * 2 ** max(0, level - 1) for level in range(levels))

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        return {"feature_size": self.topology.features[0]}
