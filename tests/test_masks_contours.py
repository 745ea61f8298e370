"""Structure sets of other programs' kinds, through ``convert``: the masks that they were made from come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import skimage.measure
from scipy import ndimage

from tests.dicom_traps.stack import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Stack
from tests.drawn import Roi, on_slice
from tests.label_study import NATIVE, Study, done, names_of, the_mask
from tests.traced import borders
from volseg.verbs.convert import convert

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 48
ORIENTATIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}


class Flat(Stack):
    """A stack of any size: the phantom of large ones leaves what 16 bits hold."""

    def phantom(self, number: int) -> np.ndarray:
        return np.full((self.size[1], self.size[0]), float(number))


def shapes(k: int) -> np.ndarray:
    """(rows, columns) bool: blobs with holes, single pixels, lines, walls of one pixel, the slice's own edge."""
    random = np.random.default_rng(k)
    blobs = ndimage.gaussian_filter(random.standard_normal((SIDE, SIDE)), 1 + k / 2)
    mask = blobs > np.quantile(blobs, 0.6)
    for value in (True, False):
        mask[tuple(random.integers(0, SIDE, (2, 20)))] = value
    mask[8 + k, 5:30] = mask[20:40, 33] = True
    rows, columns = np.indices(mask.shape)
    mask |= np.abs(np.hypot(rows - 24, columns - 20) - 14) < 0.5
    if k % 2:
        mask[[0, -1]] = mask[:, [0, -1]] = True
    return mask


def rounded(k: int, points_mm: np.ndarray) -> np.ndarray:
    """As different programs write numbers."""
    return points_mm.astype(np.float32) if k % 3 == 0 else points_mm.round(2 if k % 3 == 1 else 12)


@pytest.mark.parametrize("pixel_mm", [(0.3, 0.3), (0.9766, 0.9766), (0.5, 5.0), (3.0, 0.4)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_come_back_from_contours_through_centres_and_half_way_between_them(
    orientation: str, pixel_mm: tuple[float, float], tmp_path: Path
) -> None:
    stack = Flat(
        size=(SIDE, SIDE),
        pixel_mm=pixel_mm,
        gaps_mm=(2.5,) * 5,
        orientation=ORIENTATIONS[orientation],
        origin_mm=(-523.4567, -234.5678, 945.6789),
    )
    study = Study(tmp_path / "dicom", stack)
    first = np.stack([shapes(k) for k in range(6)])
    second = np.stack([shapes(k + 6) for k in range(6)]) & ~first
    through, half_way = [], []
    for k in range(6):
        contours = [found[:, ::-1] - 1 for found in skimage.measure.find_contours(np.pad(second[k], 1), 0.5)]
        for kind, polygons in ((through, borders(first[k], simple=k % 2 == 0)), (half_way, contours)):
            kind += [rounded(k, on_slice(stack, k, polygon * pixel_mm)) for polygon in polygons]
    study.structures(Roi("Through", through), Roi("Half-way", half_way))
    out = tmp_path / "out"
    ledger = convert(study.root, out, NATIVE)
    mask, names = the_mask(out, ledger), names_of(out)
    world = np.stack([stack.world_of(k) for k in range(6)])
    i, j, k = np.moveaxis(np.rint(mask.grid.to_voxel(world * (-1, -1, 1))).astype(int), -1, 0)
    np.testing.assert_array_equal(mask.array[i, j, k], first * names["Through"] + second * names["Half-way"])
    for trouble in ("claimed", "cross", "twice", "left out"):
        assert trouble not in done(ledger).message
