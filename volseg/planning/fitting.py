"""Patch, levels and batch that fit into a memory: nnU-Net's order, which gives up patch only below a batch of two."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import UsageError
from volseg.planning.memory import StepCosts, shown, try_step
from volseg.planning.topology import choose_topology

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.planning.memory import Memory
    from volseg.planning.networks import Network
    from volseg.planning.presets import PresetLimits

LEAST_BATCH = 2
COVERED_SHARE = 0.05
"""Of the data set's voxels, that a batch has at most: nnU-Net's guard against learning by heart."""
LEAST_PATCH_VOXELS = 32**3
"""A smaller patch shows too little around a structure; where that doesn't fit, the network is too large."""
TRIALS = 6
"""Steps that are tried on a GPU, each on a patch of nine tenths."""


@dataclass(frozen=True)
class Fitted:
    """A network with its patch, and the batch.

    Args:
        network: with levels and patch.
        batch: patches in a step.
        why_patch: the reason for the patch.
        why_batch: the reason for the batch.
        step_bytes: what a step takes; None where nobody asked.
        is_tried: whether a GPU has told so.
    """

    network: Network
    batch: int
    why_patch: str
    why_batch: str
    step_bytes: int | None = None
    is_tried: bool = False


def fit(
    shapes: NDArray[np.int64],
    spacing_mm: tuple[float, float, float],
    limits: PresetLimits,
    kind: type[Network],
    channels: int,
    outputs: int,
    memory: Memory | None = None,
) -> Fitted:
    """The largest patch and then the largest batch, within what the preset may cost and what fits into the memory.

    Args:
        shapes: (cases, 3) voxels of the training volumes along R, A, S at the target spacing.
        spacing_mm: the target spacing along R, A, S.
        limits: what the preset may cost.
        kind: of the network.
        channels: of the image.
        outputs: of the network.
        memory: what a step may take; None reckons nothing.

    Raises:
        UsageError: the network's least patch is more than the preset may cost, or no step of it fits into the memory.
    """
    costs = StepCosts(memory) if memory else None
    least = min(LEAST_PATCH_VOXELS, int(np.median(shapes, axis=0).prod()))
    need, trials, smaller = 0, 0, ""
    while True:
        try:
            patch, topology, why = choose_topology(shapes, spacing_mm, limits, kind)
        except UsageError:
            if memory is None or not need:
                raise
            raise _too_little(kind, need, memory) from None
        network = kind(topology, channels, outputs, patch)
        batch, why_batch = _batch(shapes, patch, limits)
        found = Fitted(network, batch, why + smaller, why_batch)
        if costs is None or memory is None:
            return found
        need = costs.bytes_of(network, LEAST_BATCH)
        if need <= memory.size:
            found = _within(found, costs, memory)
            if memory.device != "cuda" or trials >= TRIALS:
                return found
            trials += 1
            tried = try_step(network, found.batch)
            if tried is not None and tried <= memory.size:
                return replace(found, step_bytes=tried, is_tried=True)
            share = 0.9
        else:
            fixed = costs.bytes_of(network, 0)
            share = min(0.95, max(0.1, (memory.size - fixed) / (need - fixed)))
        if math.prod(patch) <= least or limits.patch_voxels <= least:
            raise _too_little(kind, need, memory)
        smaller = f", so that a step fits into {memory.words}"
        limits = replace(limits, patch_voxels=max(least, int(share * math.prod(patch))))


def as_given(network: Network, batch: int, why: str, memory: Memory | None) -> Fitted:
    """A network and batch that somebody chose, and what a step of them takes where that fits into the memory.

    Args:
        network: with levels and patch.
        batch: patches in a step.
        why: the reason for the patch.
        memory: what a step may take; None reckons nothing.

    Raises:
        BundleError: the network doesn't take its own patch.
    """
    found = Fitted(network, batch, why, f"{batch * math.prod(network.patch):,} voxels a step")
    need = StepCosts(memory).bytes_of(network, batch) if memory else 0
    return replace(found, step_bytes=need) if memory and need <= memory.size else found


def _batch(shapes: NDArray[np.int64], patch: tuple[int, int, int], limits: PresetLimits) -> tuple[int, str]:
    voxels = math.prod(patch)
    batch = int(min(limits.batch_voxels / voxels, limits.max_batch))
    covered = round(COVERED_SHARE * len(shapes) * float(np.median(shapes, axis=0).prod()) / voxels)
    why = f"{max(LEAST_BATCH, min(batch, covered)) * voxels:,} voxels a step"
    if LEAST_BATCH <= covered < batch:
        why += f", {COVERED_SHARE:.0%} of the data set"
    return max(LEAST_BATCH, min(batch, covered)), why


def _within(found: Fitted, costs: StepCosts, memory: Memory) -> Fitted:
    """With so few patches that a step fits; two do."""
    batch = found.batch
    while batch > LEAST_BATCH and costs.bytes_of(found.network, batch) > memory.size:
        batch -= 1
    why = found.why_batch
    if batch < found.batch:
        why = f"{batch * math.prod(found.network.patch):,} voxels a step, as many as fit into {memory.words}"
    return replace(found, batch=batch, why_batch=why, step_bytes=costs.bytes_of(found.network, batch))


def _too_little(kind: type[Network], need: int, memory: Memory) -> UsageError:
    return UsageError(
        f"A training step of the network {kind.name} takes about {shown(need)} even on {LEAST_BATCH} small patches, and "
        f"the memory is {memory.words}. State --memory {shown(1.02 * need)} or more if there is as much, or choose a "
        "smaller --network or --preset fast."
    )
