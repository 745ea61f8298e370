"""Flips and permutations of voxel axes."""

from __future__ import annotations

from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.volume import Volume


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
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

    word = axes.upper()
    if len(word) != 3 or any(sum(letter in pair for letter in word) != 1 for pair in ("LR", "AP", "IS")):
        raise UsageError(
            f"An orientation is three letters, one each of L or R, A or P, S or I, such as RAS; not {axes!r}."
        )
    change = ornt_transform(io_orientation(volume.grid.affine), axcodes2ornt(word))
    array = apply_orientation(volume.array, change)
    affine = volume.grid.affine @ inv_ornt_aff(change, volume.grid.shape)
    return Volume(array, Grid(array.shape[:3], affine))
