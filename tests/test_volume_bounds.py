"""Images that are refused: absent, damaged, cut off, or declaring what they can't hold."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from tests.voxel_files import rotated, voxels
from volseg.errors import FileError, GeometryError, InputError
from volseg.volume import (
    read_header,
    read_volume,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage


def geometry(image: Any) -> tuple[tuple[float, ...], ...]:
    """What ITK makes of a file, to the last bit."""
    return tuple(
        tuple(value.hex() for value in values)
        for values in (image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    )


def patched(path: Path, place: int, form: str, *values: object) -> None:
    """Overwrite bytes of a stored header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, raw, place, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


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
        self.check(tmp_path / "a.nii.gz", "no-plain-file", FileError)

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
