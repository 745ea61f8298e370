"""The patch and the levels of a U-shaped network, by nnU-Net's rules within what the preset may cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from volseg.planning.networks import Topology

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.planning.presets import PresetLimits

MIN_BOTTLENECK = 4
"""No axis is halved below this many voxels."""
MIN_LEVELS = 3
"""MONAI's DynUNet takes no fewer."""

Triple = tuple[int, int, int]


def choose_topology(
    shapes: NDArray[np.int64], spacing_mm: tuple[float, float, float], limits: PresetLimits
) -> tuple[Triple, Topology, str]:
    """The patch in voxels, the levels, and why the patch is so.

    Starts from the median volume and shortens the physically longest side until it fits, as nnU-Net does. It
    is rounded up to what the network can halve, or to the nearest such size where the preset says so: voxels of padding
    teach nothing.

    Args:
        shapes: (cases, 3) voxels of the training volumes along R, A, S at the target spacing.
        spacing_mm: the target spacing along R, A, S.
        limits: what the preset may cost.
    """
    size = np.median(shapes, axis=0)
    why = "the median volume"
    while True:
        strides, kernels = _levels(size, spacing_mm, limits.max_levels)
        multiple = np.prod(np.array(strides), axis=0)
        whole = size / multiple
        patch = _triple((np.ceil(whole) if limits.rounds_patch_up else np.maximum(np.floor(whole + 0.5), 1)) * multiple)
        if math.prod(patch) <= limits.patch_voxels:
            features = tuple(min(limits.max_features, limits.features * 2**level) for level in range(len(kernels)))
            return patch, Topology(features, strides, kernels), why
        why = f"the median volume, shortened to about {limits.patch_voxels:,} voxels"
        longest = int(np.argmax(size * np.array(spacing_mm)))
        size[longest] *= 0.95
        if size[longest] < 2 * MIN_BOTTLENECK:
            size[int(np.argmax(size))] *= 0.9


def _levels(
    size: NDArray[np.float64], spacing_mm: tuple[float, float, float], max_levels: int
) -> tuple[tuple[Triple, ...], tuple[Triple, ...]]:
    """Strides and kernels."""
    current, spacing = size.copy(), np.array(spacing_mm, dtype=np.float64)
    near = np.zeros(3, dtype=np.bool_)
    strides: list[Triple] = []
    kernels: list[Triple] = []
    while True:
        # A kernel looks across slices once the in-plane spacing has come within twice of theirs, and from then on.
        near |= spacing <= 2 * spacing.min()
        kernels.append(_triple(np.where(near, 3, 1)))
        # An axis that is as short as it may get holds none of the others up.
        long = current / 2 >= MIN_BOTTLENECK
        if not long.any() or len(strides) + 1 >= max_levels:
            break
        halve = long & (spacing <= 2 * spacing[long].min())
        factor = np.where(halve, 2, 1)
        strides.append(_triple(factor))
        current, spacing = np.ceil(current / factor), spacing * factor
    while len(kernels) < MIN_LEVELS:  # a volume this small gets levels that don't halve it
        strides.append((1, 1, 1))
        kernels.append(kernels[-1])
    return tuple(strides), tuple(kernels)


def _triple(values: NDArray[np.generic]) -> Triple:
    return int(values[0]), int(values[1]), int(values[2])
