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
        ignore: the number that all channels of a label have where nobody judged: such voxels don't count, and get no
            gradient. None where every voxel was judged.

    Raises:
        UsageError: the share is not above 0 and up to 1.
    """

    def __init__(self, sigmoid: bool = False, hardest_share: float = 1.0, ignore: int | None = None) -> None:
        super().__init__()
        if not 0 < hardest_share <= 1:
            raise UsageError(f"hardest_share must be above 0 and up to 1, not {hardest_share}.")
        self.sigmoid, self.hardest_share, self.ignore = sigmoid, hardest_share, ignore

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean over the voxels; 0 where none counts.

        Args:
            input: logits (batch, channel, i, j, k).
            target: whole numbers (batch, 1, i, j, k); with ``sigmoid`` 0 or 1 for each channel.
        """
        judged = None if self.ignore is None else target[:, :1] != self.ignore
        if judged is not None:
            input, target = torch.where(judged, input, 0), torch.where(judged, target, 0)
        if self.sigmoid:
            losses = F.binary_cross_entropy_with_logits(input.float(), target.float(), reduction="none")
        else:
            losses = F.cross_entropy(input.float(), target[:, 0].long(), reduction="none")
        share = self.hardest_share
        most = max(1, int(losses.numel() * share))
        if judged is None:
            return (torch.topk(losses.flatten(), most, sorted=False).values if share < 1 else losses).mean()
        # No shape depends on how many were judged: a GPU would have to tell it first.
        losses = torch.where(judged if self.sigmoid else judged[:, 0], losses, 0)
        count = judged.sum() * (losses.numel() // judged.numel())
        if share < 1:
            count = (count.double() * share).long()
            losses = torch.topk(losses.flatten(), most).values
            losses = torch.where(torch.arange(most, device=losses.device) < count.clamp(min=1), losses, 0)
        return losses.sum() / count.clamp(min=1)
