"""Volumes and masks in memory, from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

import volseg
from volseg import GeometryError, Grid, InputError, Label, LabelTable, Mask, OutputExistsError, UsageError, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RealData, WriteSeries

OBLIQUE = np.array([[1.2, -0.5, 0.1, -30], [0.4, 1.4, -0.2, 12], [-0.2, 0.3, 2.5, 7], [0, 0, 0, 1]])


def make_volume(shape: tuple[int, ...] = (5, 6, 7), dtype: str = "int16") -> Volume:
    values = np.random.default_rng(3).integers(0, 100, shape).astype(dtype)
    return Volume(values, Grid(shape[:3], _orthogonal()))  # type: ignore[arg-type]


def _orthogonal() -> Any:
    left, _, right = np.linalg.svd(OBLIQUE[:3, :3])
    affine = OBLIQUE.copy()
    affine[:3, :3] = left @ right * (0.9, 1.3, 2.5)
    return affine


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    volume = make_volume()
    volseg.write(volume, str(tmp_path / "image.nii.gz"))
    again = volseg.read(str(tmp_path / "image.nii.gz"))
    assert np.array_equal(again.array, volume.array)
    assert again.grid.difference(volume.grid) is None
    with pytest.raises(OutputExistsError, match=r"image\.nii\.gz is there already"):
        volseg.write(volume, tmp_path / "image.nii.gz")
    volseg.write(make_volume(dtype="float16"), tmp_path / "image.nii.gz", overwrite=True)
    assert volseg.read(tmp_path / "image.nii.gz").array.dtype == np.float32


def test_a_mask_brings_its_names_and_the_header_of_its_image(tmp_path: Path) -> None:
    image = make_volume()
    volseg.write(image, tmp_path / "image.nii.gz")
    table = LabelTable((Label(1, "liver"), Label(2, "spleen")))
    mask = Mask(image.array % 3, image.grid, table)
    volseg.write(mask, tmp_path / "masks" / "a.nii.gz", image=tmp_path / "image.nii.gz")
    volseg.write(mask, tmp_path / "masks" / "b.nii.gz")  # the same labels.txt serves
    ours, theirs = (sitk.ReadImage(str(tmp_path / name)) for name in ("masks/a.nii.gz", "image.nii.gz"))
    assert (ours.GetOrigin(), ours.GetSpacing()) == (theirs.GetOrigin(), theirs.GetSpacing())
    assert LabelTable.from_itksnap((tmp_path / "masks" / "labels.txt").read_text()).names == ("liver", "spleen")
    moved = Mask(mask.array, Grid(mask.grid.shape, np.eye(4)), table)
    with pytest.raises(GeometryError, match="lies elsewhere than"):
        volseg.write(moved, tmp_path / "masks" / "d.nii.gz", image=tmp_path / "image.nii.gz")
    other = Mask(mask.array, mask.grid, LabelTable((Label(1, "kidney"),)))
    with pytest.raises(OutputExistsError, match=r"labels\.txt is there already"):
        volseg.write(other, tmp_path / "masks" / "c.nii.gz")
    assert not (tmp_path / "masks" / "c.nii.gz").exists()


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


def test_resampling_by_spacing_or_grid() -> None:
    volume = make_volume((10, 12, 8))
    finer = volseg.resample(volume, spacing_mm=[0.9, 0.65, 1.25])
    assert finer.array.shape == (10, 24, 16)
    assert volseg.resample(volume, spacing_mm=np.float32(2)).grid.spacing_mm == pytest.approx((2, 2, 2))
    onto = volseg.resample(finer, onto=volume)
    assert onto.grid is volume.grid
    mask = Mask(volume.array > 50, volume.grid, LabelTable((Label(1, "liver"),)))
    coarse = volseg.resample(mask, spacing_mm=3)
    assert isinstance(coarse, Mask)
    assert coarse.labels == mask.labels
    assert set(np.unique(coarse.array)) <= {0, 1}


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({}, "Give either spacing_mm or the grid"),
        ({"spacing_mm": "native"}, "spacing_mm can't be 'native': input should be a valid number"),
        ({"spacing_mm": [1, 2]}, "A spacing is one number for all axes or three"),
        ({"spacing_mm": -1}, "A spacing lies between"),
        ({"spacing_mm": 0}, "A spacing lies between"),
        ({"onto": np.eye(4)}, "onto takes a Grid or a Volume, not ndarray"),
        ({"spacing_mm": 1, "interpolation": "cubic"}, "interpolation is one of linear, bspline, nearest, not 'cubic'"),
    ],
)
def test_resampling_onto_nothing_is_refused(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        volseg.resample(make_volume(), **keywords)
    with pytest.raises(UsageError, match="volume takes a Volume or a Mask, not ndarray"):
        volseg.resample(np.zeros((2, 2, 2)), spacing_mm=1)  # type: ignore[type-var]


def test_a_slip_in_the_spacing_takes_no_memory() -> None:
    with pytest.raises(GeometryError) as caught:
        volseg.resample(make_volume((30, 30, 20)), spacing_mm=0.01)
    assert caught.value.code == "too-large"


def test_a_series_is_read_as_convert_writes_it(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    volume = volseg.read(str(tmp_path / "dicom"), progress=False)
    volseg.convert(tmp_path / "dicom", tmp_path / "out", spacing="native", progress=False)
    (image,) = (tmp_path / "out" / "imagesTs").glob("*.nii.gz")
    converted = volseg.read(image)
    assert np.array_equal(volume.array, converted.array)
    assert volume.grid.difference(converted.grid) is None


def test_one_of_several_series_is_named(real_data: RealData) -> None:
    folder = real_data("dicom/mr-localizer-three-orientations")
    with pytest.raises(UsageError, match=r"holds 3 series\. Name one by its number: 1 \(mr_01_orientation1\), 2"):
        volseg.read(folder, progress=False)
    with pytest.raises(UsageError, match="holds no series called 'x'"):
        volseg.read(folder, series="x", progress=False)
    by_number = volseg.read(folder, series=2, progress=False)
    by_name = volseg.read(folder, series="mr_01_orientation2", progress=False)
    assert np.array_equal(by_number.array, by_name.array)


def test_what_convert_refuses_is_not_read(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    files = sorted((tmp_path / "dicom").rglob("*.dcm")) or sorted(
        path for path in (tmp_path / "dicom").rglob("*") if path.is_file()
    )
    files[len(files) // 2].unlink()
    with pytest.raises(InputError) as caught:
        volseg.read(tmp_path / "dicom", progress=False)
    assert caught.value.code == "missing-slice"
    with pytest.raises(UsageError, match="nowhere does not exist"):
        volseg.read(tmp_path / "nowhere")
