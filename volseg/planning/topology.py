"""The patch and the levels of a network, by nnU-Net's rules within what the network can have and the preset may cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import UsageError
from volseg.planning.networks import Network, Topology

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.planning.networks import LevelRules
    from volseg.planning.presets import PresetLimits

MIN_BOTTLENECK = 4
"""No axis is halved below this many voxels."""
LOST_SHARE = 0.125
"""Of a side, that rounding to the nearest size may lose; hippocampus loses 9 %, and gained in Dice by it."""
START_VOXELS = 256**3
"""Of the cube in mm that no patch is larger than."""

Triple = tuple[int, int, int]


def choose_topology(
    shapes: NDArray[np.int64],
    spacing_mm: tuple[float, float, float],
    limits: PresetLimits,
    network: type[Network] = Network,
) -> tuple[Triple, Topology, str]:
    """The patch in voxels, the levels, and why the patch is so.

    Starts from the median volume, or from a cube in mm where that is larger, and shortens the side that shows most of
    the median volume until it fits, as nnU-Net's planner does (version 2.6, ``get_plans_for_configuration``). It is
    rounded up to what the network can halve, or to the nearest such size where the preset says so and no side loses
    much by it: voxels of padding teach nothing.

    Args:
        shapes: (cases, 3) voxels of the training volumes along R, A, S at the target spacing.
        spacing_mm: the target spacing along R, A, S.
        limits: what the preset may cost.
        network: whose rules the levels keep to.

    Raises:
        UsageError: the network's least patch is more than the preset may cost.
    """
    median = np.median(shapes, axis=0)
    cube = START_VOXELS ** (1 / 3) * math.prod(spacing_mm) ** (1 / 3) / np.array(spacing_mm)
    size = np.minimum(median, np.maximum(cube, 2 * MIN_BOTTLENECK))
    why = "the median volume"
    while True:
        strides, kernels = _levels(size, spacing_mm, limits.max_levels, network.rules)
        multiple = np.prod(np.array(strides), axis=0)
        repeats = size / multiple
        nearest = np.floor(repeats + 0.5)
        is_near = (not limits.rounds_patch_up) & (nearest >= (1 - LOST_SHARE) * repeats)
        patch = _whole(np.where(is_near, nearest, np.ceil(repeats)), multiple)
        if math.prod(patch) <= limits.patch_voxels:
            features = network.widths(limits.features, limits.max_features, len(kernels))
            if (np.array(patch) >= 2 * np.maximum(size, MIN_BOTTLENECK)).any():
                why += f", padded to multiples of {' x '.join(map(str, multiple))} for the network"
            elif (np.array(patch) != np.round(size)).any():
                why += ", rounded to what the network can halve"
            return patch, Topology(features, strides, kernels), why
        if math.prod(patch) <= 2 * multiple.prod():
            raise UsageError(
                f"The network {network.name} needs patches of {' x '.join(map(str, patch))} voxels, and at most "
                f"{limits.patch_voxels:,} voxels are affordable. Choose another --network."
            )
        why = f"the median volume, shortened to at most {limits.patch_voxels:,} voxels"
        size[int(np.argmax(np.where(size >= 2 * MIN_BOTTLENECK, size / median, 0)))] *= 0.97


def _whole(repeats: NDArray[np.float64], multiple: NDArray[np.int64]) -> Triple:
    """So many multiples, at least one along each axis; more than one voxel stays at the lowest level, as norms need."""
    repeats = np.maximum(repeats, 1)
    if repeats.prod() == 1 < multiple.prod():
        repeats[0] = 2
    return _triple(repeats * multiple)


def _levels(
    size: NDArray[np.float64], spacing_mm: tuple[float, float, float], max_levels: int, rules: LevelRules
) -> tuple[tuple[Triple, ...], tuple[Triple, ...]]:
    """Strides and kernels."""
    current, spacing = size.copy(), np.array(spacing_mm, dtype=np.float64)
    alike = rules.halving == "together"
    thick = (spacing > 2 * spacing.min()) & (not alike)
    near = np.full(3, alike)
    most = max(rules.least, min(rules.most, max_levels))
    strides: list[Triple] = []
    kernels: list[Triple] = []
    while True:
        # A kernel looks across slices once the in-plane spacing has come within twice of theirs, and from then on.
        near |= spacing <= 2 * spacing.min()
        kernels.append(_triple(np.where(near, 3, 1)))
        long = current / 2 >= MIN_BOTTLENECK
        if rules.halving == "each":
            # An axis that is as short as it may get holds none of the others up.
            halve = long & (spacing <= 2 * spacing[long].min(initial=np.inf))
        else:
            waiting = thick.any() and spacing[thick].min() >= 2 * spacing[~thick].max()
            halve = ~thick if waiting else np.ones(3, dtype=np.bool_)
        levels = len(strides) + 1
        if levels >= most or (levels >= rules.least and not (halve.any() and long[halve].all())):
            break
        factor = np.where(halve, 2, 1)
        strides.append(_triple(factor))
        current, spacing = np.ceil(current / factor), spacing * factor
    return tuple(strides), tuple(kernels)


def _triple(values: NDArray[np.generic]) -> Triple:
    return int(values[0]), int(values[1]), int(values[2])
