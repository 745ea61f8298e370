"""Voxels of made series against the formula."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from volseg.dicom import SliceFault, load_values, scan

if TYPE_CHECKING:
    from conftest import WriteSeries
    from pydicom.dataset import Dataset

MR = "1.2.840.10008.5.1.4.1.1.4"


def loaded(folder: Path) -> np.ndarray:
    (series,) = scan(folder).series
    volume = load_values(series).volume
    assert volume.array.T.flags.c_contiguous, "writing would copy"
    assert volume.grid is series.grid
    return volume.array


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_ct_is_int16_hounsfield(dtype: type, syntax: str, write_series: WriteSeries, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    low, high = max(np.iinfo(dtype).min, -2000), min(np.iinfo(dtype).max, 4000)
    array = random.integers(low, high, (5, 12, 10)).astype(dtype)
    write_series(tmp_path, array=array, syntax=syntax)
    values = loaded(tmp_path)
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, array.T.astype(int) - 1024)


def test_values_beyond_int16_stay_exact(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, _: int) -> None:
        ds.BitsStored, ds.HighBit = 16, 15

    array = np.random.default_rng(0).integers(0, 65536, (5, 12, 10)).astype(np.uint16)
    write_series(tmp_path, array=array, edit=edit)
    values = loaded(tmp_path)
    assert values.dtype.kind == "i"
    np.testing.assert_array_equal(values, array.T.astype(int) - 1024)


def test_mr_without_rescale_keeps_its_stored_type(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, _: int) -> None:
        ds.SOPClassUID = MR
        del ds.RescaleSlope, ds.RescaleIntercept

    stored = write_series(tmp_path, edit=edit)
    values = loaded(tmp_path)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, stored.T)


def test_a_slope_for_each_slice_gives_float32(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 0.25 + number, -3.5 * number

    stored = write_series(tmp_path, edit=edit)
    values = loaded(tmp_path)
    assert values.dtype == np.float32
    numbers = np.arange(5.0)[:, None, None]
    expected = (stored * (0.25 + numbers) - 3.5 * numbers).astype(np.float32)
    np.testing.assert_array_equal(values, expected.T)


def test_overlay_bits_are_no_part_of_the_value(write_series: WriteSeries, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 65536, (5, 12, 10)).astype(np.uint16)
    write_series(tmp_path, array=array)  # 12 bits stored, the 4 above hold anything
    np.testing.assert_array_equal(loaded(tmp_path), (array & 0xFFF).T.astype(int) - 1024)


def test_a_file_cut_off_after_the_scan_is_named(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path)
    (series,) = scan(tmp_path).series
    path = tmp_path / "003.dcm"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(SliceFault) as caught:
        load_values(series)
    assert caught.value.code == "truncated-pixels"
    assert caught.value.private == "003.dcm"
