"""Reading and writing images, against nibabel and SimpleITK."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.voxel_files import SHAPE, by_simpleitk, geometry, rotated, voxels
from volseg.errors import GeometryError
from volseg.grid import Grid
from volseg.volume import (
    Volume,
    is_image,
    list_images,
    read_header,
    read_volume,
    stem_of,
    write_image,
    write_mask,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RealData, WriteImage

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def patched(path: Path, place: int, form: str, *values: object) -> None:
    """Overwrite bytes of a stored header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, raw, place, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


class TestNames:
    def test_stems(self, tmp_path: Path) -> None:
        names = {
            "a.nii.gz": "a",
            "a.b.nii": "a.b",
            "A.NII.GZ": "A",
            "x.nrrd": "x",
            "x.mha": "x",
            "x.tar.gz": "x.tar",
            "bare": "bare",
        }
        assert {name: stem_of(tmp_path / name) for name in names} == names

    def test_listing_passes_over_what_is_hidden_or_no_image(self, tmp_path: Path) -> None:
        for name in ("b.nii.gz", "a.NRRD", ".c.nii.gz", "._b.nii.gz", "d.txt", "b.json"):
            (tmp_path / name).touch()
        assert [path.name for path in list_images(tmp_path)] == ["a.NRRD", "b.nii.gz"]
        assert list_images(tmp_path / "absent") == []
        assert not is_image(tmp_path / "d.txt")


