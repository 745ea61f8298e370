"""Masks: read as whole numbers, written with the geometry of their image, against ITK and Convert3D."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from tests.voxel_files import SHAPE, by_simpleitk, geometry, rotated, voxels
from volseg.errors import GeometryError, InputError
from volseg.grid import Grid
from volseg.volume import (
    Volume,
    read_header,
    read_mask,
    read_volume,
    write_image,
    write_mask,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RealData, WriteImage

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def by_convert3d(path: Path) -> Any:
    c3d = pytest.importorskip("picsl_c3d", reason="Convert3D is not installed").Convert3D()
    c3d.execute(f'"{path}" -as X')
    return c3d.peek(-1)


def patched(path: Path, place: int, form: str, *values: object) -> None:
    """Overwrite bytes of a stored header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, raw, place, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


class TestMasks:
    @pytest.mark.parametrize("dtype", TYPES)
    def test_whole_numbers_of_every_type(self, dtype: str, tmp_path: Path) -> None:
        array = np.random.default_rng(2).integers(0, 5, SHAPE).astype(dtype)
        path = tmp_path / "m.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4), dtype=array.dtype), path)
        mask = read_mask(path).array
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, array)

    def test_above_255_is_uint16(self, tmp_path: Path, write_image: WriteImage) -> None:
        array = np.where(np.arange(210).reshape(SHAPE) > 100, 65535, 0).astype(np.int32)
        mask = read_mask(write_image(tmp_path / "m.nii.gz", array)).array
        assert mask.dtype == np.uint16
        np.testing.assert_array_equal(mask, array)

    def test_almost_whole_numbers_are_rounded(self, tmp_path: Path, write_image: WriteImage) -> None:
        array = np.full(SHAPE, 0.99999997, np.float32)
        array[0] = 2.0004
        mask = read_mask(write_image(tmp_path / "m.nii.gz", array)).array
        assert set(np.unique(mask)) == {1, 2}

    def test_the_real_brain_mask_of_almost_one(self, real_data: RealData) -> None:
        path = real_data("volumes/brain-tumour-two-channel/brats_2013_pat0005_1/brainmask.nii.gz")
        mask = read_mask(path).array
        np.testing.assert_array_equal(mask, nibabel.load(path).get_fdata() > 0.5)
        assert set(np.unique(mask)) == {0, 1}

    @pytest.mark.parametrize("value", [0.5, 0.99, -1, 65536, np.nan, np.inf, 1e30])
    def test_other_values_are_refused(self, value: float, tmp_path: Path, write_image: WriteImage) -> None:
        array = np.zeros(SHAPE, np.float32)
        array[1, 2, 3] = value
        with pytest.raises(InputError) as caught:
            read_mask(write_image(tmp_path / "m.nii.gz", array))
        assert caught.value.code == "mask-values"

    def test_several_channels_and_colours_are_refused(self, tmp_path: Path, write_image: WriteImage) -> None:
        with pytest.raises(InputError) as caught:
            read_mask(write_image(tmp_path / "m.nii.gz", voxels("u1", (*SHAPE, 2))))
        assert caught.value.code == "mask-channels"
        colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        with pytest.raises(InputError) as caught:
            read_mask(write_image(tmp_path / "c.nii.gz", colours))
        assert caught.value.code == "not-scalar"

    def test_complex_numbers_are_refused_also_with_a_scale_factor(
        self, tmp_path: Path, write_image: WriteImage
    ) -> None:
        path = write_image(tmp_path / "a.nii.gz", np.full(SHAPE, 1 + 2j, np.complex64))
        patched(path, 112, "<2f", 2.0, 0.0)
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert caught.value.code == "not-scalar"


