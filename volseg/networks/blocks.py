"""The blocks that the networks are built of: convolutions of (batch, channel, i, j, k), normalised for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

Triple = tuple[int, int, int]
Sides = int | Sequence[int]
"""One number for all axes, or one for each."""
SLOPE = 0.01
"""Of leaky ReLU below 0, as in nnU-Net."""


def triple(sides: Sides) -> Triple:
    """A number for each axis.

    Raises:
        ValueError: there are neither one nor three.
    """
    i, j, k = (sides, sides, sides) if isinstance(sides, int) else sides
    return int(i), int(j), int(k)


class Convolution(nn.Sequential):
    """A convolution that keeps the size (up to its stride), instance norm, and leaky ReLU unless ``active`` is false."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sides = 3,
        *,
        stride: Sides = 1,
        dilation: Sides = 1,
        bias: bool = True,
        active: bool = True,
    ) -> None:
        kernel, dilation = triple(kernel), triple(dilation)
        padding = cast("Triple", tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)))
        super().__init__(
            nn.Conv3d(in_channels, out_channels, kernel, triple(stride), padding, dilation, bias=bias),
            nn.InstanceNorm3d(out_channels, affine=True),
            *([nn.LeakyReLU(SLOPE, inplace=True)] if active else []),
        )


class ResidualBlock(nn.Module):
    """Two convolutions beside a way around them (He et al., CVPR 2016).

    Args:
        in_channels: of what comes in.
        out_channels: of what goes out.
        kernel: of both convolutions.
        stride: of the first.
        dilations: of the first and of the second.
        pooled: whether the way around takes the mean of the voxels that a stride joins (ResNet-D; He et al., CVPR 2019)
            instead of one of them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sides = 3,
        stride: Sides = 1,
        *,
        dilations: tuple[Sides, Sides] = (1, 1),
        pooled: bool = False,
    ) -> None:
        super().__init__()
        step = triple(stride)
        self.first = Convolution(in_channels, out_channels, kernel, stride=step, dilation=dilations[0])
        self.second = Convolution(out_channels, out_channels, kernel, dilation=dilations[1], active=False)
        around: list[nn.Module] = []
        strided = max(step) > 1
        if strided and pooled:
            around.append(nn.AvgPool3d(step, step, ceil_mode=True))
        if in_channels != out_channels or (strided and not pooled):
            around.append(
                Convolution(in_channels, out_channels, 1, stride=1 if pooled else step, bias=False, active=False)
            )
        self.around = nn.Sequential(*around)

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, out_channels, i, j, k), each axis divided by the stride and rounded up."""
        return leaky_relu(self.second(self.first(volume)) + self.around(volume), SLOPE)


def resized(volume: Tensor, size: Sequence[int]) -> Tensor:
    """A volume (batch, channel, i, j, k) interpolated linearly along each axis; voxels' outer borders keep their places.

    As torch's own ``trilinear`` (``align_corners=False``), but as products of matrices, whose gradients are the same at
    each run on a GPU, too.
    """
    for axis, wanted in enumerate(size, 2):
        have = volume.shape[axis]
        if have != wanted:
            unit = torch.eye(have, dtype=volume.dtype, device=volume.device)[None]
            shares = interpolate(unit, size=wanted, mode="linear", align_corners=False)[0]
            volume = (volume.movedim(axis, -1) @ shares).movedim(-1, axis)
    return volume
