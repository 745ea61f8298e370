"""One series of DICOM read straight into memory, by ``volseg.read``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import volseg
from tests.dicom_traps.stack import Stack, write_slices
from tests.heard import Heard
from volseg import InputError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RealData, WriteSeries

OBLIQUE = np.array([[1.2, -0.5, 0.1, -30], [0.4, 1.4, -0.2, 12], [-0.2, 0.3, 2.5, 7], [0, 0, 0, 1]])


def test_a_series_is_read_as_convert_writes_it(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    volume = volseg.read(str(tmp_path / "dicom"), progress=False)
    volseg.convert(tmp_path / "dicom", tmp_path / "out", spacing="native", progress=False)
    (image,) = (tmp_path / "out" / "imagesTs").glob("*.nii.gz")
    converted = volseg.read(image)
    assert np.array_equal(volume.array, converted.array)
    assert volume.grid.difference(converted.grid) is None


def test_what_convert_warns_of_is_told(tmp_path: Path) -> None:
    slices = Stack(modality="MR").slices()
    write_slices(tmp_path, [image.changed(instance=3 * image.number + 1) for image in slices])
    heard = Heard()
    volseg.read(tmp_path, progress=heard)
    (line,) = heard.lines
    assert line.startswith("warning: Its images are numbered in steps of 3")


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
