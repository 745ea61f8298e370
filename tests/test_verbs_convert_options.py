"""The options of convert: what makes no sense, spacing and orientation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

import volseg
from tests.conversions import codes, only_image, the_image
from volseg.dataset.sidecar import read_sidecar
from volseg.errors import UsageError
from volseg.outcomes import Status
from volseg.verbs.convert import ConvertOptions, convert
from volseg.volume import read_volume

if TYPE_CHECKING:
    from conftest import WriteSeries

NATIVE = ConvertOptions(spacing=("native",), jobs=1)


def test_other_options_are_refused_until_overwrite(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    before = only_image(tmp_path / "out").read_bytes()
    ledger = convert(tmp_path / "dicom", tmp_path / "out")
    assert [(outcome.status, outcome.code) for outcome in ledger.outcomes] == [(Status.REFUSED, "exists")]
    assert only_image(tmp_path / "out").read_bytes() == before
    ledger = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(overwrite=True))
    assert codes(ledger.outcomes) == {"done": 1}
    assert read_volume(only_image(tmp_path / "out")).grid.spacing_mm == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("spacing", [(0.0,), (1.0, 2.0), ("native", 1.0), (-1.0,), (float("nan"),), ()])
def test_senseless_spacings_are_refused(spacing: tuple[float, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        convert(tmp_path, tmp_path / "out", ConvertOptions(spacing=spacing))


def test_a_spacing_in_one_word_is_the_same_in_python(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    words: Any = {"spacing": "2x1.5x3", "modality": "CT,CT"}
    made = volseg.convert(tmp_path / "dicom", tmp_path / "out", **words, progress=False)
    assert codes(made.outcomes) == {"done": 1}
    assert read_volume(only_image(tmp_path / "out")).grid.spacing_mm == pytest.approx((2, 1.5, 3))
    words = {"options": ConvertOptions(**words), "overwrite": False}
    again = volseg.convert(tmp_path / "dicom", tmp_path / "out", **words, progress=False)
    assert [outcome.code for outcome in again.outcomes] == ["already-done"]
    with pytest.raises(UsageError, match="spacing can't be 'nativ'"):
        volseg.convert(tmp_path / "dicom", tmp_path / "out", **{**words, "spacing": "nativ"})


def test_orientation_turns_without_interpolation(write_series: WriteSeries, tmp_path: Path) -> None:
    oblique = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    positions = [(3.0 * number, -20.0, 30.0) for number in range(5)]
    write_series(tmp_path / "dicom", positions=positions, orientation=oblique)
    (plain,) = convert(tmp_path / "dicom", tmp_path / "a", NATIVE).outcomes
    (turned,) = convert(
        tmp_path / "dicom", tmp_path / "b", ConvertOptions(spacing=("native",), orientation="ras")
    ).outcomes
    ours, peer = the_image(tmp_path / "b", turned), nibabel.load(the_image(tmp_path / "a", plain))
    expected = nibabel.as_closest_canonical(peer)
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(ours).dataobj), np.asanyarray(expected.dataobj))
    np.testing.assert_allclose(nibabel.load(ours).affine, expected.affine, atol=1e-5)
    assert "turned from" in turned.message
    assert "to RAS" in turned.message
    sidecar = read_sidecar(ours.with_name(f"{turned.case}.json"))
    assert not sidecar.resampled
    assert (
        sidecar.target_grid.orientation,
        sidecar.source_grid.difference(read_volume(the_image(tmp_path / "a", plain)).grid),
    ) == ("RAS", None)


def test_spacings_are_those_of_the_turned_axes(write_series: WriteSeries, tmp_path: Path) -> None:
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    write_series(tmp_path / "dicom", positions=[(3.0 * number, 0.0, 0.0) for number in range(5)], orientation=sagittal)
    options = ConvertOptions(spacing=(1.0, 2.0, 1.5), orientation="LAS", interpolation="nearest")
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", options).outcomes
    volume = read_volume(the_image(tmp_path / "out", outcome))
    assert volume.grid.orientation == "LAS"
    assert volume.grid.spacing_mm == pytest.approx((1.0, 2.0, 1.5))
    sidecar = read_sidecar(the_image(tmp_path / "out", outcome).with_name(f"{outcome.case}.json"))
    assert sidecar.resampled
    assert "3 mm to" not in outcome.message  # both grids are told in the turned order


@pytest.mark.parametrize("word", ["RAX", "RASL", "RRS", "1"])
def test_an_orientation_that_is_none_is_refused(word: str, write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    with pytest.raises(UsageError):
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(orientation=word))
    assert not (tmp_path / "out").exists()