class TestMaskGeometry:
    """ITK-SNAP compares spacing and origin exactly, so every bit counts."""

    def check(self, image: Path, mask: Path) -> None:
        array = np.random.default_rng(1).integers(0, 3, read_header(image).grid.shape).astype(np.uint8)
        write_mask(mask, array, image)
        for read in (by_simpleitk, by_convert3d):
            assert geometry(read(image)) == geometry(read(mask))
        np.testing.assert_array_equal(np.asanyarray(nibabel.load(mask).dataobj), array)
        one, other = nibabel.load(image).header, nibabel.load(mask).header
        for name in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"):
            assert one[name].astype("<f8").tobytes() == other[name].astype("<f8").tobytes()
        np.testing.assert_array_equal(one["pixdim"][:4], other["pixdim"][:4])

    @pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 0), (0, 1), (4, 0), (2, 2)])
    @pytest.mark.parametrize("seed", range(3))
    def test_of_any_header(self, codes: tuple[int, int], seed: int, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(voxels("i2"), rotated(seed) @ np.diag([1, 1, -1 if seed == 1 else 1, 1]))
        image.set_sform(image.affine, codes[0])
        image.set_qform(image.affine, codes[1])
        nibabel.save(image, tmp_path / "a.nii.gz")
        self.check(tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")

    def test_of_a_header_whose_two_forms_differ(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(voxels("i2"), np.eye(4))
        image.set_sform(rotated(3), 2)
        image.set_qform(rotated(4), 1)
        nibabel.save(image, tmp_path / "a.nii.gz")
        self.check(tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")

    def test_of_big_endian_headers(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(voxels("i2"), rotated(3))
        nibabel.save(
            nibabel.Nifti1Image(voxels("i2"), rotated(3), image.header.as_byteswapped(">")), tmp_path / "a.nii"
        )
        self.check(tmp_path / "a.nii", tmp_path / "m.nii.gz")

    def test_of_what_volseg_writes(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.nii.gz", Volume(voxels("i2"), Grid(SHAPE, rotated(11))))
        self.check(tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")

    def test_of_what_itk_writes(self, tmp_path: Path) -> None:
        import SimpleITK as sitk

        grid = Grid(SHAPE, rotated(12))
        image = sitk.GetImageFromArray(voxels("i2").T)
        image.SetSpacing(grid.spacing_mm)
        image.SetOrigin(grid.lps_affine[:3, 3].tolist())
        image.SetDirection((grid.lps_affine[:3, :3] / grid.spacing_mm).ravel().tolist())
        sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
        self.check(tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")

    @pytest.mark.parametrize(
        "name",
        [
            "hippocampus/imagesTr/hippocampus_003.nii.gz",
            "volumes/spinal-cord/t2/t2.nii.gz",
            "volumes/spinal-cord/t1/t1w.nii.gz",
            "volumes/spinal-cord/mt/mt1.nii.gz",
            "volumes/totalsegmentator/example_ct_sm.nii.gz",
            "volumes/brain-tumour-two-channel/brats_2013_pat0005_1/T1c_subtrMeanDivStd.nii.gz",
        ],
    )
    def test_of_real_images(self, name: str, real_data: RealData, tmp_path: Path) -> None:
        self.check(real_data(name), tmp_path / "m.nii.gz")

    def test_of_an_image_with_several_channels(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(voxels("f4", (*SHAPE, 2)), rotated(2))
        nibabel.save(image, tmp_path / "a.nii.gz")
        write_mask(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8), tmp_path / "a.nii.gz")
        assert nibabel.load(tmp_path / "m.nii.gz").shape == SHAPE
        np.testing.assert_array_equal(nibabel.load(tmp_path / "m.nii.gz").affine, image.header.get_best_affine())

    def test_of_another_format_within_rounding(self, tmp_path: Path) -> None:
        import SimpleITK as sitk

        image = sitk.Image(5, 6, 7, sitk.sitkInt16)
        image.SetSpacing((0.7, 0.8, 2.5))
        sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
        write_mask(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8), tmp_path / "a.nrrd")
        mask = read_header(tmp_path / "m.nii.gz").grid
        assert mask.difference(read_header(tmp_path / "a.nrrd").grid, 1e-5) is None

    def test_a_mask_of_another_shape_is_refused(self, tmp_path: Path, write_image: WriteImage) -> None:
        image = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        with pytest.raises(GeometryError):
            write_mask(tmp_path / "m.nii.gz", np.zeros((5, 6, 8), np.uint8), image)
        assert not (tmp_path / "m.nii.gz").exists()

    def test_no_text_of_the_image_reaches_the_mask(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(voxels("i2"), np.eye(4))
        image.header["descrip"] = b"CANARY"
        image.header["intent_name"] = b"CANARY"
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"CANARY"))
        nibabel.save(image, tmp_path / "a.nii.gz")
        write_mask(tmp_path / "m.nii", np.zeros(SHAPE, np.uint8), tmp_path / "a.nii.gz")
        assert b"CANARY" not in (tmp_path / "m.nii").read_bytes()
