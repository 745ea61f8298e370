"""What bfloat16 changes in the labels of a finished model, measured on cases that its run held out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from volseg.training.autocast import AutocastInferer, use_bfloat16

if TYPE_CHECKING:
    from volseg.training.budget import Budget

MAX_SECONDS = 10.0
MAX_SHARE = 0.02
"""Measuring takes no more than this share of a run's time."""
PASSES = 3.0
"""What a case takes, in validations of one: these compute in bfloat16 once, and float32 takes about twice as long."""


@dataclass(frozen=True)
class Bfloat16Change:
    """How many voxels get another label in bfloat16 than in float32.

    Counted as the network gives them, on the grid of its preprocessing and before any rule for labels.

    Args:
        cases: how many were compared.
        voxels: that they have.
        changed: how many of these.
    """

    cases: int
    voxels: int
    changed: int


def seconds_to_measure(evaluator: Any, budget: Budget, device: torch.device) -> float:
    """How long measuring may take at the end of a run; 0 where ``evaluator`` doesn't compute in bfloat16."""
    casts = isinstance(getattr(evaluator, "inferer", None), AutocastInferer)
    if not casts or not (evaluator.inferer.anywhere or use_bfloat16(device)):
        return 0.0
    whole = budget.elapsed_seconds if budget.minutes is None else budget.minutes * 60
    return min(MAX_SECONDS, MAX_SHARE * whole)


def measure_change(
    evaluator: Any, seconds: float, validation_seconds: float, *, overlap: bool = False
) -> Bfloat16Change | None:
    """Compare labels in bfloat16 with those in float32, of as many cases as there is time for.

    Args:
        evaluator: MONAI's, with an ``AutocastInferer`` and the weights to measure in its network.
        seconds: how long it may take.
        validation_seconds: what a validation of all its cases took.
        overlap: whether each output is a region by itself; a voxel then counts where it is in another set of these.

    Returns:
        None where there is not even time for one case.
    """
    begun, loader = time.monotonic(), evaluator.data_loader
    expected = PASSES * validation_seconds / max(1, len(loader))
    cases = voxels = changed = 0
    if expected > seconds:
        return None
    evaluator.network.eval()
    with torch.inference_mode():
        for batch in loader:
            before = time.monotonic()
            if before + expected > begun + seconds:
                break
            image = evaluator.prepare_batch(batch, evaluator.state.device, evaluator.non_blocking)[0]
            ours, exact = (
                _decided(torch.as_tensor(inferer(image, evaluator.network)), overlap=overlap)
                for inferer in (evaluator.inferer, evaluator.inferer.inferer)
            )
            cases, voxels = cases + len(image), voxels + ours[:, 0].numel()
            changed += int((ours != exact).any(1).sum())
            expected = time.monotonic() - before
    return Bfloat16Change(cases, voxels, changed) if cases else None


def _decided(logits: torch.Tensor, *, overlap: bool) -> torch.Tensor:
    """(batch, 1 or region, i, j, k): the likeliest class of each voxel, or whether it is in each region."""
    return logits >= 0 if overlap else logits.argmax(1, keepdim=True)
