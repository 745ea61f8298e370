"""Voxels that nobody judged: no loss and no metric counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.transforms import MapTransform

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from monai.config import KeysCollection

CERTAIN = 100.0
"""A logit by which float32 and bfloat16 have a probability of 1 and, of its negative, of next to 0."""


class IgnoringLoss(torch.nn.Module):
    """A loss over the voxels that were judged: others get no gradient, and what they hold changes nothing.

    Where nobody judged, the loss gets a network and a label that are both certain of background, which adds nothing to
    the sums of a Dice over the batch, nor to a sum over voxels. Nothing here waits for a GPU.

    Args:
        loss: over logits (batch, channel, i, j, k) and labels (batch, 1 or channel, i, j, k).
        ignore: the number that all channels of a label have where nobody judged.
        sigmoid: whether each channel is a region by itself, and none of them the background.
        mean: whether the loss is a mean over voxels, which then is one over the judged ones.
    """

    def __init__(
        self, loss: Callable[..., torch.Tensor], ignore: int, *, sigmoid: bool = False, mean: bool = False
    ) -> None:
        super().__init__()
        self.loss = loss
        self.ignore = ignore
        self.sigmoid = sigmoid
        self.mean = mean

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar; 0 where nothing was judged."""
        judged = label[:, :1] != self.ignore
        background = torch.full((1, logits.shape[1], 1, 1, 1), -CERTAIN, dtype=logits.dtype, device=logits.device)
        if not self.sigmoid:
            background[:, 0] = CERTAIN
        found = self.loss(torch.where(judged, logits, background), torch.where(judged, label, 0))
        return found * (judged.numel() / judged.sum().clamp(min=1)) if self.mean else found


class ClearIgnoredd(MapTransform):  # type: ignore[misc]
    """Background in a prediction, and in its label, where the label says that nobody judged.

    Args:
        keys: whose values (channel, i, j, k) are cleared.
        label_key: of the label; where it is among ``keys``, it may come at any place.
        ignore: the number that the label has there.
        allow_missing_keys: whether a key may be absent.
    """

    def __init__(self, keys: KeysCollection, label_key: str, ignore: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_key = label_key
        self.ignore = ignore

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the cleared values in it."""
        ignored = torch.as_tensor(data[self.label_key])[:1] == self.ignore
        cleared = {key: data[key].masked_fill(ignored.to(data[key].device), 0) for key in self.key_iterator(data)}
        return {**data, **cleared}
