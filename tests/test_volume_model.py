"""Volumes and masks in memory, and their forms in other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.volumes import make_volume
from volseg import GeometryError, Grid, InputError, Label, LabelTable, Mask, Volume


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 2)])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "uint8"])
def test_volumes_go_to_other_libraries_and_back(shape: tuple[int, ...], dtype: str) -> None:
    volume = make_volume(shape, dtype)
    volume.array.setflags(write=False)  # as what is read from a file
    for image in (volume.to_sitk(), volume.to_nibabel(), volume.to_metatensor()):
        again = Volume.of(image)
        assert np.array_equal(again.array, volume.array)
        assert again.grid.difference(volume.grid, 1e-4) is None
    assert volume.to_metatensor().shape == (shape[3] if len(shape) == 4 else 1, 5, 6, 7)


def test_simpleitk_finds_the_same_voxel_at_the_same_place() -> None:
    volume = make_volume()
    image = volume.to_sitk()
    x, y, z = volume.grid.to_world((1, 4, 2)).tolist()
    assert image.TransformPhysicalPointToIndex((-x, -y, z)) == (1, 4, 2)
    assert image.GetPixel(1, 4, 2) == volume.array[1, 4, 2]


def test_a_metatensor_in_lps_is_turned() -> None:
    from monai.utils import MetaKeys, SpaceKeys

    volume = make_volume()
    tensor = volume.to_metatensor()
    tensor.affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ tensor.affine.numpy()
    tensor.meta[MetaKeys.SPACE] = SpaceKeys.LPS
    assert Volume.of(tensor).grid.difference(volume.grid) is None


def test_what_is_no_volume_is_refused() -> None:
    import nibabel as nib

    grid = Grid((5, 6, 7), np.eye(4))
    with pytest.raises(GeometryError, match="don't fit"):
        Volume(np.zeros((5, 6)), grid)
    with pytest.raises(GeometryError, match="don't fit"):
        Volume(np.zeros((5, 6, 8)), grid)
    with pytest.raises(InputError, match="not of list"):
        Volume.of([1, 2, 3])
    with pytest.raises(InputError, match="has 2 dimensions"):
        Volume.of(sitk.Image(3, 4, sitk.sitkInt16))
    with pytest.raises(InputError, match="not of MGHImage"):
        Volume.of(nib.MGHImage(np.zeros((5, 6, 7), np.float32), np.eye(4)))
    with pytest.raises(InputError, match=r"shape \(5, 6, 7\) is no volume \(channel, i, j, k\)"):
        Volume.of(make_volume().to_metatensor()[0])
    nowhere = nib.Nifti1Image(np.zeros((5, 6, 7), np.float32), np.eye(4))
    nowhere.header["sform_code"] = nowhere.header["qform_code"] = 0
    with pytest.raises(GeometryError, match="left from its right"):
        Volume.of(nowhere)
    for values in (np.full((5, 6, 7), 0.5), np.full((5, 6, 7), -1), np.full((5, 6, 7), 70000), np.zeros((5, 6, 7, 2))):
        with pytest.raises((InputError, GeometryError)):
            Mask(values, grid)
    assert Mask(np.full((5, 6, 7), 0.99999994), grid).array.max() == 1
    wrong: Any
    for wrong in (np.zeros((5, 6, 7), complex), np.full((5, 6, 7), "x"), np.full((5, 6, 7), None)):
        with pytest.raises(InputError, match="one number in each voxel"):
            Volume(wrong, grid)
    for wrong in (("abc", np.eye(4)), ((5.5, 6, 7), np.eye(4)), ((5, 6, 7), "x"), ((5, 6, 7), None)):
        with pytest.raises(GeometryError):
            Grid(*wrong)
    with pytest.raises(GeometryError, match="lies on a Grid"):
        Volume(np.zeros((4, 4, 1)), np.eye(4))  # type: ignore[arg-type]


def test_they_say_what_they_are_and_never_dump_voxels() -> None:
    volume = make_volume((5, 6, 7, 2))
    assert repr(volume) == "Volume(2 channels of int16, 5 x 6 x 7 voxels of 0.9 x 1.3 x 2.5 mm, RAS)"
    mask = Mask(np.zeros((5, 6, 7), bool), volume.grid, LabelTable((Label(1, "liver"),)))
    assert repr(mask) == "Mask(uint8, 5 x 6 x 7 voxels of 0.9 x 1.3 x 2.5 mm, RAS; liver)"
    assert repr(mask.grid) == "Grid(5 x 6 x 7 voxels of 0.9 x 1.3 x 2.5 mm, RAS)"
