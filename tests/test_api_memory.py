"""Volumes and masks in memory, from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

import volseg
from tests.obliques import apart_mm, cornered, readings, slanted
from tests.volumes import make_volume
from volseg import GeometryError, Grid, Label, LabelTable, Mask, OutputExistsError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


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


def test_an_oblique_volume_and_its_mask_are_written_as_nifti_holds_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume = cornered(slanted((6, 5, 4)))
    mask = Mask(volume.array % 3, volume.grid)
    volseg.write(volume, tmp_path / "image.nii.gz")
    volseg.write(mask, tmp_path / "mask.nii.gz", image=tmp_path / "image.nii.gz")
    again, drawn = volseg.read(tmp_path / "image.nii.gz"), volseg.read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(again.array, volume.array[::-1, ::-1])
    np.testing.assert_array_equal(drawn.array, mask.array[::-1, ::-1])
    for array, affine in readings(tmp_path / "image.nii.gz").values():
        assert apart_mm(volume, array, affine) < 1e-3
    volseg.write(drawn, tmp_path / "again.nii.gz", image=tmp_path / "image.nii.gz")
    assert volseg.read(tmp_path / "again.nii.gz").grid.difference(again.grid, 0) is None
    assert not caplog.records
    sitk.WriteImage(volume.to_sitk(), str(tmp_path / "image.nrrd"))
    volseg.write(mask, tmp_path / "other.nii.gz", image=tmp_path / "image.nrrd")
    assert "turned against its image" in caplog.text


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
