"""Oblique grids in NIfTI: never refused, right for every reader, turned only where it takes that."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from tests.obliques import (
    PLANES,
    POSITIONS,
    apart_mm,
    axes_of,
    by_itk,
    cornered,
    grids,
    readings,
    slanted,
    worst_mm,
)
from volseg.errors import GeometryError
from volseg.grid import Grid
from volseg.volume import (
    Volume,
    axes_to_reverse,
    for_nifti,
    grid_for_nifti,
    read_header,
    read_volume,
    write_image,
    write_mask,
)

TOLERANCE_MM = 1e-3


def convert3d() -> Any:
    if find_spec("picsl_c3d") is None:
        return None
    from picsl_c3d import Convert3D

    return Convert3D()


def test_every_reader_places_every_orientation(tmp_path: Path) -> None:
    turned = 0
    for number, grid in enumerate(grids(288, seed=7)):
        found = worst_mm(cornered(grid), tmp_path / f"{number}.nii", convert3d=convert3d())
        assert max(found.values()) < TOLERANCE_MM, (number, found)
        turned += bool(axes_to_reverse(grid))
    assert 10 < turned < 60


def test_a_whole_one_too(tmp_path: Path) -> None:
    (grid,) = [grid for grid in grids(90, seed=7, whole=True) if axes_to_reverse(grid)][:1]
    assert max(worst_mm(cornered(grid), tmp_path / "a.nii", convert3d=convert3d()).values()) < TOLERANCE_MM


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("position", POSITIONS)
def test_planes_that_are_not_tilted_stay_to_the_last_bit(plane: str, position: str, tmp_path: Path) -> None:
    axes = axes_of(plane, position, np.zeros(3))
    volume = cornered(Grid.from_lps((5, 4, 3), (-201.3, 17.77, 1033.1), axes, (0.7031, 0.7031, 3.3)))
    assert for_nifti(volume) is volume
    write_image(tmp_path / "a.nii", volume)
    expected = nibabel.Nifti1Image(volume.array, volume.grid.affine)
    expected.set_qform(volume.grid.affine, code=1)
    header = nibabel.load(tmp_path / "a.nii").header
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "pixdim"):
        assert header[name].tobytes() == expected.header[name].tobytes(), name
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "a.nii").dataobj), volume.array)


def test_one_tilt_of_an_axial_image_needs_no_turn() -> None:
    for tilt in ((18.5, 0, 0), (0, -25, 0), (0.01, 0, 0)):
        grid = Grid.from_lps((512, 512, 40), (0, 0, 0), axes_of("axial", "HFS", np.array(tilt)), (0.5, 0.5, 5))
        assert grid_for_nifti(grid) is grid


def test_the_turn_is_a_half_turn_of_the_voxel_axes() -> None:
    volume = cornered(slanted((6, 5, 4)))
    held = for_nifti(volume)
    assert (volume.grid.orientation, held.grid.orientation) == ("LPS", "RAS")
    np.testing.assert_array_equal(held.array, volume.array[::-1, ::-1])
    assert apart_mm(volume, held.array, held.grid.affine) < 1e-12
    assert grid_for_nifti(held.grid) is held.grid  # and so it is kept, however often it is written
    for axes in ((0, 1), (0, 2), (1, 2)):  # whichever way its axes run, it ends where it can be held
        mirrored = Grid(volume.grid.shape, volume.grid.affine @ np.diag([-1.0 if a in axes else 1.0 for a in range(4)]))
        assert grid_for_nifti(mirrored).orientation in ("RAS", mirrored.orientation)


def test_channels_turn_with_their_voxels(tmp_path: Path) -> None:
    grid = slanted((6, 5, 4))
    values = np.random.default_rng(0).normal(size=(6, 5, 4, 2)).astype(np.float32)
    write_image(tmp_path / "a.nii.gz", Volume(values, grid))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, values[::-1, ::-1])


def test_what_is_sheared_is_still_refused(tmp_path: Path) -> None:
    affine = slanted((50, 50, 50)).affine.copy()
    affine[:3, 2] += 0.02 * affine[:3, 0]
    with pytest.raises(GeometryError, match="not square to each other"):
        write_image(tmp_path / "a.nii", Volume(np.zeros((50, 50, 50), np.uint8), Grid((50, 50, 50), affine)))
    far = np.diag([1e6, 1e6, 1e6, 1.0])
    far[:3, 3] = 1e9 / 3
    with pytest.raises(GeometryError, match="32-bit"):
        write_image(tmp_path / "a.nii", Volume(np.zeros((5, 5, 5), np.uint8), Grid((5, 5, 5), far)))
    assert not (tmp_path / "a.nii").exists()


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_mask_on_an_image_of_another_format_lies_where_it_belongs(suffix: str, tmp_path: Path) -> None:
    volume = cornered(slanted((6, 5, 4)))
    sitk.WriteImage(volume.to_sitk(), str(tmp_path / f"a.{suffix}"))
    write_mask(tmp_path / "m.nii.gz", volume.array, tmp_path / f"a.{suffix}")
    for array, affine in readings(tmp_path / "m.nii.gz").values():
        assert apart_mm(volume, array, affine) < TOLERANCE_MM


def test_a_mask_on_nifti_keeps_the_header_of_any_writer(tmp_path: Path) -> None:
    volume = cornered(slanted((6, 5, 4)))
    sitk.WriteImage(volume.to_sitk(), str(tmp_path / "a.nii"))  # as it lies, with a qform that is a little off
    write_mask(tmp_path / "m.nii", volume.array, tmp_path / "a.nii")
    assert read_header(tmp_path / "m.nii").grid.orientation == "LPS"
    one, other = ((tmp_path / name).read_bytes() for name in ("a.nii", "m.nii"))
    assert one[76:92] == other[76:92]  # pixdim
    assert one[252:328] == other[252:328]  # both forms


def test_an_image_of_nibabel_keeps_the_voxel_order(tmp_path: Path) -> None:
    volume = cornered(slanted((6, 5, 4)))
    image = volume.to_nibabel()
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume.array)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)
    nibabel.save(image, tmp_path / "a.nii")
    array, affine = by_itk(sitk.ReadImage(str(tmp_path / "a.nii")))
    assert apart_mm(volume, array, affine) < TOLERANCE_MM
    assert int(for_nifti(volume).to_nibabel().header["qform_code"]) == 1
