"""nnU-Net's U-Net with a residual encoder (ResEnc)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from volseg.networks.blocks import SLOPE, Convolution, ResidualBlock, Sides, triple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResidualEncoderUNet(nn.Module):
    """nnU-Net's U-Net with a residual encoder (Isensee et al., nnU-Net Revisited, MICCAI 2024).

    A stem, residual blocks at each level, and a decoder of one convolution at each level. Weights begin as nnU-Net's do:
    He's normal distribution, and blocks that first pass on what they are given. Any size goes in.

    Args:
        in_channels: of the image.
        out_channels: of the logits.
        features: of each level.
        strides: from each level to the next, one fewer than levels.
        kernels: of each level.
        blocks: of each level; ResEnc M and L have 1, 3, 4, 6, 6, 6.
        heads: further outputs at lower levels in training, for deep supervision; at most one for each but the first and
            the last level.

    Raises:
        ValueError: the numbers of levels differ, or there are too many heads.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[Sides],
        kernels: Sequence[Sides],
        blocks: Sequence[int],
        heads: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= heads <= len(strides) - 1:
            raise ValueError(f"{len(features)} levels have no room for {heads} heads beside the main one.")
        self.stem = Convolution(in_channels, features[0], kernels[0])
        self.encoder = nn.ModuleList()
        before = features[0]
        for width, stride, kernel, count in zip(features, [1, *strides], kernels, blocks, strict=True):
            first = ResidualBlock(before, width, kernel, stride, pooled=True)
            self.encoder.append(
                nn.Sequential(first, *(ResidualBlock(width, width, kernel, pooled=True) for _ in range(count - 1)))
            )
            before = width
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(strides))):
            stride = triple(strides[level])
            self.up.append(nn.ConvTranspose3d(features[level + 1], features[level], stride, stride))
            self.decoder.append(Convolution(2 * features[level], features[level], kernels[level]))
        self.head = nn.Conv3d(features[0], out_channels, 1)
        self.lower_heads = nn.ModuleList(nn.Conv3d(width, out_channels, 1) for width in features[1 : heads + 1])
        self.apply(_begin)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits of an image (batch, in_channels, i, j, k).

        In training with further heads, theirs follow the main ones, the finest first, each at its level's size.
        """
        volume = self.stem(image)
        levels: list[Tensor] = []
        for stage in self.encoder:
            volume = stage(volume)
            levels.append(volume)
        outputs: list[Tensor] = [levels.pop()]
        for up, stage in zip(self.up, self.decoder, strict=True):
            across = levels.pop()
            i, j, k = across.shape[2:]
            # A level of an odd size comes back one voxel longer.
            outputs.insert(0, stage(torch.cat((up(outputs[0])[..., :i, :j, :k], across), dim=1)))
        logits: Tensor = self.head(outputs[0])
        if not self.training or not len(self.lower_heads):
            return logits
        return [logits, *(head(one) for head, one in zip(self.lower_heads, outputs[1:], strict=False))]


def _begin(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ResidualBlock):
        norm = module.second[1]
        assert isinstance(norm, nn.InstanceNorm3d)
        nn.init.zeros_(norm.weight)
