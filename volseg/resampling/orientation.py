"""Flips and permutations of voxel axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reorient(volume: Volume, axes: str) -> Volume:
    """Flip and permute the voxel axes to point to ``axes``, such as ``RAS``; no voxel changes its value or place.

    Args:
        volume: voxels (i, j, k) or (i, j, k, channel).
        axes: one of L or R, one of A or P, one of S or I, in any order.

    Returns:
        A view of the same voxels.

    Raises:
        UsageError: ``axes`` is not such a word.
    """
    from nibabel.orientations import apply_orientation

    change = _change(volume.grid, axes)
    array = apply_orientation(volume.array, change)
    return Volume(array, _changed(volume.grid, change))


def reorient_grid(grid: Grid, axes: str) -> Grid:
    """The grid of the volume that ``reorient`` gives.

    Raises:
        UsageError: ``axes`` is no such word.
    """
    return _changed(grid, _change(grid, axes))


def is_turned(grid: Grid, other: Grid) -> bool:
    """Whether two grids have the same voxels, be it in another order of axes or from another end.

    Axes are not told by their nearest anatomical ones, which at 45 degrees is a matter of rounding.
    """
    step = np.rint(np.linalg.inv(other.affine) @ grid.affine)
    turn = np.abs(step[:3, :3])
    if not ((turn.sum(axis=0) == 1).all() and (turn.sum(axis=1) == 1).all()):
        return False
    return bool((turn @ grid.shape == other.shape).all()) and (
        grid.difference(Grid(grid.shape, other.affine @ step)) is None
        and {tuple(corner) for corner in np.rint(other.to_voxel(grid.corners_mm))}
        == {tuple(corner) for corner in np.rint(other.to_voxel(other.corners_mm))}
    )


def turned_onto(volume: Volume, grid: Grid) -> Volume | None:
    """A volume in the voxel order of a grid that has the same voxels, as a view; None where the grid has others."""
    if not is_turned(volume.grid, grid):
        return None
    step = np.rint(np.linalg.inv(volume.grid.affine) @ grid.affine)
    axes = np.abs(step[:3, :3]).argmax(axis=0)
    array = volume.array.transpose(*axes, *range(3, volume.array.ndim))
    flips = tuple(axis for axis in range(3) if step[axes[axis], axis] < 0)
    return Volume(np.flip(array, flips), grid)


def require_orientation(axes: str) -> str:
    """Three letters for voxel axes, in upper case.

    Raises:
        UsageError: ``axes`` is not such a word.
    """
    word = axes.upper()
    if len(word) != 3 or any(sum(letter in pair for letter in word) != 1 for pair in ("LR", "AP", "IS")):
        raise UsageError(
            f"An orientation is three letters, one each of L or R, A or P, S or I, such as RAS; not {axes!r}."
        )
    return word


def _change(grid: Grid, axes: str) -> NDArray[Any]:
    """(3, 2) which axis goes where and whether it flips, as nibabel has it."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    word = require_orientation(axes)
    change: NDArray[Any] = ornt_transform(io_orientation(grid.affine), axcodes2ornt(word))
    return change


def _changed(grid: Grid, change: NDArray[Any]) -> Grid:
    from nibabel.orientations import inv_ornt_aff

    places = [int(place) for place in change[:, 0]]
    i, j, k = (grid.shape[places.index(axis)] for axis in range(3))
    return Grid((i, j, k), grid.affine @ inv_ornt_aff(change, grid.shape))
