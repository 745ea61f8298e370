"""SegNet in 3D."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from volseg.networks.blocks import Convolution, Sides, triple

if TYPE_CHECKING:
    from collections.abc import Sequence


class SegNet(nn.Module):
    """SegNet (Badrinarayanan, Kendall and Cipolla, IEEE TPAMI 39, 2017), in 3D.

    An encoder of convolutions and max-pooling, and a decoder that puts each value back where its maximum was, which
    keeps borders sharp without carrying whole volumes across as a U-Net does. Instance norm and leaky ReLU stand in
    place of batch norm and ReLU, since batches of volumes are small. Any size goes in: an axis that the pooling doesn't
    divide has a shorter window at its end.

    Args:
        in_channels: of the image.
        out_channels: of the logits.
        features: of each stage.
        strides: of the pooling after each stage; its windows don't overlap.
        kernels: of each stage's convolutions; 3 by default.
        convolutions: of each stage; the paper has VGG16's 2, 2, 3, 3, 3.

    Raises:
        ValueError: the numbers of stages differ.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[Sides],
        kernels: Sequence[Sides] | None = None,
        convolutions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.strides = [triple(stride) for stride in strides]
        stages = [
            *zip(
                features, self.strides, kernels or [3] * len(features), convolutions or [2] * len(features), strict=True
            )
        ]
        self.encoder, decoder = nn.ModuleList(), []
        before = in_channels
        for number, (width, _, kernel, count) in enumerate(stages):
            self.encoder.append(_stage([before, *[width] * count], kernel))
            above = features[max(0, number - 1)]
            decoder.append(_stage([*[width] * count, above], kernel))
            before = width
        self.decoder = nn.ModuleList(reversed(decoder))
        self.head = nn.Conv3d(features[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, out_channels, i, j, k) of an image (batch, in_channels, i, j, k)."""
        volume, places = image, []
        for stage, stride in zip(self.encoder, self.strides, strict=True):
            volume = stage(volume)
            size = volume.shape[2:]
            volume, indices = pool(volume, stride)
            places.append((indices, size))
        for stage, (indices, size) in zip(self.decoder, reversed(places), strict=True):
            volume = stage(unpool(volume, indices, size))
        logits: Tensor = self.head(volume)
        return logits


def _stage(widths: Sequence[int], kernel: Sides) -> nn.Sequential:
    return nn.Sequential(*(Convolution(one, other, kernel) for one, other in pairwise(widths)))


def pool(volume: Tensor, stride: Sides) -> tuple[Tensor, Tensor]:
    """The largest value of each window, and its place among the voxels of its volume.

    Windows don't overlap, and those at the end of an axis are cut off. Values are gathered by their places, so that the
    gradient is the same at each run on a GPU, which max-pooling's own isn't.

    Args:
        volume: (batch, channel, i, j, k).
        stride: and sides of the windows.

    Returns:
        Values and places, both (batch, channel, i / stride, ...) rounded up; a place counts along k first.
    """
    sides = triple(stride)
    with torch.no_grad():
        _, indices = max_pool3d(volume, sides, sides, ceil_mode=True, return_indices=True)
    return volume.flatten(2).gather(2, indices.flatten(2)).view(indices.shape), indices


def unpool(volume: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
    """Each value at its place in a volume of zeros; what ``pool`` gave, put back.

    Args:
        volume: (batch, channel, i, j, k).
        indices: of the same shape; no two of a volume are equal.
        size: of the volume that the places lie in.
    """
    empty = volume.new_zeros(*volume.shape[:2], size[0] * size[1] * size[2])
    return empty.scatter(2, indices.flatten(2), volume.flatten(2)).view(*volume.shape[:2], *size)
