"""The voxel grid: where each voxel ``[i, j, k]`` lies in the patient's RAS millimetres."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import GeometryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

CORNER_TOLERANCE_MM = 0.01
"""Two grids are the same when no corner lies further apart. NIfTI keeps its affine as float32, which over a
field of 500 mm is 3e-5 mm; a hundredth of a millimetre is far below any scanner's voxel."""

MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 100.0
"""Bounds for a target spacing: beyond them a slip of the finger is likelier than a wish."""

MAX_TARGET_VOXELS = 2**31
"""A whole body of 700 x 700 x 2000 voxels is half of this; headers that lie about the gaps ask for far more."""
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM and ITK point left and posterior, NIfTI right and anterior (PS3.3 C.7.6.2.1.1; NIfTI-1, METHOD 3)."""


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """A regular grid of voxels.

    Args:
        shape: voxels along i, j and k.
        affine: (4, 4) float64, from voxel index to RAS mm; voxel centres lie at whole indices.

    Raises:
        GeometryError: a count is not positive, or the affine is not finite or can't be inverted.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        try:
            affine = np.array(self.affine, dtype=np.float64)
            object.__setattr__(self, "shape", tuple(operator.index(n) for n in self.shape))
        except (TypeError, ValueError) as error:
            raise GeometryError("A grid is made of three whole numbers and a 4x4 matrix of numbers.") from error
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise GeometryError("The affine is not a finite 4x4 matrix, so the voxels have no place in the patient.")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / np.where(lengths, lengths, 1))) < 1e-6:
            raise GeometryError("The affine is degenerate: two axes of the grid are parallel or have no length.")
        if len(self.shape) != 3 or any(n < 1 for n in self.shape):
            raise GeometryError(f"A volume needs three axes with at least one voxel each, not {self.shape}.")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))} voxels of {_mm(self.spacing_mm)} mm, {self.orientation}"

    def __repr__(self) -> str:
        return f"Grid({self})"

    @classmethod
    def from_lps(
        cls, shape: tuple[int, int, int], origin_mm: ArrayLike, direction: ArrayLike, spacing_mm: ArrayLike
    ) -> Grid:
        """A grid from ITK's terms: LPS origin (3,), direction cosines as columns (3, 3), spacing (3,)."""
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(direction, dtype=np.float64).reshape(3, 3) * np.asarray(spacing_mm)
        affine[:3, 3] = origin_mm
        return cls(shape, LPS_FROM_RAS @ affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The length of one step along i, j and k, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @cached_property
    def lps_affine(self) -> NDArray[np.float64]:
        """(4, 4), from voxel index to DICOM's and ITK's LPS mm."""
        return LPS_FROM_RAS @ self.affine

    @cached_property
    def direction(self) -> NDArray[np.float64]:
        """(3, 3) unit vectors of i, j and k as columns, in RAS."""
        cosines: NDArray[np.float64] = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return cosines

    @property
    def orientation(self) -> str:
        """The nearest anatomical axes that i, j and k point to, such as ``LPS`` or ``RAS``."""
        from nibabel.orientations import aff2axcodes

        return "".join(aff2axcodes(self.affine))

    @property
    def described(self) -> str:
        """In words: ``512 x 512 x 300 at 0.7 x 0.7 x 1 mm``."""
        sizes = " x ".join(map(str, self.shape))
        return f"{sizes} at {' x '.join(f'{step:.4g}' for step in self.spacing_mm)} mm"

    @property
    def voxel_volume_mm3(self) -> float:
        """The volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def corners_mm(self) -> NDArray[np.float64]:
        """(8, 3) RAS mm of the centres of the eight corner voxels."""
        return self.to_world(np.array(list(np.ndindex(2, 2, 2))) * (np.array(self.shape) - 1))

    def to_world(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) voxel indices to (..., 3) RAS mm."""
        points: NDArray[np.float64] = np.asarray(voxels, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points

    def to_voxel(self, world_mm: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) RAS mm to (..., 3) fractional voxel indices."""
        inverse = np.linalg.inv(self.affine)
        points: NDArray[np.float64] = np.asarray(world_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        return points

    def difference(self, other: Grid, tolerance_mm: float = CORNER_TOLERANCE_MM) -> str | None:
        """What tells two grids apart, in words for a person; None when they are the same within ``tolerance_mm``."""
        if self.shape != other.shape:
            return f"shape {'x'.join(map(str, self.shape))} against {'x'.join(map(str, other.shape))}"
        apart_mm = float(np.linalg.norm(self.corners_mm - other.corners_mm, axis=1).max())
        if apart_mm <= tolerance_mm:
            return None
        if not np.allclose(self.spacing_mm, other.spacing_mm, rtol=1e-4):
            return f"spacing {_mm(self.spacing_mm)} against {_mm(other.spacing_mm)} mm"
        if not np.allclose(self.direction, other.direction, atol=1e-4):
            return f"orientation {self.orientation} against {other.orientation}, corners {apart_mm:.3g} mm apart"
        return f"the same shape, but {apart_mm:.3g} mm apart in the patient"

    def with_spacing(self, spacing_mm: tuple[float, float, float]) -> Grid:
        """The grid of that spacing inside the same outer box: voxel edges, not centres, are kept at the first corner.

        The count along an axis is the box's length over the spacing, rounded, and at least one, so that the far
        edge moves by at most half a new voxel.

        Raises:
            GeometryError: a spacing is not positive, or would give more voxels than any scanner's (``too-large``).
        """
        if any(not step > 0 for step in spacing_mm):
            raise GeometryError(f"A spacing must be above 0 mm, not {_mm(spacing_mm)}.")
        voxels = math.prod(n * old / new for n, old, new in zip(self.shape, self.spacing_mm, spacing_mm, strict=True))
        if voxels > MAX_TARGET_VOXELS:
            raise GeometryError(
                f"At this spacing the volume would have {voxels:.2g} voxels. Choose a wider one, or the scanner's own.",
                code="too-large",
            )
        old, new = np.asarray(self.spacing_mm), np.asarray(spacing_mm, dtype=np.float64)
        shape = tuple(max(1, int(n)) for n in np.floor(np.asarray(self.shape) * old / new + 0.5))
        affine = np.eye(4)
        affine[:3, :3] = self.direction * new
        affine[:3, 3] = self.to_world(0.5 * new / old - 0.5)
        return Grid((shape[0], shape[1], shape[2]), affine)


def three_spacings(steps_mm: Sequence[float]) -> tuple[float, float, float]:
    """A target spacing as a person gives it, one number for all axes or one for each.

    Raises:
        UsageError: there are other than one or three, or one is not between 0.01 and 100 mm.
    """
    if len(steps_mm) not in (1, 3):
        raise UsageError(f"A spacing is one number for all axes or three numbers, in mm, not {len(steps_mm)} numbers.")
    if not all(MIN_SPACING_MM <= step <= MAX_SPACING_MM for step in steps_mm):
        raise UsageError(f"A spacing lies between {MIN_SPACING_MM:g} and {MAX_SPACING_MM:g} mm.")
    i, j, k = (float(step) for step in (*steps_mm, *steps_mm, *steps_mm)[:3])
    return i, j, k


def _mm(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
