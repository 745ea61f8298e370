"""Phantoms: abdomens made of analytic shapes, with CT values and labels for any grid.

Nothing here is a patient. The shapes have the size, place and CT values of the organs that they stand for, and every
phantom differs in size, place, posture, contrast, noise and grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LIVER, KIDNEY, SPLEEN, GALLBLADDER = 1, 2, 3, 4
LABELS = LabelTable(
    (
        Label(LIVER, "liver", (201, 112, 84)),
        Label(KIDNEY, "kidney", (243, 200, 72)),
        Label(SPLEEN, "spleen", (127, 101, 190)),
        Label(GALLBLADDER, "gallbladder", (86, 180, 92)),
    )
)

MIN_MATRIX, MAX_MATRIX = 24, 512
MATRIX = 58
LENGTH_MM = 212.0
"""How much of the trunk a scan covers, from head to foot."""
SLICE_MM = 6.6
"""Of a scan of the usual matrix; finer ones have thinner slices."""
AIR_HU = -1000.0
FAT_HU, MUSCLE_HU, BONE_HU, LUNG_HU = -100.0, 55.0, 450.0, -840.0
SKIN_MM, WALL_MM, RENAL_FAT_MM = 2.5, 15.0, 4.0

DIRECTIONS_LPS = {
    "HFS": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "HFP": ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
    "FFS": ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "FFP": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
}
"""Row and column direction of an axial slice for each patient position (PS3.3 C.7.3.1.1.2): head or feet first,
supine or prone."""
POSITION_ODDS = {"HFS": 0.7, "FFS": 0.1, "HFP": 0.1, "FFP": 0.1}


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid in the body's own frame.

    Args:
        centre_mm: (3,) x to the right, y to the front, z to the head.
        semi_axes_mm: (3,) half its lengths; infinity makes a cylinder of that axis.
        axes: (3, 3) its directions as columns.
    """

    centre_mm: NDArray[np.float64]
    semi_axes_mm: NDArray[np.float64]
    axes: NDArray[np.float64]

    def depth_mm(self, points_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        """(...,) how deep each of the points (..., 3) lies under the surface, negative outside.

        The sign is exact; the length is that of Newton's first step to the surface, good near it.
        """
        local = (points_mm - self.centre_mm.astype(np.float32)) @ self.axes.astype(np.float32)
        unit = local / self.semi_axes_mm.astype(np.float32)
        level = np.sqrt((unit**2).sum(axis=-1))
        steepness = np.sqrt(((unit / self.semi_axes_mm.astype(np.float32)) ** 2).sum(axis=-1))
        depth: NDArray[np.float32] = level * (1 - level) / np.maximum(steepness, np.float32(1e-6))
        return np.where(level > 0, depth, self.semi_axes_mm.min()).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Phantom:
    """One abdomen on one scanner grid.

    Args:
        name: its name, such as ``phantom-007``.
        grid: the scan's own grid.
        position: DICOM's patient position, such as ``HFS`` (PS3.3 C.7.3.1.1.2).
        frame: (4, 4) from the body's own frame to RAS mm.
        organs: the shapes of each label, joined where there are several.
        trunk: the inside of the body wall; infinite from head to foot.
        fat_mm: thickness of the fat under the skin.
        hu: the CT value of each label, before noise.
        blood_hu: the CT value of the great vessels.
        noise_hu: standard deviation of the noise.
        seed: for what is drawn at random while the image is made: bowel, noise.
    """

    name: str
    grid: Grid
    position: str
    frame: NDArray[np.float64]
    organs: Mapping[int, tuple[Ellipsoid, ...]]
    trunk: Ellipsoid
    fat_mm: float
    hu: Mapping[int, float]
    blood_hu: float
    noise_hu: float
    seed: tuple[int, ...]

    def points_mm(self, grid: Grid) -> NDArray[np.float32]:
        """(i, j, k, 3) the place of each voxel centre in the body's own frame."""
        to_body = np.linalg.inv(self.frame) @ grid.affine
        voxels = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
        return (voxels @ to_body[:3, :3].T + to_body[:3, 3]).astype(np.float32)

    def mask(self, grid: Grid) -> NDArray[np.uint8]:
        """(i, j, k) the label at each voxel centre of any grid; a later label lies over an earlier one."""
        points = self.points_mm(grid)
        mask = np.zeros(grid.shape, dtype=np.uint8)
        for index, depth in self.depths(points).items():
            mask[depth > 0] = index
        return mask

    def depths(self, points: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """The depth of each point under the surface of each label, inside the body wall alone."""
        inside = self.trunk.depth_mm(points)
        depths = {
            index: np.minimum(np.maximum.reduce([shape.depth_mm(points) for shape in shapes]), inside)
            for index, shapes in sorted(self.organs.items())
        }
        # A kidney lies in fat, which keeps the liver and the spleen off it.
        for index in (LIVER, SPLEEN):
            depths[index] = np.minimum(depths[index], -depths[KIDNEY] - RENAL_FAT_MM)
        return depths


def make_phantom(name: str, seed: tuple[int, ...], *, matrix: int = MATRIX) -> Phantom:
    """Draw an abdomen at random; the same seed gives the same one.

    Args:
        name: its name.
        seed: whole numbers, such as a cohort's seed and the phantom's number.
        matrix: the middle of the rows and columns of a slice; the number of slices goes with it.

    Raises:
        UsageError: the matrix is too small for the organs, or larger than a scanner's.
    """
    if not MIN_MATRIX <= matrix <= MAX_MATRIX:
        raise UsageError(f"The matrix must be from {MIN_MATRIX} to {MAX_MATRIX}, not {matrix}.")
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.94, 1.06, 3)
    trunk = _shape((0, 0, 0), (128, 92, np.inf), size)
    fat_mm = float(rng.uniform(6, 18))
    organs = _organs(rng, size)
    contrast = float(rng.uniform(0, 1))  # from before the agent to the portal phase
    hu = {
        LIVER: 55 + 55 * contrast + rng.normal(0, 4),
        KIDNEY: 32 + 135 * contrast + rng.normal(0, 8),
        SPLEEN: 48 + 75 * contrast + rng.normal(0, 4),
        GALLBLADDER: rng.uniform(-2, 12),
    }
    position = str(rng.choice(list(POSITION_ODDS), p=list(POSITION_ODDS.values())))
    outer_mm = 128 * size[0] + WALL_MM + fat_mm + SKIN_MM
    grid = _scan_grid(rng, position, outer_mm, matrix)
    return Phantom(
        name=name,
        grid=grid,
        position=position,
        frame=_body_frame(rng, grid),
        organs=organs,
        trunk=trunk,
        fat_mm=fat_mm,
        hu={index: float(value) for index, value in hu.items()},
        blood_hu=float(42 + 120 * contrast),
        noise_hu=float(rng.uniform(6, 18)),
        seed=(*seed, 1),
    )


def _organs(rng: np.random.Generator, size: NDArray[np.float64]) -> dict[int, tuple[Ellipsoid, ...]]:
    def organ(
        centre: tuple[float, float, float], semi_axes: tuple[float, float, float], tilt: tuple[float, float, float]
    ) -> Ellipsoid:
        """One shape, moved by a few mm, stretched by a few per cent and turned by a few degrees."""
        moved = np.array(centre) + rng.normal(0, 3, 3)
        stretched = np.array(semi_axes) * rng.uniform(0.9, 1.1, 3)
        return _shape(moved, stretched, size, np.array(tilt) + rng.normal(0, 5, 3))

    def liver() -> tuple[Ellipsoid, ...]:
        right = organ((66, 2, 18), (60, 70, 74), (0, 12, 0))
        left = organ((8, 40, 38), (62, 34, 36), (0, 10, 15))
        return right, left

    return {
        LIVER: liver(),
        KIDNEY: (
            organ((58, -44, -46), (24, 25, 50), (8, 8, 0)),
            organ((-58, -44, -38), (24, 25, 50), (8, -8, 0)),
        ),
        SPLEEN: (organ((-84, -22, 34), (27, 42, 50), (15, 10, 10)),),
        GALLBLADDER: (organ((42, 58, -34), (18, 18, 28), (-20, 10, 0)),),
    }


def _shape(
    centre_mm: NDArray[np.float64] | tuple[float, ...],
    semi_axes_mm: NDArray[np.float64] | tuple[float, ...],
    size: NDArray[np.float64],
    tilt_degrees: NDArray[np.float64] | tuple[float, ...] = (0.0, 0.0, 0.0),
) -> Ellipsoid:
    return Ellipsoid(np.asarray(centre_mm) * size, np.asarray(semi_axes_mm) * size, rotation(tilt_degrees))


def rotation(degrees: NDArray[np.float64] | tuple[float, ...]) -> NDArray[np.float64]:
    """(3, 3) turns about x, then y, then z."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[one, one] = step[other, other] = np.cos(angle)
        step[other, one] = np.sin(angle)
        step[one, other] = -np.sin(angle)
        turn = step @ turn
    return turn


def _scan_grid(rng: np.random.Generator, position: str, outer_mm: float, matrix: int) -> Grid:
    """A grid that holds the body, anywhere in the scanner's coordinates."""
    pixels = matrix + int(rng.integers(-(matrix // 12), matrix // 12 + 1))
    pixel_mm = round(float(rng.uniform(1.06, 1.12)) * 2 * outer_mm / pixels, 6)
    slice_mm = round(float(rng.uniform(0.9, 1.2)) * SLICE_MM * MATRIX / matrix, 2)
    slices = round(LENGTH_MM / slice_mm)
    row, column = (np.array(direction) for direction in DIRECTIONS_LPS[position])
    normal = np.cross(row, column)
    direction = np.stack([row, column, normal], axis=1)
    spacing = np.array([pixel_mm, pixel_mm, slice_mm])
    shape = (pixels, pixels, slices)
    # DICOM keeps positions as decimal strings of 16 characters; micrometres leave nothing to round.
    centre = rng.uniform((-60, -60, -900), (60, 60, 400))
    origin = np.round(centre - direction @ (spacing * (np.array(shape) - 1) / 2), 3)
    return Grid.from_lps(shape, origin, direction, spacing)


def _body_frame(rng: np.random.Generator, grid: Grid) -> NDArray[np.float64]:
    """The body lies near the middle of the scan, a little turned."""
    frame = np.eye(4)
    frame[:3, :3] = rotation(rng.normal(0, 2.5, 3))
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    frame[:3, 3] = middle + rng.uniform((-6, -6, -8), (6, 6, 8)) - frame[:3, :3] @ (0.0, 0.0, 2.0)
    return frame
