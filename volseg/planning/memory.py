"""Whether a training step fits into a stated memory: reckoned from the network itself, tried where there is a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from volseg.device import machine_bytes

if TYPE_CHECKING:
    from torch.nn import Module

    from volseg.networks.cost import NetworkCost
    from volseg.planning.networks import Network

USABLE_SHARE = 0.9
"""Of a GPU's memory that a step may take unless told otherwise; the driver and the libraries have the rest."""
MACHINE_SHARE = 0.5
"""And of a computer's: the cases of the data set lie there, too."""
FLOAT = 4


@dataclass(frozen=True)
class Memory:
    """What a training step may take.

    Args:
        size: in bytes.
        words: where the figure comes from.
        bfloat16: whether the network will run in bfloat16.
        device: ``cpu`` or ``cuda``.
    """

    size: int
    words: str
    bfloat16: bool
    device: str

    @classmethod
    def of(cls, stated: int | None, most: float) -> Memory:
        """What was stated, else what the device has, up to what the preset takes.

        Args:
            stated: bytes; None where nothing was.
            most: bytes that the preset takes unless told otherwise.
        """
        import torch

        from volseg.training.autocast import use_bfloat16

        device = "cuda" if torch.cuda.is_available() else "cpu"
        half = use_bfloat16(torch.device(device))
        if stated is not None:
            return cls(stated, f"{shown(stated)}, asked for", half, device)
        share, owner = (USABLE_SHARE, "GPU") if device == "cuda" else (MACHINE_SHARE, "machine")
        has = int(share * machine_bytes(device))
        if most <= has:
            return cls(int(most), f"{shown(most)}, the preset's", half, device)
        return cls(has, f"{shown(has)}, {share:.0%} of what this {owner} has; --memory states another", half, device)


@lru_cache(maxsize=256)
def patch_cost(network: Network) -> NetworkCost:
    """What one patch through a network costs, reckoned once on torch's meta device.

    Raises:
        BundleError: the network doesn't take its own patch.
    """
    from volseg.networks.cost import cost_of, on_meta

    with on_meta():
        return cost_of(build(network), 1, network.in_channels, network.patch)


class StepCosts:
    """What steps of a network take in a stated memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def bytes_of(self, network: Network, batch: int) -> int:
        """About what a step of a batch takes at its peak.

        Args:
            network: with the patch that it is trained on.
            batch: patches.

        Raises:
            BundleError: the network doesn't take its own patch.
        """
        from volseg.networks.cost import BFLOAT16_SHARE, FLOAT32_SHARE, GPU_SHARE

        cost = patch_cost(network)
        half = GPU_SHARE if self._memory.device == "cuda" else BFLOAT16_SHARE
        share = half if self._memory.bfloat16 else FLOAT32_SHARE
        output = batch * network.out_channels * math.prod(network.patch) * FLOAT
        return batch_cost(cost, batch).step_bytes(output, share)


def batch_cost(cost: NetworkCost, batch: int) -> NetworkCost:
    """What a batch costs, from the cost of one patch: all but the weights grows with it."""
    return replace(
        cost,
        inference_bytes=batch * cost.inference_bytes,
        kept_bytes=batch * cost.kept_bytes,
        multiplications=batch * cost.multiplications,
    )


def build(network: Network) -> Module:
    """The network itself, whose arguments are plain data."""
    described: dict[str, Any] = dict(network.component())
    module, _, name = str(described.pop("_target_")).rpartition(".")
    built: Module = getattr(import_module(module), name)(**described)
    return built


def try_step(network: Network, batch: int) -> int | None:  # pragma: no cover  needs a GPU
    """The bytes that a real step takes on the GPU at its peak; None where its memory runs out.

    Args:
        network: with the patch that it is trained on.
        batch: patches.
    """
    import torch

    from volseg.device import memory_short
    from volseg.training.autocast import AutocastInferer

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        built = build(network).cuda().train()
        optimizer = torch.optim.AdamW(built.parameters())
        image = torch.randn(batch, network.in_channels, *network.patch, device="cuda")
        for _ in range(2):  # the second has the optimizer's own numbers
            optimizer.zero_grad()
            found = AutocastInferer()(image, built)
            heads = found if isinstance(found, list) else [found]
            loss = sum(
                (torch.log_softmax(head, dim=1).square().mean() for head in heads), torch.zeros((), device="cuda")
            )
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return int(torch.cuda.max_memory_reserved())
    except RuntimeError as error:
        if memory_short(error) is None:
            raise
        return None
    finally:
        torch.cuda.empty_cache()


def shown(size: float) -> str:
    """Bytes as a person writes them for ``--memory``."""
    return f"{size / 1e9:.3g}GB" if size >= 1e9 else f"{math.ceil(size / 1e6)}MB"
