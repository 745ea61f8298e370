"""Convert on oblique series that NIfTI can't hold in the scanner's voxel order: turned, told, and otherwise the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from tests.conversions import the_image
from tests.dicom_traps.stack import AXIAL, SLOPE_PER_MM, Stack, write_stack
from tests.drawn import Roi
from tests.label_study import NATIVE, STACK, Study, done, the_mask
from tests.obliques import SLANTED, apart_mm, by_itk, readings
from volseg.cli.main import main
from volseg.dataset.sidecar import read_sidecar
from volseg.verbs.convert import ConvertOptions, PreviewRow, convert, preview
from volseg.volume import Volume, read_volume

if TYPE_CHECKING:
    from conftest import RealData

    from volseg.outcomes import Outcome

TOLERANCE_MM = 1e-3
SERIES = Stack(orientation=SLANTED, size=(24, 20), gaps_mm=(2.0,) * 9)
TURNED = "turned from LPS to RAS, which is how NIfTI holds this oblique grid."


def as_dicom(folder: Path) -> Volume:
    """The series as ITK reads it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    array, affine = by_itk(reader.Execute())
    return Volume(array, _grid(array, affine))


def _grid(array: np.ndarray, affine: np.ndarray):
    from volseg.grid import Grid

    return Grid(array.shape, affine)


def is_as_told(row: PreviewRow, outcome: Outcome) -> bool:
    """Whether the preview, which has the scanner's grid in a column of its own, promised what was done."""
    said = outcome.message.lower().replace(f" from {row.grid}", "").replace(f"{row.grid}, ", "")
    return said == f"{row.action.lower()}."


def changes_of(out: Path, outcome: Outcome) -> tuple[str, ...]:
    return read_sidecar(the_image(out, outcome).with_name(f"{outcome.case}.json")).changes


def test_the_scanners_grid_is_turned_and_told(tmp_path: Path) -> None:
    write_stack(tmp_path / "dicom", SERIES)
    out = tmp_path / "out"
    (row,), _ = preview(tmp_path / "dicom", out, NATIVE)
    (outcome,) = convert(tmp_path / "dicom", out, NATIVE).outcomes
    assert is_as_told(row, outcome)
    assert outcome.message == f"24 x 20 x 10 at 0.8 x 0.6 x 2 mm, the scanner's grid, {TURNED}"
    assert not outcome.warnings
    image = the_image(out, outcome)
    truth = as_dicom(tmp_path / "dicom")
    for array, affine in readings(image).values():
        assert apart_mm(truth, array, affine) < TOLERANCE_MM
    np.testing.assert_array_equal(read_volume(image).array, truth.array[::-1, ::-1])
    sidecar = read_sidecar(image.with_name(f"{outcome.case}.json"))
    assert sidecar.changes == ("axes-turned",)
    assert not sidecar.resampled
    assert (sidecar.source_grid.orientation, sidecar.target_grid.orientation) == ("LPS", "RAS")
    assert sidecar.target_grid.difference(read_volume(image).grid, TOLERANCE_MM) is None
    (again,) = convert(tmp_path / "dicom", out, NATIVE).outcomes
    assert (again.code, again.message) == ("already-done", outcome.message)


def test_at_1_mm_the_values_are_those_of_the_scanners_order(tmp_path: Path) -> None:
    """A plane through the phantom is linear, so that a wrong place would show in each value."""
    write_stack(tmp_path / "dicom", SERIES)
    (row,), _ = preview(tmp_path / "dicom", tmp_path / "out", ConvertOptions())
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(jobs=1)).outcomes
    assert is_as_told(row, outcome)
    assert (
        outcome.message == f"Resampled from 24 x 20 x 10 at 0.8 x 0.6 x 2 mm to 19 x 12 x 20 at 1 x 1 x 1 mm, {TURNED}"
    )
    assert changes_of(tmp_path / "out", outcome) == ("axes-turned",)
    volume = read_volume(the_image(tmp_path / "out", outcome))
    inner = np.argwhere(np.ones(np.array(volume.grid.shape) - 4)) + 2
    truth = volume.grid.to_world(inner) * (-1, -1, 1) @ SLOPE_PER_MM + SERIES.offset
    np.testing.assert_allclose(volume.array[tuple(inner.T)], truth, atol=1)
    source = read_sidecar(the_image(tmp_path / "out", outcome).with_name(f"{outcome.case}.json")).source_grid
    # The outer box begins where the scanner's does, as without a turn.
    first = source.to_world((-0.5, -0.5, -0.5))
    assert volume.grid.to_voxel(first) == pytest.approx((18.5, 11.5, -0.5), abs=1e-3)


