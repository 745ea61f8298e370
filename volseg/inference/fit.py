"""How much memory a case takes, reckoned before it is taken, and how its windows are fitted into what there is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from volseg.device import available_bytes
from volseg.errors import BundleError, InputError
from volseg.inference.mirrored import Mirrored
from volseg.networks.cost import window_cost

if TYPE_CHECKING:
    from volseg.inference.windows import Windows

FLOAT = 4
USABLE_SHARE = 0.9
"""Of the memory that is free, unless a size was stated."""
HELD_BYTES = 2**28
"""Of class values, that are held in memory unless a size was stated; of more the system holds in a file what it has room for."""
LOADING_COPIES = 2
"""Of an image in float32, while it is read and turned."""
SCALING_COPIES = 3
"""Of an image on the network's grid, while its values are scaled."""
FLOAT32_SHARE = 1.15
"""Of what is reckoned for a window in float32, that its network takes; measured 1.0 to 1.5 for DynUNet, UNet, SegResNet and
others with 8 to 32 channels and windows of 64 to 128 voxels, the most where blocks are small."""
HALF_SHARE = 0.58
"""And in bfloat16; measured 0.46 to 0.65."""
IDLE_BYTES = 5 * 2**24
"""Of each window at once at most, of what is kept (``heap``) in pieces that are too small for the next layer."""
LET_GO = 2
"""Windows of one class that are held of a file at once."""
MIRRORED_COPIES = 3
"""Of a window's values in float32, while it is seen mirrored."""


@dataclass(frozen=True)
class Fit:
    """How a case is worked on.

    Args:
        batch: windows that go through the network at once.
        in_file: whether class values lie in a file.
        peak_bytes: the most that the process takes, about.
        is_short: whether a file is needed, since the memory doesn't hold them.
    """

    batch: int
    in_file: bool
    peak_bytes: int
    is_short: bool = False


def preparing_bytes(voxels: int, network_voxels: int, channels: int) -> int:
    """What reading and preprocessing an image take at their peak.

    Args:
        voxels: of the image.
        network_voxels: of the grid that the network sees.
        channels: of the image.
    """
    loading = LOADING_COPIES * voxels
    resampling = voxels + network_voxels
    return FLOAT * channels * max(loading, resampling, SCALING_COPIES * network_voxels)


def fit(
    windows: Windows,
    network: torch.nn.Module,
    channels: int,
    batch: int,
    *,
    members: int,
    half: bool,
    voxels: int,
    limit: int | None,
) -> Fit:
    """The quickest way whose memory fits: fewer windows at once, then class values in a file.

    Args:
        windows: their places.
        network: one of those that predict.
        channels: of the image.
        batch: windows at once, as the config says.
        members: networks that predict together.
        half: whether they compute in bfloat16.
        voxels: of the image, for its mask.
        limit: bytes that this process may take in all; None for what is free.

    Raises:
        InputError: a size was stated and nothing fits, with the code ``too-large``.
    """
    held = resident_bytes()
    plain = network.network if isinstance(network, Mirrored) else network
    try:
        cost = window_cost(plain, channels, windows.size)
    except BundleError:  # a network that can't be reckoned is seen when it runs
        return Fit(batch, in_file=False, peak_bytes=0)
    patch = FLOAT * math.prod(windows.size)
    slab = FLOAT * math.prod(windows.slab_shape)
    window_bytes = min(IDLE_BYTES, cost.peak_bytes) + int(cost.peak_bytes * (HALF_SHARE if half else FLOAT32_SHARE))
    window_bytes += MIRRORED_COPIES * patch * cost.features if plain is not network else 0
    sums = members * cost.features * slab
    free = held + int(USABLE_SHARE * available_bytes())
    may = free if limit is None else limit
    at_once = torch.get_num_threads()
    sizes = [size for size in range(min(at_once, windows.count), 0, -1) if not at_once % size]
    ways = []
    for in_file in (sums > HELD_BYTES, True) if limit is None else (False, True):
        for size in sizes:
            values = slab + patch + (at_once * patch * LET_GO if in_file else sums)
            ways.append(Fit(size, in_file, held + values + size * window_bytes + 2 * voxels))
    for way in ways:
        if way.peak_bytes <= may:
            return replace(way, is_short=way.in_file and not (limit is None and ways[0].in_file))
    least = min(ways, key=lambda way: way.peak_bytes)
    if limit is not None:
        raise InputError(
            f"The network and the image take about {least.peak_bytes / 1e9:.2g} GB of memory, and --memory allows "
            f"{limit / 1e9:.2g}. Allow more, or take a bundle with a smaller window.",
            code="too-large",
        )
    return least


def resident_bytes() -> int:
    """What this process holds now; 0 where the system doesn't say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
