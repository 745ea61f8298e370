"""Reading and writing volumes, against nibabel, SimpleITK and Convert3D."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from volseg.errors import FileError, GeometryError, InputError
from volseg.grid import Grid
from volseg.volume import (
    Volume,
    is_image,
    list_images,
    read_header,
    read_mask,
    read_volume,
    stem_of,
    write_image,
    write_mask,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RealData, WriteImage

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
SHAPE = (5, 6, 7)


def rotated(seed: int, spacing_mm: tuple[float, float, float] = (0.7123456789, 0.8, 2.5000001)) -> np.ndarray:
    """A rotated affine whose numbers float32 can't hold exactly, so that bits can differ."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = (q * np.sign(np.diag(r))) * spacing_mm
    affine[:3, 3] = np.random.default_rng(seed + 1).uniform(-300, 300, 3)
    return affine


def voxels(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    kind = np.dtype(dtype)
    random = np.random.default_rng(9)
    if kind.kind == "f":
        return random.normal(0, 1000, shape).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    array = random.integers(low, high, shape, dtype=kind, endpoint=True)
    array.flat[0], array.flat[1] = low, high
    return array


def geometry(image: Any) -> tuple[tuple[float, ...], ...]:
    """What ITK makes of a file, to the last bit."""
    return tuple(
        tuple(value.hex() for value in values)
        for values in (image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    )


def by_simpleitk(path: Path) -> Any:
    import SimpleITK as sitk

    return sitk.ReadImage(str(path))


def by_convert3d(path: Path) -> Any:
    c3d = pytest.importorskip("picsl_c3d", reason="Convert3D is not installed").Convert3D()
    c3d.execute(f'"{path}" -as X')
    return c3d.peek(-1)


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


class TestRefusals:
    def check(self, path: Path, code: str, kind: type[Exception] = InputError) -> None:
        for read in (read_header, read_volume):
            with pytest.raises(kind) as caught:
                read(path)
            assert getattr(caught.value, "code", None) == code
            assert path.name in str(caught.value)

    @pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
    def test_an_absent_file(self, suffix: str, tmp_path: Path) -> None:
        self.check(tmp_path / f"none{suffix}", "missing-file", FileError)

    def test_a_folder_of_that_name(self, tmp_path: Path) -> None:
        (tmp_path / "a.nii.gz").mkdir()
        self.check(tmp_path / "a.nii.gz", "cannot-read", FileError)

    @pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
    @pytest.mark.parametrize("content", [b"", b"x", b"\0" * 1000, b"\x1f\x8b" + b"\0" * 500, b"NRRD0004\n" * 50])
    def test_what_is_no_image(self, suffix: str, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        self.check(path, "damaged-file")

    @pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
    def test_a_file_that_is_cut_anywhere(self, suffix: str, tmp_path: Path, write_image: WriteImage) -> None:
        path = write_image(tmp_path / f"a{suffix}", voxels("i2"))
        whole = path.read_bytes()
        for keep in range(0, len(whole), 17):
            path.write_bytes(whole[:keep])
            with pytest.raises(InputError):
                read_volume(path)

    def test_damaged_compression_never_gives_other_voxels(self, tmp_path: Path, write_image: WriteImage) -> None:
        array = np.random.default_rng(4).integers(0, 9, (32, 32, 32)).astype(np.int16)
        path = write_image(tmp_path / "a.nii.gz", array, rotated(5))
        whole = path.read_bytes()
        random = np.random.default_rng(8)
        refused = 0
        for place in [*random.integers(10, len(whole), 150), len(whole) - 1, len(whole) - 8]:
            raw = bytearray(whole)
            raw[place] ^= 1 << int(random.integers(8))
            path.write_bytes(bytes(raw))
            try:
                found = read_volume(path)
            except InputError:
                refused += 1
            else:
                np.testing.assert_array_equal(found.array, array)
        assert refused > 100

    @pytest.mark.parametrize("dim", [(3, 30000, 30000, 30000), (4, 2000, 2000, 2000, 100), (3, 32767, 32767, 1)])
    def test_a_header_that_declares_more_than_the_file_can_hold(
        self, dim: tuple[int, ...], tmp_path: Path, write_image: WriteImage
    ) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, 40, f"<{len(dim)}h", *dim)
        self.check(path, "damaged-file")

    @pytest.mark.parametrize(
        ("place", "form", "values"),
        [
            (40, "<h", (9,)),
            (40, "<h", (-1,)),
            (42, "<h", (0,)),
            (42, "<h", (-5,)),
            (70, "<h", (999,)),
            (344, "4s", (b"nope",)),
            (0, "<i", (7,)),
        ],
        ids=["nine axes", "negative axes", "no voxels", "negative voxels", "unknown type", "magic", "size"],
    )
    def test_a_header_that_makes_no_sense(
        self, place: int, form: str, values: tuple[object, ...], tmp_path: Path, write_image: WriteImage
    ) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, place, form, *values)
        self.check(path, "damaged-file")

    @pytest.mark.parametrize("offset", [0, -1, 1e9, 1e30, float("nan"), float("inf")])
    def test_an_offset_that_makes_no_sense(self, offset: float, tmp_path: Path, write_image: WriteImage) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, 108, "<f", offset)
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert caught.value.code == "damaged-file"

    @pytest.mark.parametrize("scale", [(2.0, float("nan")), (2.0, float("inf"))])
    def test_a_scale_factor_that_makes_no_sense(
        self, scale: tuple[float, float], tmp_path: Path, write_image: WriteImage
    ) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, 112, "<2f", *scale)
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert caught.value.code == "damaged-file"

    def test_a_scale_factor_beyond_float32_gives_infinity(self, tmp_path: Path, write_image: WriteImage) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, 112, "<2f", 3e38, 0.0)
        assert np.isinf(read_volume(path).array).any()

    def test_other_formats_that_hold_no_volume(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import SimpleITK as sitk

        sitk.WriteImage(sitk.Image(4, 5, sitk.sitkUInt8), str(tmp_path / "flat.mha"))
        self.check(tmp_path / "flat.mha", "not-a-volume")
        sitk.WriteImage(sitk.Image(5, 6, 7, sitk.sitkUInt8), str(tmp_path / "large.nrrd"))
        monkeypatch.setattr("volseg.volume.bounds.MAX_VOXELS", 200)
        self.check(tmp_path / "large.nrrd", "damaged-file")

    NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 7\nencoding: raw\nendian: little\n"
    DIRECTIONS = "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\n"

    @pytest.mark.parametrize("space", ["", "space: scanner-xyz\n", "space dimension: 3\n"])
    def test_an_nrrd_without_an_anatomical_space(self, space: str, tmp_path: Path) -> None:
        path = tmp_path / "a.nrrd"
        path.write_bytes(f"{self.NRRD}{space}{self.DIRECTIONS if space else ''}\n".encode() + bytes(5 * 6 * 7 * 2))
        self.check(path, "no-orientation", GeometryError)

    @pytest.mark.parametrize(
        ("space", "signs"),
        [("right-anterior-superior", (1, 1, 1)), ("left-posterior-superior", (-1, -1, 1)), ("LAS", (-1, 1, 1))],
    )
    def test_an_nrrd_in_any_anatomical_space(self, space: str, signs: tuple[int, ...], tmp_path: Path) -> None:
        path = tmp_path / "a.nrrd"
        path.write_bytes(f"{self.NRRD}space: {space}\n{self.DIRECTIONS}\n".encode() + bytes(5 * 6 * 7 * 2))
        affine = np.diag([2.0, 3.0, 4.0, 1.0])
        affine[:3, 3] = 10, 20, 30
        np.testing.assert_allclose(read_header(path).grid.affine, np.diag([*signs, 1]) @ affine)

    def test_an_nrrd_whose_voxels_lie_elsewhere(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(bytes(10**6))
        path = tmp_path / "a.nrrd"
        header = self.NRRD.replace("5 6 7", "100 100 50") + f"space: LPS\n{self.DIRECTIONS}data file: ../secret\n\n"
        path.write_text(header)
        self.check(path, "detached-data")

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("a.nrrd", "data file: /etc/hostname"),
            ("a.nrrd", "datafile: ../secret.raw"),
            ("a.nrrd", "data file: LIST"),
            ("a.mhd", "ElementDataFile = /etc/hostname"),
            ("a.mhd", "ElementDataFile = %03d.raw 1 3 1"),
        ],
    )
    def test_voxels_in_a_place_of_the_header_s_choice(self, name: str, line: str, tmp_path: Path) -> None:
        nrrd = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nspace: left-posterior-superior\nencoding: raw\n"
        meta = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
        (tmp_path / name).write_text((nrrd if name == "a.nrrd" else meta) + line + "\n\n")
        self.check(tmp_path / name, "detached-data")

    @pytest.mark.parametrize("size", ["100000 100000 100000", "4294967296 4294967296 4294967296"])
    @pytest.mark.parametrize("suffix", ["nrrd", "mha", "mhd"])
    def test_other_formats_that_declare_more_than_they_can_hold(self, suffix: str, size: str, tmp_path: Path) -> None:
        path = tmp_path / f"a.{suffix}"
        if suffix == "nrrd":
            path.write_text(self.NRRD.replace("5 6 7", size) + f"space: LPS\n{self.DIRECTIONS}\n")
        else:
            path.write_text(
                f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_SHORT\nElementDataFile = "
                + ("LOCAL\n" if suffix == "mha" else "a.raw\n")
            )
            (tmp_path / "a.raw").write_bytes(b"voxels")
        self.check(path, "damaged-file")

    def test_a_second_version_whose_size_overflows(self, tmp_path: Path) -> None:
        nibabel.save(nibabel.Nifti2Image(voxels("i2"), np.eye(4)), tmp_path / "a.nii.gz")
        patched(tmp_path / "a.nii.gz", 24, "<3q", 2**31, 2**31, 4)
        self.check(tmp_path / "a.nii.gz", "damaged-file")

    def test_an_mhd_with_its_voxels_beside_it(self, tmp_path: Path) -> None:
        import SimpleITK as sitk

        array = voxels("i2")
        sitk.WriteImage(sitk.GetImageFromArray(array.T), str(tmp_path / "a.mhd"))
        np.testing.assert_array_equal(read_volume(tmp_path / "a.mhd").array, array)

    def test_an_mha_that_is_cut(self, tmp_path: Path) -> None:
        import SimpleITK as sitk

        path = tmp_path / "a.mha"
        sitk.WriteImage(sitk.Image(50, 60, 70, sitk.sitkUInt8), str(path))
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert caught.value.code == "damaged-file"

    def test_no_orientation(self, tmp_path: Path, write_image: WriteImage) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, 252, "<2h", 0, 0)
        self.check(path, "no-orientation", GeometryError)

    def test_an_affine_that_places_nothing(self, tmp_path: Path, write_image: WriteImage) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, 280, "<4f", *[float("nan")] * 4)
        self.check(path, "geometry", GeometryError)

    def test_a_qform_that_makes_no_sense(self, tmp_path: Path, write_image: WriteImage) -> None:
        path = write_image(tmp_path / "a.nii.gz", voxels("i2"))
        patched(path, 252, "<2h", 1, 0)
        patched(path, 256, "<3f", 2.0, 2.0, 2.0)
        self.check(path, "damaged-file")

    def test_random_headers_never_raise_anything_else(self, tmp_path: Path, write_image: WriteImage) -> None:
        whole = gzip.decompress(write_image(tmp_path / "a.nii.gz", voxels("i2")).read_bytes())
        random = np.random.default_rng(12)
        path = tmp_path / "b.nii"
        for _ in range(300):
            raw = bytearray(whole)
            for place in random.integers(0, 352, random.integers(1, 5)):
                raw[place] = random.integers(256)
            path.write_bytes(bytes(raw))
            try:
                found = read_volume(path)
            except (InputError, FileError):
                continue
            assert found.array.shape[:3] == found.grid.shape


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