def test_an_orientation_that_can_be_held_is_made_and_one_that_can_not_is_told(tmp_path: Path) -> None:
    write_stack(tmp_path / "dicom", SERIES)
    asked = [replace(NATIVE, orientation=word) for word in ("RAS", "LAS", "LPS")]
    ras, las, lps = (convert(tmp_path / "dicom", tmp_path / one.orientation, one).outcomes[0] for one in asked)
    assert changes_of(tmp_path / "RAS", ras) == changes_of(tmp_path / "LAS", las) == ()
    assert changes_of(tmp_path / "LPS", lps) == ("axes-turned", "orientation-not-held")
    assert lps.warnings == (
        "NIfTI doesn't hold this oblique grid in the orientation that was asked for; it has another.",
    )
    assert read_volume(the_image(tmp_path / "LAS", las)).grid.orientation == "LAS"
    one, other = (read_volume(the_image(tmp_path / word, of)) for word, of in (("RAS", ras), ("LPS", lps)))
    np.testing.assert_array_equal(one.array, other.array)


@pytest.mark.parametrize("degrees", [45.0, -45.0])
def test_at_45_degrees_nothing_is_interpolated(degrees: float, tmp_path: Path) -> None:
    turn = Rotation.from_euler("xyz", (0.3, 0.3, 0)) * Rotation.from_euler("z", degrees, degrees=True)
    axes = turn.as_matrix()
    for number, word in enumerate(("", "RAS", "PIR")):
        stack = replace(SERIES, orientation=(*axes[:, 0], *axes[:, 1]))
        write_stack(tmp_path / f"dicom{number}", stack)
        (outcome,) = convert(
            tmp_path / f"dicom{number}", tmp_path / f"out{number}", replace(NATIVE, orientation=word)
        ).outcomes
        image = the_image(tmp_path / f"out{number}", outcome)
        assert not read_sidecar(image.with_name(f"{outcome.case}.json")).resampled
        assert "the scanner's grid" in outcome.message
        volume = read_volume(image)
        assert apart_mm(as_dicom(tmp_path / f"dicom{number}"), volume.array, volume.grid.affine) < TOLERANCE_MM


def test_a_straightened_tilt_is_turned_too(tmp_path: Path) -> None:
    write_stack(tmp_path / "dicom", replace(SERIES, drift=(0.0, 0.1)))
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert changes_of(tmp_path / "out", outcome) == ("tilt-straightened", "axes-turned")
    assert outcome.message.endswith(f"straightened by the positions of the slices, {TURNED}")
    volume = read_volume(the_image(tmp_path / "out", outcome))
    inner = np.argwhere(np.ones(np.array(volume.grid.shape) - 8)) + 4
    truth = volume.grid.to_world(inner) * (-1, -1, 1) @ SLOPE_PER_MM + SERIES.offset
    np.testing.assert_allclose(volume.array[tuple(inner.T)], truth, atol=1)


@pytest.mark.parametrize("spacing", ["native", 1.0])
@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_masks_lie_on_the_turned_image(kind: str, spacing: object, tmp_path: Path) -> None:
    study = Study(tmp_path / "dicom", replace(STACK, orientation=SLANTED))
    ball = study.centre()
    if kind == "SEG":
        study.segments(study.pixels(ball), "Ball")
    else:
        study.structures(Roi("Ball", study.contours(ball)))
    out = tmp_path / "out"
    ledger = convert(study.root, out, replace(NATIVE, spacing=(spacing,)))  # type: ignore[arg-type]
    case = done(ledger).case
    image, mask = (out / folder / f"{case}.nii.gz" for folder in ("imagesTr", "labelsTr"))
    assert changes_of(out, done(ledger)) == ("axes-turned",)
    for name in ("srow_x", "srow_y", "srow_z", "pixdim", "quatern_b", "quatern_c", "quatern_d"):
        np.testing.assert_array_equal(nibabel.load(image).header[name], nibabel.load(mask).header[name])
    drawn = the_mask(out, ledger)
    places = drawn.grid.to_world(np.argwhere(drawn.array >= 0)).reshape(*drawn.grid.shape, 3) * (-1, -1, 1)
    assert drawn.array[ball.holds(places, -2.0)].all()
    assert not drawn.array[~ball.holds(places, 2.0)].any()
    if (kind, spacing) == ("SEG", "native"):  # no voxel is lost or moved
        assert drawn.array.sum() == study.pixels(ball).sum()
        assert not json.loads((out / "labelsTr" / f"{case}.json").read_text())["changes"]
    before = {path: path.read_bytes() for path in (out / "labelsTr").iterdir()}
    assert done(convert(study.root, out, replace(NATIVE, spacing=(spacing,)))).code == "already-done"  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in (out / "labelsTr").iterdir()} == before


