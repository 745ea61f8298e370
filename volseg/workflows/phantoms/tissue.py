"""The CT values of a phantom: organs between fat, bone, lung, vessels and bowel, with noise as a scanner has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.workflows.phantoms.phantom import (
    AIR_HU,
    BONE_HU,
    FAT_HU,
    GALLBLADDER,
    KIDNEY,
    LIVER,
    LUNG_HU,
    MUSCLE_HU,
    RENAL_FAT_MM,
    SKIN_MM,
    SPLEEN,
    WALL_MM,
    Ellipsoid,
    Phantom,
    rotation,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float32]

LOW_HU, HIGH_HU = -1024, 3071
"""What a scanner's 12 bits hold."""
CORTEX_MM = 8.0
"""The kidney's bright rim after contrast."""
LOOPS = 26
LIVER_VESSELS = 7


def paint(phantom: Phantom) -> NDArray[np.int16]:
    """The phantom's image (i, j, k) in Hounsfield units, on its own grid.

    Each shape is laid over what is there, blended over one voxel at its surface as a scanner's partial volume does.
    """
    rng = np.random.default_rng(phantom.seed)
    points = phantom.points_mm(phantom.grid)
    canvas = _Canvas(points, float(np.mean(phantom.grid.spacing_mm)))
    inside = phantom.trunk.depth_mm(points)
    _couch(canvas, phantom)
    _wall(canvas, phantom, inside)
    _spine(canvas, phantom)
    for side in (-1.0, 1.0):
        canvas.lay(np.minimum(canvas.depth((76 * side, -8, 150), (60, 78, 92)), inside - 2), LUNG_HU)
    canvas.lay(canvas.depth((-14, 30, 128), (52, 44, 48)), phantom.blood_hu)
    _bowel(canvas, phantom, inside, rng)
    depths = phantom.depths(points)
    texture = 3 * _smooth(rng, phantom, 9.0)
    canvas.lay(depths[LIVER], phantom.hu[LIVER] + texture)
    for _ in range(LIVER_VESSELS):
        turn = rng.uniform(-60, 60, 3)
        vessel = canvas.depth(
            tuple(rng.uniform((25, -30, -10), (90, 35, 60))), (5, 5, float(rng.uniform(20, 45))), turn
        )
        canvas.lay(np.minimum(vessel, depths[LIVER] - 6), phantom.blood_hu)
    canvas.lay(depths[SPLEEN], phantom.hu[SPLEEN] + texture)
    canvas.lay(np.minimum(depths[KIDNEY] + RENAL_FAT_MM, inside), FAT_HU)
    canvas.lay(depths[KIDNEY], phantom.hu[KIDNEY] + texture)
    canvas.lay(depths[GALLBLADDER], phantom.hu[GALLBLADDER])
    if phantom.blood_hu > 60:
        rim = np.minimum(depths[KIDNEY], CORTEX_MM - depths[KIDNEY])
        canvas.lay(np.where(depths[GALLBLADDER] > 0, -1, rim), phantom.hu[KIDNEY] + 0.2 * phantom.blood_hu)
    noise = phantom.noise_hu * _smooth(rng, phantom, 0.6 * min(phantom.grid.spacing_mm))
    values = np.rint(canvas.values + noise)
    return np.clip(values, LOW_HU, HIGH_HU).astype(np.int16)


class _Canvas:
    def __init__(self, points_mm: Values, edge_mm: float) -> None:
        self.points_mm = points_mm
        self.values: Values = np.full(points_mm.shape[:3], AIR_HU, dtype=np.float32)
        self._edge_mm = edge_mm

    def lay(self, depth_mm: Values, hu: Values | float) -> None:
        """Lay a shape over what is there, given each voxel's depth under its surface."""
        share = np.clip(0.5 + depth_mm / self._edge_mm, 0, 1)
        self.values += share * (hu - self.values)

    def depth(
        self,
        centre_mm: tuple[float, ...],
        semi_axes_mm: tuple[float, ...],
        tilt_degrees: NDArray[np.float64] | tuple[float, ...] = (0.0, 0.0, 0.0),
    ) -> Values:
        """The depth of each voxel in an ellipsoid."""
        shape = Ellipsoid(np.array(centre_mm), np.array(semi_axes_mm), rotation(tilt_degrees))
        return shape.depth_mm(self.points_mm)


