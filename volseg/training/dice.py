"""Dice metric by which training chooses a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _EvaluatedDice(DiceMetric):  # type: ignore[misc]
    """MONAI's Dice, which passes over a label that the reference lacks, also where the prediction has it."""

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = super()._compute_tensor(y_pred, y)
        found = y_pred[:, y_pred.shape[1] - scores.shape[1] :].flatten(2).any(dim=2)
        return torch.where(scores.isnan() & found.to(scores.device), torch.zeros_like(scores), scores)


class EvaluatedDice(IgniteMetricHandler):  # type: ignore[misc]
    """The mean Dice of one-hot masks as ``volseg evaluate`` counts it, as a metric of an ignite engine.

    A label that the reference lacks scores 0 where it was found all the same, and nothing where it was not. Each
    case's score is the mean over its labels, and the result the mean over the cases.

    Args:
        include_background: whether the first channel counts as a label.
        output_transform: from the engine's output to predictions and references, each a list of (channel, i, j, k).
    """

    def __init__(
        self, include_background: bool = False, output_transform: Callable[..., Any] = lambda output: output
    ) -> None:
        super().__init__(_EvaluatedDice(include_background=include_background), output_transform=output_transform)
