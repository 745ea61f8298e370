"""Volumes compared where they lie in the patient, whichever way their axes run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.volume import Volume

EXACT_MM = 0.001


def assert_same_in_world(
    volume: Volume,
    array: NDArray[np.generic],
    affine: NDArray[np.float64],
    tolerance_mm: float = EXACT_MM,
    rtol: float = 0.0,
) -> None:
    """Every voxel of a volume lies on one of the other array with the same value, and none is over."""
    step = np.linalg.inv(affine) @ volume.grid.affine
    turn = np.rint(step[:3, :3]).astype(int)
    np.testing.assert_array_equal(np.abs(turn).sum(axis=0), 1)
    axes = np.abs(turn).argmax(axis=0)
    flips = [axis for axis in range(3) if turn[axes[axis], axis] < 0]
    turned = np.flip(array.transpose(axes), flips)
    assert turned.shape == volume.grid.shape
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(volume.grid.shape) - 1)
    start = np.where(turn.sum(axis=1) < 0, np.array(array.shape) - 1, 0)
    apart = nibabel.affines.apply_affine(volume.grid.affine, corners) - nibabel.affines.apply_affine(
        affine, corners @ turn.T + start
    )
    assert np.linalg.norm(apart, axis=1).max() <= tolerance_mm
    np.testing.assert_allclose(volume.array, turned, rtol=rtol, atol=0)