def _couch(canvas: _Canvas, phantom: Phantom) -> None:
    """The table lies under the body, which for a prone one is in front."""
    down = 1.0 if phantom.position.endswith("P") else -1.0
    height = down * (phantom.trunk.semi_axes_mm[1] + WALL_MM + phantom.fat_mm + 8)
    x, y = canvas.points_mm[..., 0], canvas.points_mm[..., 1]
    sag = height - down * x**2 / 900
    canvas.lay(np.minimum(6 - np.abs(y - sag), 190 - np.abs(x)), -60.0)


def _wall(canvas: _Canvas, phantom: Phantom, inside: Values) -> None:
    """Skin, fat, muscle with ribs, and the fat between the organs."""
    canvas.lay(inside + WALL_MM + phantom.fat_mm + SKIN_MM, 20.0)
    canvas.lay(inside + WALL_MM + phantom.fat_mm, FAT_HU)
    canvas.lay(inside + WALL_MM, MUSCLE_HU)
    x, y, z = np.moveaxis(canvas.points_mm, -1, 0)
    # Ribs run down and forward around the chest, one every 28 mm, none below the waist or at the front.
    angle = np.arctan2(np.abs(x), -y)
    along = (z + 38 * angle) % 28 - 14
    rib = np.minimum(5.5 - np.abs(along), 4 - np.abs(inside + 0.5 * WALL_MM))
    rib = np.minimum(rib, np.minimum((2.2 - angle) * 60, (z + 20 + 25 * angle) / 2))
    canvas.lay(rib, BONE_HU)
    canvas.lay(inside, FAT_HU)


def _spine(canvas: _Canvas, phantom: Phantom) -> None:
    """Vertebrae, discs, the canal, the muscles beside, and the two great vessels."""
    back = -float(phantom.trunk.semi_axes_mm[1])
    for side in (-1.0, 1.0):
        canvas.lay(canvas.depth((36 * side, back + 2, 0), (32, 20, np.inf)), MUSCLE_HU)
        canvas.lay(canvas.depth((34 * side, back + 40, -110), (17, 20, 105)), MUSCLE_HU)
    disc = np.abs(canvas.points_mm[..., 2] % 34 - 17) < 4
    body = canvas.depth((0, back + 34, 0), (23, 18, np.inf))
    canvas.lay(body, np.where(disc, 85.0, BONE_HU).astype(np.float32))
    canvas.lay(body - 3.5, np.where(disc, 85.0, 190.0).astype(np.float32))
    canvas.lay(canvas.depth((0, back + 4, 0), (14, 16, np.inf)), BONE_HU)
    canvas.lay(canvas.depth((0, back + 8, 0), (9, 8, np.inf)), 30.0)
    canvas.lay(canvas.depth((-12, back + 64, 0), (10, 10, np.inf)), phantom.blood_hu + 15)
    canvas.lay(canvas.depth((20, back + 62, 0), (12, 10, np.inf)), phantom.blood_hu)


def _bowel(canvas: _Canvas, phantom: Phantom, inside: Values, rng: np.random.Generator) -> None:
    """The stomach with its bubble, and loops of gut with fluid or gas; gas rises, so in a prone body to the back."""
    up = -1.0 if phantom.position.endswith("P") else 1.0
    y = canvas.points_mm[..., 1]
    stomach = np.minimum(canvas.depth((-48, 42, 42), (38, 34, 44)), inside - 2)
    canvas.lay(stomach, 45.0)
    canvas.lay(stomach - 5, 32.0)
    canvas.lay(np.minimum(stomach - 5, up * (y - 42) - 14), -920.0)
    width, depth = phantom.trunk.semi_axes_mm[:2]
    for _ in range(LOOPS):
        centre = rng.uniform((-0.8 * width, -0.1 * depth, -130), (0.8 * width, 0.7 * depth, -40))
        loop = np.minimum(canvas.depth(tuple(centre), tuple(rng.uniform(10, 24, 3))), inside - 3)
        canvas.lay(loop, 45.0)
        canvas.lay(loop - 3, float(rng.choice([28.0, 40.0, -500.0, -900.0], p=[0.4, 0.3, 0.15, 0.15])))


def _smooth(rng: np.random.Generator, phantom: Phantom, length_mm: float) -> Values:
    """Noise of mean 0 and standard deviation 1 that hangs together over a length."""
    from scipy.ndimage import gaussian_filter

    white = rng.standard_normal(phantom.grid.shape, dtype=np.float32)
    noise = gaussian_filter(white, [length_mm / step for step in phantom.grid.spacing_mm])
    return np.asarray(noise / noise.std(), dtype=np.float32)
