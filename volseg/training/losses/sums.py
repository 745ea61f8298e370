"""A weighted sum of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import Module, ModuleList

from volseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class SumOfLosses(Module):
    """A weighted sum of losses of the same logits and labels.

    Args:
        losses: what is added up.
        weights: of each.

    Raises:
        UsageError: there is not one weight for each loss.
    """

    def __init__(self, losses: Sequence[Module], weights: Sequence[float]) -> None:
        super().__init__()
        if len(losses) != len(weights) or not losses:
            raise UsageError(f"{len(losses)} losses need as many weights, not {len(weights)}.")
        self.losses, self.weights = ModuleList(losses), tuple(weights)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The sum; ``input`` are logits, ``target`` what the losses take."""
        return torch.stack(
            [weight * loss(input, target) for weight, loss in zip(self.weights, self.losses, strict=True)]
        ).sum()
