"""Several series as the channels of one case: on one grid, at their true places, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import Dataset

import volseg.dicom
from tests.dicom_traps.stack import SLOPE_PER_MM, Stack, write_slices
from volseg.dataset.dataset import read_dataset
from volseg.dataset.sidecar import read_sidecar
from volseg.dicom import Loaded, Series
from volseg.errors import DataSetError, InputError, UsageError
from volseg.outcomes import Ledger, Status
from volseg.verbs.check import check
from volseg.verbs.convert import ConvertOptions, convert, preview

CHANNELS = "T1=*t1*; FLAIR=*flair*"
NATIVE = ConvertOptions(spacing=("native",), channels=CHANNELS)


def write(folder: Path, description: str, study: int = 1, series: int = 1, **more: object) -> None:
    def tamper(data: Dataset, _: int, patient: int) -> None:
        data.SeriesDescription, data.PatientID = description, f"patient {patient}"

    stack = Stack(modality="MR", study=study, series=series, tamper=partial(tamper, patient=study), **more)  # type: ignore[arg-type]
    write_slices(folder / f"{study}-{series}-{description.replace('/', '-')}", stack.slices())


def study(folder: Path, number: int = 1, **flair: object) -> None:
    finer = {"gaps_mm": (2.5,) * 12, "size": (20, 16), "pixel_mm": (0.4, 0.5), "offset": 500.0}
    write(folder, "Ax T1 post", number, 1)
    write(folder, "Ax FLAIR", number, 2, **{**finer, **flair})
    write(folder, "DWI", number, 3)


def codes(ledger: Ledger) -> list[str]:
    return sorted(outcome.code for outcome in ledger.outcomes)


def test_channels_lie_on_one_grid_at_their_places(tmp_path: Path) -> None:
    study(tmp_path / "dicom", 1)
    study(tmp_path / "dicom", 2)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger) == ["done"] * 4
    assert ledger.skipped_kinds == {"image of a series that was not chosen": 14}
    data = read_dataset(tmp_path / "out")
    assert not [fault for fault in data.faults if fault.is_error], data.faults
    assert [len(case.images) for case in data.cases] == [2, 2]
    assert len({case.patient for case in data.cases}) == 2
    assert json.loads((tmp_path / "out/dataset.json").read_text())["channel_names"] == {"0": "T1", "1": "FLAIR"}
    for case in data.cases:
        first, second = (nibabel.load(path) for path in case.images)
        np.testing.assert_array_equal(first.affine, second.affine)
        to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ first.affine
        inner = np.argwhere(np.ones(np.array(first.shape) - 4)) + 2
        truth = nibabel.affines.apply_affine(to_lps, inner) @ SLOPE_PER_MM
        for image, offset, tolerance in ((first, 40, 0.5), (second, 500, 1.0)):
            found = np.asanyarray(image.dataobj)[tuple(inner.T)]
            np.testing.assert_allclose(found, truth + offset, atol=tolerance)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert codes(convert(tmp_path / "dicom", tmp_path / "out", NATIVE)) == ["already-done"] * 4
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert "T1 post" not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))


def test_channels_that_are_refused_with_other_options_stay_recorded(tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    refused = convert(tmp_path / "dicom", tmp_path / "out", replace(NATIVE, spacing=(3.0,)))
    assert (set(codes(refused)), refused.exit_code) == ({"exists"}, 1)
    ledger = Ledger.read(tmp_path / "out" / "conversion.json")
    assert ledger is not None
    assert {(one.code, one.since[:16]) for one in ledger.outcomes} == {("done", "refused [exists]")}
    assert [ledger.provenance_of(one).options["spacing"] for one in ledger.outcomes] == [["native"]] * 2
    assert convert(tmp_path / "dicom", tmp_path / "out", NATIVE).exit_code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_preview_tells_the_channels(tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out", NATIVE)
    actions = sorted(row.action for row in rows)
    assert sum("channel" in action for action in actions) == 2
    assert sum("not-chosen" in action for action in actions) == 1


@pytest.mark.parametrize(
    ("channels", "code"),
    [
        ("T1=*t1*; T2=*t2*", "channel-missing"),
        ("T1=*t1*; any=*", "channel-ambiguous"),
        ("T1=*t1*; again=ax t1 post", "channel-ambiguous"),
    ],
)
def test_a_study_without_its_channels_is_refused(channels: str, code: str, tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(spacing=("native",), channels=channels))
    assert codes(ledger) == [code]
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


@pytest.mark.parametrize(
    ("changes", "code"), [({"frame": 2}, "channels-not-aligned"), ({"origin_mm": (900.0, 0.0, 0.0)}, "channels-apart")]
)
def test_channels_of_no_common_place_are_refused(changes: dict[str, object], code: str, tmp_path: Path) -> None:
    study(tmp_path / "dicom", **changes)
    assert codes(convert(tmp_path / "dicom", tmp_path / "out", NATIVE)) == [code]


def test_a_channel_that_covers_a_part_is_told(tmp_path: Path) -> None:
    study(tmp_path / "dicom", gaps_mm=(2.5,) * 4)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger) == ["done", "done"]
    assert [len(outcome.warnings) for outcome in ledger.outcomes] == [0, 1]
    (sidecar,) = (tmp_path / "out/imagesTs").glob("*_0001.json")
    assert read_sidecar(sidecar).changes == ("channel-partly-covered",)


def test_a_study_whose_channel_was_refused_says_so(tmp_path: Path) -> None:
    study(tmp_path / "dicom", 1)
    study(tmp_path / "dicom", 2)
    (folder,) = (tmp_path / "dicom").glob("1-2-*")
    cut = sorted(folder.iterdir())[3]
    cut.write_bytes(cut.read_bytes()[:-40])
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert ledger.count(Status.DONE) == 2
    assert set(codes(ledger)) == {"done", "channel-missing", "truncated-pixels"}
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 2


def test_a_case_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_values(series: Series, **more: object) -> Loaded:
        if series.order == 2:
            raise InputError("Damaged.", code="undecodable")
        return volseg.dicom.load_values(series, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("volseg.verbs.convert.conversion.load_values", load_values)
    study(tmp_path / "dicom")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger) == ["channel-incomplete", "undecodable"]
    assert ledger.exit_code == 2
    assert not list((tmp_path / "out/imagesTs").iterdir())


@pytest.mark.parametrize("channels", ["T1=*t1*", "T1", "T1=;T2=x", "A=x;A=y", "=x;B=y"])
def test_channels_that_make_no_sense_are_bad_usage(channels: str, tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    with pytest.raises(UsageError):
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(channels=channels))
    assert not (tmp_path / "out").exists()


def test_images_of_one_channel_go_into_no_folder_of_several(tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    channels = ConvertOptions(spacing=("native",), channels="A=*t1*;B=*flair*")
    convert(tmp_path / "dicom", tmp_path / "out", channels)
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(DataSetError, match="has 2 channels") as caught:
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(spacing=("native",)))
    assert caught.value.code == "other-channels"
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_mistyped_channels_that_made_nothing_are_soon_put_right(tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    mistyped = ConvertOptions(spacing=("native",), channels="A=*t1*;B=*fliar*")
    assert "done" not in {outcome.code for outcome in convert(tmp_path / "dicom", tmp_path / "out", mistyped).outcomes}
    right = ConvertOptions(spacing=("native",), channels="A=*t1*;FLAIR=*flair*")
    assert "done" in {outcome.code for outcome in convert(tmp_path / "dicom", tmp_path / "out", right).outcomes}
    assert json.loads((tmp_path / "out/dataset.json").read_text())["channel_names"] == {"0": "A", "1": "FLAIR"}


def test_a_folder_of_other_channels_is_left(tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    with pytest.raises(DataSetError) as caught:
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(spacing=("native",), channels="A=*t1*;B=*flair*"))
    assert caught.value.code == "other-channels"


def test_images_of_a_case_that_is_refused_now_are_told(tmp_path: Path) -> None:
    study(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    lost = sorted((tmp_path / "dicom" / "1-2-Ax FLAIR").iterdir())[5]
    kept = lost.rename(tmp_path / "kept")
    for code in ("refused [channel-missing]", ""):
        convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
        ledger = Ledger.read(tmp_path / "out" / "conversion.json")
        assert ledger is not None
        images = [one for one in ledger.outcomes if one.status is Status.DONE]
        assert [one.since[: len(code)] for one in images] == [code] * 2
        assert bool(images[0].since) == bool(code)
        assert len(check(tmp_path / "out").warnings) == (2 if code else 0)
        if code:
            kept.rename(lost)
