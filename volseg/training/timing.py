"""What a validation will take, before one was measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.inferers.utils import _get_scan_interval
from monai.utils import ensure_tuple_rep, fall_back_tuple

if TYPE_CHECKING:
    from torch.nn import Module

    from volseg.progress import Progress

ESTIMATE_MARGIN = 1.2
"""One case tells only about what all of them take."""
TIMED_PASSES = 2
"""The first is slower: libraries choose how to compute, memory is taken for the first time."""


def time_validation(network: Module, evaluator: Any, progress: Progress) -> float:
    """What a validation takes, by one of its cases, or by a window of it where windows slide, in seconds."""
    passes = []
    loader = evaluator.data_loader
    with progress.task("Timing a validation", TIMED_PASSES, "passes") as task, torch.no_grad():
        batch = next(iter(loader))
        image = evaluator.prepare_batch(batch, evaluator.state.device, evaluator.non_blocking)[0]
        image, windows = _one_window(image, evaluator.inferer)
        network.eval()
        for _ in range(TIMED_PASSES):
            before = time.monotonic()
            found = evaluator.inferer(image, network)
            float((found[0] if isinstance(found, (list, tuple)) else found).sum())  # waits for a GPU
            passes.append(time.monotonic() - before)
            task.advance()
    return ESTIMATE_MARGIN * min(passes) * windows * len(loader)


def _one_window(image: torch.Tensor, inferer: Any) -> tuple[torch.Tensor, int]:
    """A part of an image (batch, channel, i, j, k) that takes one pass of the network, and how many the whole takes."""
    inner = getattr(inferer, "inferer", inferer)
    if not isinstance(inner, SlidingWindowInferer) or image.ndim != 5:
        return image, 1
    sizes = image.shape[2:]
    window = fall_back_tuple(inner.roi_size, sizes)
    padded = [max(size, wide) for size, wide in zip(sizes, window, strict=True)]
    overlaps = ensure_tuple_rep(inner.overlap, len(sizes))
    intervals = _get_scan_interval(padded, window, len(sizes), overlaps)
    part = image[:, :, : window[0], : window[1], : window[2]]
    return part, len(dense_patch_slices(padded, window, intervals))
