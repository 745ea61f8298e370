"""DeepLabv3+ in 3D."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from volseg.networks.blocks import SLOPE, Convolution, ResidualBlock, Sides, Triple, resized, triple

if TYPE_CHECKING:
    from collections.abc import Sequence

LOW_SHARE = 3 / 16
"""Of the head's features, those that come from the first level: the paper's 48 beside 256."""


class DeepLabV3Plus(nn.Module):
    """DeepLabv3+ (Chen et al., Encoder-Decoder with Atrous Separable Convolution, ECCV 2018), in 3D.

    A residual encoder whose lower levels widen their kernels instead of halving further, a pyramid of such atrous
    convolutions at several rates beside the mean of the whole input, and a decoder that joins it with the first level's
    features. The first level is halved already, so that what the decoder gives is enlarged by that stride once more.
    Convolutions are whole ones (the paper's ResNet), with instance norm. Any size goes in that leaves more than one voxel.

    Args:
        in_channels: of the image.
        out_channels: of the logits.
        features: of each level of the encoder.
        strides: of each level, from what is above it.
        kernels: of each level; 3 by default.
        output_stride: no axis is divided by more than this; beyond it kernels are dilated by the stride instead.
        rates: dilations of the pyramid; the paper's 6, 12, 18 suit its 33 x 33 features of 513 x 513 pixels.
        head_features: of the pyramid's branches and of the decoder.
        blocks: residual blocks of each level.

    Raises:
        ValueError: the numbers of levels differ.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[Sides],
        kernels: Sequence[Sides] | None = None,
        output_stride: int = 8,
        rates: Sequence[Sides] = (6, 12, 18),
        head_features: int = 256,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList()
        reached: Triple = (1, 1, 1)
        dilation: Triple = (1, 1, 1)
        before = in_channels
        for width, wanted, kernel in zip(features, strides, kernels or [3] * len(features), strict=True):
            stride, reached, widened = _atrous(triple(wanted), reached, dilation, output_stride)
            # The convolution that would have had the stride is itself not dilated by it yet.
            first = ResidualBlock(before, width, kernel, stride, dilations=(dilation, widened))
            dilation, before = widened, width
            more = (ResidualBlock(width, width, kernel, dilations=(dilation, dilation)) for _ in range(blocks - 1))
            self.encoder.append(nn.Sequential(first, *more))
        self.output_stride = reached
        self.pyramid = AtrousPyramid(features[-1], head_features, rates)
        low = max(1, round(head_features * LOW_SHARE))
        self.low = Convolution(features[0], low, 1)
        self.decoder = nn.Sequential(
            Convolution(head_features + low, head_features), Convolution(head_features, head_features)
        )
        self.head = nn.Conv3d(head_features, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, out_channels, i, j, k) of an image (batch, in_channels, i, j, k)."""
        first = volume = self.encoder[0](image)
        for level in self.encoder[1:]:
            volume = level(volume)
        context = resized(self.pyramid(volume), first.shape[2:])
        joined = self.decoder(torch.cat((context, self.low(first)), dim=1))
        return resized(self.head(joined), image.shape[2:])


class AtrousPyramid(nn.Module):
    """The same features at several rates side by side, and their mean over the whole volume (DeepLabv3's ASPP).

    Args:
        in_channels: of what comes in.
        features: of each branch, and of what goes out.
        rates: dilations of the branches.
    """

    def __init__(self, in_channels: int, features: int, rates: Sequence[Sides]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                Convolution(in_channels, features, 1),
                *(Convolution(in_channels, features, dilation=rate) for rate in rates),
            ]
        )
        # No norm: one voxel has no spread.
        self.whole = nn.Sequential(nn.Conv3d(in_channels, features, 1), nn.LeakyReLU(SLOPE, inplace=True))
        self.join = Convolution(features * (len(rates) + 2), features, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, features, i, j, k) of (batch, in_channels, i, j, k)."""
        mean = self.whole(volume.mean((2, 3, 4), keepdim=True)).expand(-1, -1, *volume.shape[2:])
        joined: Tensor = self.join(torch.cat((*(branch(volume) for branch in self.branches), mean), dim=1))
        return joined


def _atrous(stride: Triple, reached: Triple, dilation: Triple, most: int) -> tuple[Triple, Triple, Triple]:
    """The stride that stays of one, what all have reached with it, and the dilation in place of the rest."""
    kept = [one if one * sum_ <= most else 1 for one, sum_ in zip(stride, reached, strict=True)]
    return (
        triple(kept),
        triple([one * sum_ for one, sum_ in zip(kept, reached, strict=True)]),
        triple([old * wanted // one for old, wanted, one in zip(dilation, stride, kept, strict=True)]),
    )
