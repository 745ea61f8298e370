"""V-Net, SegNet and DeepLabv3+."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from volseg.errors import UsageError
from volseg.planning.component import Component, ConfigValue
from volseg.planning.networks.network import LevelRules, Network, lists

OUTPUT_STRIDE = 8
"""DeepLab's; the paper's finer one of 8 and 16."""
RATES = (6 / 33, 12 / 33, 18 / 33)
"""Of DeepLab's pyramid, as shares of the features' length: the paper's 6, 12, 18 at an output stride of 16 and 513 pixels."""
MOST_HEAD_FEATURES = 256


@dataclass(frozen=True)
class VNet(Network):
    """MONAI's VNet (Milletari, Navab and Ahmadi, 3DV 2016), without the dropout that MONAI adds."""

    target: ClassVar[str] = "monai.networks.nets.VNet"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"in_tr\.", r"down_tr\d+\.")
    name: ClassVar[str] = "vnet"
    words: ClassVar[str] = "V-Net of 5x5x5 kernels and batch norm; 45.6 million weights, whatever the preset"
    rules: ClassVar[LevelRules] = LevelRules("together", least=5, most=5)
    first: ClassVar[int] = 16

    def __post_init__(self) -> None:
        if self.first % self.in_channels:
            raise UsageError(
                f"The network vnet takes images of 1, 2, 4, 8 or 16 channels, not {self.in_channels}. Choose another "
                "--network."
            )

    @classmethod
    def widths(cls, features: int, most: int, levels: int) -> tuple[int, ...]:
        """The paper's, which nobody can change."""
        del features, most
        return tuple(cls.first * 2**level for level in range(levels))

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        return {"dropout_prob_down": None, "dropout_prob_up": [None, 0.0]}


@dataclass(frozen=True)
class SegNet(Network):
    """SegNet (Badrinarayanan, Kendall and Cipolla, IEEE TPAMI 39, 2017), in 3D: ``volseg.networks.SegNet``.

    Its levels are stages that end in pooling; as in the paper nothing lies below the last.
    """

    packages: ClassVar[tuple[str, ...]] = ("volseg",)
    target: ClassVar[str] = "volseg.networks.SegNet"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"encoder\.",)
    name: ClassVar[str] = "segnet"
    words: ClassVar[str] = "SegNet in 3D, which unpools to where the maxima were and carries no features across"

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        return {
            "features": list(self.topology.features[:-1]),
            "strides": lists(self.topology.strides),
            "kernels": lists(self.topology.kernels[:-1]),
        }


@dataclass(frozen=True)
class DeepLab(Network):
    """DeepLabv3+ (Chen et al., ECCV 2018), in 3D: ``volseg.networks.DeepLabV3Plus``.

    Its encoder begins below the first level, at half the resolution, and halves no axis by more than the output stride.
    """

    packages: ClassVar[tuple[str, ...]] = ("volseg",)
    target: ClassVar[str] = "volseg.networks.DeepLabV3Plus"
    encoder_parts: ClassVar[tuple[str, ...]] = (r"encoder\.",)
    name: ClassVar[str] = "deeplab"
    words: ClassVar[str] = "DeepLabv3+ in 3D, which sees far by widened kernels; edges at half the resolution"

    def arguments(self) -> Component:
        """What it takes beside its channels."""
        strides = self.topology.strides
        lengths = [
            math.ceil(side / min(OUTPUT_STRIDE, math.prod(stride[axis] for stride in strides)))
            for axis, side in enumerate(self.patch)
        ]
        # A kernel wider than the features would see nothing but their padding.
        rates: list[ConfigValue] = [
            [max(1, min(length - 1, round(share * length))) for length in lengths] for share in RATES
        ]
        return {
            "features": list(self.topology.features[1:]),
            "strides": lists(strides),
            "kernels": lists(self.topology.kernels[1:]),
            "output_stride": OUTPUT_STRIDE,
            "rates": rates,
            "head_features": min(MOST_HEAD_FEATURES, 4 * self.topology.features[0]),
        }
