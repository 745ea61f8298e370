"""NIfTI's qform: in which voxel order it holds a grid.

NIfTI-1 keeps a rotation as the last three components of a unit quaternion, as float32, and readers get the first from
a = sqrt(1 - b^2 - c^2 - d^2) (NIfTI-1, METHOD 2). Where a is near 0 the rounding of the others is all there is of it,
and readers take a small one for 0. An axial image in DICOM's own order, LPS, has a = 0 exactly, which is kept; tilted
about two axes by 5 degrees it has 0.002, and its far corner moves by a tenth of a millimetre.

Reversing two voxel axes is a half turn about the third, which exchanges a with the component of that axis. One of the
four is at least a half, so one of three half turns always holds the grid. Voxels keep their values and places, and the
order of the axes and their handedness stay.

b, c and d could be rounded so that more grids are held in their order. But then every program that saves the image
again, or a mask on it, would have to round with the same care, and none does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.grid import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXES_TURNED = "axes-turned"
"""The code of the change: voxel axes are reversed so that NIfTI holds the grid."""
HELD_MM = 5e-4
"""A grid is held where the stored rotation moves no corner further than this."""
ZERO_SQUARED = (1e-7, 3 * float(np.finfo(np.float32).eps))
"""Below which readers take a^2 for 0: nifti1_io.c, whose formula ITK, FSL and AFNI share, and nibabel."""


def axes_to_reverse(grid: Grid) -> tuple[int, ...]:
    """The two voxel axes to reverse so that NIfTI's qform holds a grid; none where it does in their own order.

    Of the three half turns it is the one whose quaternion has the largest first component; where several are alike,
    the one that leaves k alone, then j.
    """
    quaternion, extent_mm = _rotation(grid)
    if _error_mm(quaternion, extent_mm) <= HELD_MM:
        return ()
    component = max((0, 3, 2, 1), key=lambda place: round(abs(float(quaternion[place])), 6))
    return tuple(axis for axis in range(3) if component not in (0, axis + 1))


def reversed_along(grid: Grid, axes: tuple[int, ...]) -> Grid:
    """The grid of the same voxels, counted from the other end along some axes."""
    flip = np.eye(4)
    for axis in axes:
        flip[axis, axis], flip[axis, 3] = -1, grid.shape[axis] - 1
    return Grid(grid.shape, grid.affine @ flip)


def grid_for_nifti(grid: Grid) -> Grid:
    """The grid as NIfTI holds it: itself, or with two voxel axes reversed."""
    axes = axes_to_reverse(grid)
    return reversed_along(grid, axes) if axes else grid


def _rotation(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(4,) the quaternion of the nearest rotation, and (3,) the way from the first corner to the last, in mm along i, j, k.

    A mirrored grid's k is negated, as by NIfTI's qfac.
    """
    from nibabel.quaternions import mat2quat

    handed = np.array((1.0, 1.0, np.sign(np.linalg.det(grid.direction))))
    left, _, right = np.linalg.svd(grid.direction * handed)
    return mat2quat(left @ right), (np.array(grid.shape) - 1) * grid.spacing_mm * handed


def _error_mm(quaternion: NDArray[np.float64], extent_mm: NDArray[np.float64]) -> float:
    """How far a corner moves when the quaternion is stored and read, by the reader that is furthest off."""
    from nibabel.quaternions import quat2mat

    stored = quaternion[1:].astype(np.float32).astype(np.float64)
    rest = 1 - float(stored @ stored)
    corners = np.array(list(np.ndindex(2, 2, 2))) * extent_mm
    worst = 0.0
    for zero in ZERO_SQUARED:
        read = np.array((np.sqrt(rest) if rest >= zero else 0.0, *stored))  # quat2mat brings it to unit length
        apart = corners @ (quat2mat(read) - quat2mat(quaternion)).T
        worst = max(worst, float(np.linalg.norm(apart, axis=1).max()))
    return worst
