"""How much memory a case takes, reckoned before it is taken, and how its windows are fitted into what there is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.device import available_bytes
from volseg.errors import BundleError, InputError
from volseg.networks.cost import window_cost

if TYPE_CHECKING:
    import torch

    from volseg.inference.windows import Windows

FLOAT = 4
USABLE_SHARE = 0.9
"""Of the memory that is free, unless a size was stated."""
LOADING_COPIES = 2
"""Of an image in float32, while it is read and turned."""
SCALING_COPIES = 3
"""Of an image on the network's grid, while its values are scaled."""
HALF_SHARE = 0.6
"""Of a network's memory in float32, that it takes in bfloat16: half, and what is still in float32."""
FLOAT32_SHARE = 1.1
"""And in float32, with what convolutions need."""
LET_GO = 2
"""Windows of one class that are held of a file at once."""


@dataclass(frozen=True)
class Fit:
    """How a case is worked on.

    Args:
        batch: windows that go through the network at once.
        in_file: whether class values lie in a file.
        peak_bytes: the most that the process takes, about.
    """

    batch: int
    in_file: bool
    peak_bytes: int


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
    try:
        classes, window_bytes = window_cost(network, channels, windows.size)
    except BundleError:  # a network that can't be reckoned is seen when it runs
        return Fit(batch, in_file=False, peak_bytes=0)
    patch = FLOAT * math.prod(windows.size)
    slab = FLOAT * math.prod(windows.slab_shape)
    window_bytes = int(window_bytes * (HALF_SHARE if half else FLOAT32_SHARE))
    may = limit if limit is not None else held + int(USABLE_SHARE * available_bytes())
    ways = []
    for in_file in (False, True):
        for size in dict.fromkeys((batch, 1)):
            sums = slab * (1 + (0 if in_file else members * classes)) + (patch * LET_GO if in_file else 0)
            ways.append(Fit(size, in_file, held + sums + size * window_bytes + 2 * voxels))
    for way in ways:
        if way.peak_bytes <= may:
            return way
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