def test_channels_lie_on_the_turned_grid_of_the_first(tmp_path: Path) -> None:
    for number, name in enumerate(("T1", "T2"), start=1):

        def tamper(data: pydicom.Dataset, _: int, name: str = name) -> None:
            data.SeriesDescription = name

        stack = replace(SERIES, modality="MR", series=number, tamper=tamper, offset=100.0 * number)
        write_stack(tmp_path / "dicom" / name, stack if number == 1 else replace(stack, orientation=AXIAL))
    options = replace(NATIVE, channels="one=T1; two=T2")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", options)
    assert ledger.exit_code == 0
    first, second = (read_volume(the_image(tmp_path / "out", outcome)) for outcome in ledger.outcomes)
    np.testing.assert_array_equal(first.grid.affine, second.grid.affine)
    assert first.grid.orientation == "RAS"
    middle = np.argwhere(np.ones(np.array(first.grid.shape) - 6)) + 3
    truth = first.grid.to_world(middle) * (-1, -1, 1) @ SLOPE_PER_MM
    np.testing.assert_allclose(first.array[tuple(middle.T)], truth + 100, atol=1)
    np.testing.assert_allclose(second.array[tuple(middle.T)], truth + 200, atol=1.5)
    assert {outcome.code for outcome in convert(tmp_path / "dicom", tmp_path / "out", options).outcomes} == {
        "already-done"
    }


def test_the_command_line_tells_it_before_it_does_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stack(tmp_path / "dicom", SERIES)
    assert main(["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "axes" not in shown
    assert "LPS to RAS" in " ".join(shown.split())
    assert main(["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native"]) == 0
    ledger = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert TURNED in ledger["outcomes"][0]["message"]


@pytest.mark.parametrize("tilt", [(10, -7, 0.2), (2, 2, 0), (0.2, 0.2, 0.2), (25, 0, 0), (5, 40, -12)])
@pytest.mark.parametrize("name", ["mr-t1-head/13-hippocampus-crop", "cbct-with-rtstruct"])
def test_real_series_turned_as_a_whole(
    name: str, tilt: tuple[float, float, float], real_data: RealData, tmp_path: Path
) -> None:
    source, turn = real_data("dicom") / name, Rotation.from_euler("xyz", tilt, degrees=True).as_matrix()
    (tmp_path / "dicom").mkdir()
    for path in source.rglob("*"):
        if path.is_file():
            data = pydicom.dcmread(path)
            if "ImagePositionPatient" in data:
                rows = np.array(data.ImageOrientationPatient, float).reshape(2, 3) @ turn.T
                place = np.array(data.ImagePositionPatient, float) @ turn.T
                data.ImageOrientationPatient = [f"{number:.11f}" for number in rows.ravel()]
                data.ImagePositionPatient = [f"{number:.8f}" for number in place]
                data.save_as(tmp_path / "dicom" / path.name)
    truth = as_dicom(tmp_path / "dicom")
    for options in (NATIVE, replace(NATIVE, spacing=(1.0,))):
        out = tmp_path / str(options.spacing[0])
        (row,), _ = preview(tmp_path / "dicom", out, options)
        (outcome,) = convert(tmp_path / "dicom", out, options).outcomes
        assert is_as_told(row, outcome)
        image = the_image(out, outcome)
        sidecar = read_sidecar(image.with_name(f"{outcome.case}.json"))
        assert ("axes-turned" in sidecar.changes) == (sidecar.target_grid.orientation != truth.grid.orientation)
        for array, affine in readings(image).values():
            if options == NATIVE:
                assert apart_mm(truth, array, affine) < 0.005  # ITK takes the spacing from two slices alone
            assert np.abs(sidecar.target_grid.affine - affine).max() < 1e-4