class TestReading:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("dtype", TYPES)
    def test_voxels_and_grid_as_nibabel_wrote_them(self, dtype: str, suffix: str, tmp_path: Path) -> None:
        array, affine = voxels(dtype), rotated(1)
        path = tmp_path / f"a{suffix}"
        image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
        nibabel.save(image, path)
        found = read_volume(path)
        assert found.array.dtype == array.dtype
        np.testing.assert_array_equal(found.array, array)
        np.testing.assert_array_equal(found.grid.affine, nibabel.load(path).affine)
        header = read_header(path)
        assert (header.dtype, header.channels, header.grid.shape) == (array.dtype, 1, SHAPE)
        assert header.grid.difference(found.grid, 0) is None

    @pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_both_versions_and_byte_orders(self, kind: type, order: str, tmp_path: Path) -> None:
        array = voxels("i2")
        image = kind(array, rotated(2))
        path = tmp_path / "a.nii.gz"
        header = image.header.as_byteswapped(order)
        nibabel.save(kind(array, rotated(2), header), path)
        assert nibabel.load(path).header.endianness == order
        found = read_volume(path)
        assert found.array.dtype.isnative
        np.testing.assert_array_equal(found.array, array)
        np.testing.assert_array_equal(found.grid.affine, nibabel.load(path).affine)

    @pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "i4"])
    def test_scale_factors(self, dtype: str, tmp_path: Path) -> None:
        array = voxels(dtype)
        image = nibabel.Nifti1Image(array, np.eye(4), dtype=array.dtype)
        path = tmp_path / "a.nii.gz"
        nibabel.save(image, path)
        patched(path, 112, "<2f", 0.25, -3.0)
        found = read_volume(path).array
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, nibabel.load(path).get_fdata(), rtol=1e-6)

    def test_no_scaling_keeps_the_stored_type(self, tmp_path: Path, write_image: WriteImage) -> None:
        for slope, inter in ((1.0, 0.0), (0.0, 0.0), (float("nan"), float("nan"))):
            path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
            patched(path, 112, "<2f", slope, inter)
            assert read_volume(path).array.dtype == np.int16

    def test_several_channels_lie_on_the_fourth_axis(self, tmp_path: Path, write_image: WriteImage) -> None:
        array = voxels("f4", (*SHAPE, 3))
        path = write_image(tmp_path / "a.nii.gz", array)
        found = read_volume(path)
        assert found.array.shape == (*SHAPE, 3)
        np.testing.assert_array_equal(found.array, array)
        assert read_header(path).channels == 3

    def test_axes_of_one_are_no_channels(self, tmp_path: Path, write_image: WriteImage) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2", (*SHAPE, 1)))
        assert read_volume(path).array.shape == SHAPE
        flat = write_image(tmp_path / "b.nii.gz", voxels("i2", (5, 6)))
        assert read_volume(flat).array.shape == (5, 6, 1)

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
    @pytest.mark.parametrize("vector", [False, True])
    def test_what_simpleitk_wrote(self, suffix: str, vector: bool, tmp_path: Path) -> None:
        import SimpleITK as sitk

        array = voxels("i2", (*SHAPE, 2) if vector else SHAPE)
        image = sitk.GetImageFromArray(np.moveaxis(array, (0, 1, 2), (2, 1, 0)), isVector=vector)
        grid = Grid(SHAPE, rotated(3))
        image.SetSpacing(grid.spacing_mm)
        image.SetOrigin(grid.lps_affine[:3, 3].tolist())
        image.SetDirection((grid.lps_affine[:3, :3] / grid.spacing_mm).ravel().tolist())
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(image, str(path))
        found = read_volume(path)
        np.testing.assert_array_equal(found.array, array)
        assert found.grid.difference(grid, 1e-3) is None
        assert read_header(path).channels == (2 if vector else 1)
        assert read_header(path).dtype == np.int16

    @pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
    def test_units_are_those_itk_understands(self, unit: str, mm: float, tmp_path: Path) -> None:
        affine = np.diag([0.5, 0.5, 2.0, 1.0])
        affine[:3, 3] = 10, -20, 30
        image = nibabel.Nifti1Image(voxels("i2"), affine)
        image.header.set_xyzt_units(unit)
        path = tmp_path / "a.nii.gz"
        nibabel.save(image, path)
        grid, itk = read_header(path).grid, by_simpleitk(path)
        np.testing.assert_allclose(grid.spacing_mm, np.array([0.5, 0.5, 2]) * mm)
        np.testing.assert_allclose(grid.spacing_mm, itk.GetSpacing(), rtol=1e-6)
        np.testing.assert_allclose(grid.lps_affine[:3, 3], itk.GetOrigin(), rtol=1e-6)
        write_mask(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8), path)
        assert read_header(tmp_path / "m.nii.gz").grid.difference(grid, 0) is None
        assert geometry(by_simpleitk(tmp_path / "m.nii.gz")) == geometry(itk)

    def test_real_images_with_unusual_axes(self, real_data: RealData) -> None:
        folder = real_data("volumes/spinal-cord")
        orientations = set()
        for path in sorted(folder.glob("t*/*.nii.gz")):
            if nibabel.load(path).ndim > 4:
                continue
            found, oracle = read_volume(path), nibabel.load(path)
            np.testing.assert_array_equal(found.grid.affine, oracle.affine)
            np.testing.assert_allclose(found.array, oracle.get_fdata(), rtol=1e-6)
            orientations.add(found.grid.orientation)
        assert len(orientations) > 1

    def test_how_far_sform_and_qform_are_apart(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(voxels("i2"), np.eye(4))
        image.set_sform(np.eye(4), 1)
        for shift in (0.0, 2.5):
            other = np.eye(4)
            other[2, 3] = shift
            image.set_qform(other, 1)
            nibabel.save(image, tmp_path / "a.nii.gz")
            assert read_header(tmp_path / "a.nii.gz").forms_apart_mm == pytest.approx(shift)
        patched(tmp_path / "a.nii.gz", 256, "<3f", 2.0, 2.0, 2.0)
        assert read_header(tmp_path / "a.nii.gz").forms_apart_mm == float("inf")


class TestWritingImages:
    @pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4"])
    def test_itk_and_nibabel_read_what_was_written(self, dtype: str, tmp_path: Path) -> None:
        import SimpleITK as sitk

        array, grid = voxels(dtype), Grid(SHAPE, rotated(6))
        path = tmp_path / "a.nii.gz"
        write_image(path, Volume(array, grid))
        image = nibabel.load(path)
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)
        assert image.get_data_dtype() == array.dtype
        assert Grid(SHAPE, image.affine).difference(grid, 1e-3) is None
        itk = by_simpleitk(path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, array)
        np.testing.assert_allclose(itk.GetSpacing(), grid.spacing_mm, rtol=1e-6)
        np.testing.assert_allclose(itk.GetOrigin(), grid.lps_affine[:3, 3], rtol=1e-5)

    @pytest.mark.parametrize("seed", range(8))
    def test_sform_and_qform_are_set_equal_and_mean_the_scanner(self, seed: int, tmp_path: Path) -> None:
        path = tmp_path / "a.nii.gz"
        flip = np.diag([1, 1, -1 if seed % 2 else 1, 1])
        write_image(path, Volume(voxels("i2"), Grid(SHAPE, rotated(seed) @ flip)))
        header = nibabel.load(path).header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
        np.testing.assert_allclose(header.get_sform(), header.get_qform(), atol=1e-4)
        assert header.get_xyzt_units()[0] == "mm"
        assert read_header(path).forms_apart_mm < 1e-3

    def test_the_same_volume_gives_the_same_bytes_without_name_or_time(self, tmp_path: Path) -> None:
        import time

        volume = Volume(voxels("i2", (64, 64, 20)), Grid((64, 64, 20), rotated(7)))
        write_image(tmp_path / "a.nii.gz", volume)
        time.sleep(1.1)  # a time stamp in gzip counts seconds
        write_image(tmp_path / "other.nii.gz", volume)
        first = (tmp_path / "a.nii.gz").read_bytes()
        assert first == (tmp_path / "other.nii.gz").read_bytes()
        assert first[:2] == b"\x1f\x8b"
        assert first[3] == 0  # no file name, comment or extra field (RFC 1952)
        assert first[4:8] == b"\0\0\0\0"

    def test_no_free_text(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.nii", Volume(voxels("i2"), Grid(SHAPE, np.eye(4))))
        header = nibabel.load(tmp_path / "a.nii").header
        for name in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
            assert bytes(header[name].item()).strip(b"\0") == b""
        assert not header.extensions

    def test_any_memory_order_and_byte_order(self, tmp_path: Path) -> None:
        array, grid = voxels("i2"), Grid(SHAPE, np.eye(4))
        arrays = {
            "c": array,
            "f": np.asfortranarray(array),
            "big": array.astype(">i2"),
            "view": np.flip(np.flip(array, 1).copy(), 1),
        }
        written = set()
        for name, version in arrays.items():
            write_image(tmp_path / f"{name}.nii.gz", Volume(version, grid))
            np.testing.assert_array_equal(read_volume(tmp_path / f"{name}.nii.gz").array, array)
            written.add((tmp_path / f"{name}.nii.gz").read_bytes())
        assert len(written) == 1

    def test_several_channels(self, tmp_path: Path) -> None:
        array = voxels("f4", (*SHAPE, 2))
        write_image(tmp_path / "a.nii.gz", Volume(array, Grid(SHAPE, np.eye(4))))
        np.testing.assert_array_equal(nibabel.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32), array)

    def test_a_sheared_grid_is_refused_and_leaves_nothing(self, tmp_path: Path) -> None:
        affine = np.eye(4)
        affine[1, 2] = 0.3
        with pytest.raises(GeometryError):
            write_image(tmp_path / "a.nii.gz", Volume(voxels("i2"), Grid(SHAPE, affine)))
        assert list(tmp_path.iterdir()) == []

    def test_the_rounding_of_scanners_is_not(self, tmp_path: Path) -> None:
        """The real head series leans by 0.07 degrees; over a small field that is below the tolerance."""
        affine = np.eye(4)
        affine[1, 2] = np.tan(np.radians(0.07))
        write_image(tmp_path / "a.nii.gz", Volume(voxels("i2"), Grid(SHAPE, affine)))
        np.testing.assert_allclose(
            read_header(tmp_path / "a.nii.gz").grid.direction.T @ read_header(tmp_path / "a.nii.gz").grid.direction,
            np.eye(3),
            atol=2e-6,
        )

    def test_voxels_have_to_fit_their_grid(self) -> None:
        with pytest.raises(GeometryError):
            Volume(voxels("i2"), Grid((5, 6, 8), np.eye(4)))
