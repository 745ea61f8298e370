"""Cross-entropy, over all voxels or the hardest of them."""

from __future__ import annotations

import torch
from torch.nn import Module
from torch.nn import functional as F

from volseg.errors import UsageError


class CrossEntropy(Module):
    """Cross-entropy of logits, in float32.

    torch's own takes labels without a channel axis, which MONAI's engines keep.

    Args:
        sigmoid: whether the channels are independent regions, of which a voxel may be in several: binary
            cross-entropy. Else they are classes of which each voxel has one.
        hardest_share: the mean is over this share of the voxels, those of the highest loss in the whole batch
            (top-k, as in nnU-Net's ``DC_and_topk_loss``, which takes 0.1).

    Raises:
        UsageError: the share is not above 0 and up to 1.
    """

    def __init__(self, sigmoid: bool = False, hardest_share: float = 1.0) -> None:
        super().__init__()
        if not 0 < hardest_share <= 1:
            raise UsageError(f"hardest_share must be above 0 and up to 1, not {hardest_share}.")
        self.sigmoid, self.hardest_share = sigmoid, hardest_share

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean over the voxels.

        Args:
            input: logits (batch, channel, i, j, k).
            target: whole numbers (batch, 1, i, j, k); with ``sigmoid`` 0 or 1 for each channel.
        """
        if self.sigmoid:
            losses = F.binary_cross_entropy_with_logits(input.float(), target.float(), reduction="none")
        else:
            losses = F.cross_entropy(input.float(), target[:, 0].long(), reduction="none")
        if self.hardest_share < 1:
            count = max(1, int(losses.numel() * self.hardest_share))
            losses = torch.topk(losses.flatten(), count, sorted=False).values
        return losses.mean()
