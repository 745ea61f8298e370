"""Resampling of masks by majority: the label that fills most of each new voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.voxels import plane_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from volseg.resampling.index_map import Axis, IndexMap

MAX_VOTES_PER_AXIS = 8
"""Positions probed along each axis of a new voxel; more change no vote that matters."""


def vote(array: NDArray[np.generic], index_map: IndexMap, wider: NDArray[np.bool_]) -> NDArray[np.generic]:
    """The label that fills most of each target voxel, probed at evenly spread places inside it.

    Args:
        array: labels (i, j, k). Voxels of a float type are picked at the centre and not counted.
        index_map: to the target.
        wider: (3,) along which source axes the target's voxels are wider than the source's.
    """
    shape = index_map.target
    votes = _votes_per_axis(index_map, wider) if array.dtype.kind in "iu" else (1, 1, 1)
    pick = _picker(array, index_map)
    result = np.empty(shape[::-1], array.dtype).T
    for slab in plane_ranges(shape[2], shape[0] * shape[1]):
        chosen = pick((0.0, 0.0, 0.0), slab)
        if votes != (1, 1, 1):
            places = [(np.array(place) + 0.5) / votes - 0.5 for place in np.ndindex(votes)]
            chosen = _most_frequent([pick(tuple(place), slab) for place in places], chosen)
        result[:, :, slab] = chosen
    return result


def _votes_per_axis(index_map: IndexMap, wider: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Along each target axis, about one probe for each source voxel that it crosses; one where it is not wider."""
    if not wider.any():
        return 1, 1, 1
    # Only axes that the source resolves more finely count; the others cross source voxels through shear alone.
    crossed = np.abs(index_map.affine[:3, :3])[wider].max(axis=0)
    i, j, k = (int(n) for n in np.clip(np.ceil(crossed - 1e-6), 1, MAX_VOTES_PER_AXIS))
    return i, j, k


def _picker(array: NDArray[np.generic], index_map: IndexMap) -> Callable[[Sequence[float], slice], NDArray[np.generic]]:
    """A function that picks the nearest labels for a slab of target voxels, off by fractions of one."""
    if index_map.axes is not None:
        return _along_axes(array, index_map.axes, index_map.target)
    from volseg.resampling.oblique import Nearest

    nearest = Nearest(array, index_map)
    return nearest.pick


def _along_axes(
    array: NDArray[np.generic], axes: tuple[Axis, Axis, Axis], shape: tuple[int, ...]
) -> Callable[[Sequence[float], slice], NDArray[np.generic]]:
    turned = array.transpose([axis.source for axis in axes])

    def pick(offset: Sequence[float], slab: slice) -> NDArray[np.generic]:
        i, j, k = (
            np.clip(np.floor(axis.places(count) + axis.step * off + 0.5).astype(int), 0, size - 1)
            for axis, count, off, size in zip(axes, shape, offset, turned.shape, strict=True)
        )
        part = np.empty((slab.stop - slab.start, shape[1], shape[0]), array.dtype)
        for number, plane in enumerate(k[slab]):
            part[number] = turned[:, :, plane].T[j][:, i]
        return part.T

    return pick


def _most_frequent(probes: list[NDArray[np.generic]], centre: NDArray[np.generic]) -> NDArray[np.generic]:
    """The most frequent of several arrays, voxel by voxel; ties go to ``centre``, then to the lowest label.

    The probes of disputed voxels are sorted, so memory grows with the probes and never with the labels.
    """
    first = probes[0]
    disputed = np.zeros(first.shape[::-1], dtype=bool).T
    for probe in probes[1:]:
        disputed |= probe != first
    result = np.where(disputed, centre, first)
    votes = np.stack([probe[disputed] for probe in probes])
    middle = centre[disputed]
    for_centre = (votes == middle).sum(axis=0)
    votes.sort(axis=0)
    run = np.ones(middle.shape, dtype=np.int32)
    best, winner = for_centre.astype(np.int32), middle.copy()
    for row in range(1, len(votes)):
        run = np.where(votes[row] == votes[row - 1], run + 1, 1)
        better = run > best
        best[better] = run[better]
        winner[better] = votes[row][better]
    result[disputed] = winner
    return result
