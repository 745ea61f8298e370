"""Which series predict takes, what it calls them, and what it would do."""

from __future__ import annotations

import csv
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dicom_traps.stack import Stack, write_slices
from volseg.atomic import TEMPORARY_MARK
from volseg.cli.main import main
from volseg.errors import UsageError
from volseg.kept import file_digest
from volseg.outcomes import Ledger, Status
from volseg.verbs.predict import PredictOptions, predict, preview
from volseg.verbs.predict.segmenting import Segmented
from volseg.volume import read_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

    from volseg.verbs.predict.segmenting import Ready

BUNDLE = Path("hippocampus_mr")


def write(folder: Path, modality: str, study: int = 1, series: int = 1, description: str = "") -> None:
    def tamper(data: Dataset, _: int) -> None:
        data.SeriesDescription, data.PatientID = description or f"{modality} {series}", f"patient{study}"

    write_slices(
        folder / f"{study}-{series}",
        Stack(modality=modality, study=study, series=series, gaps_mm=(2.5,) * 11, size=(24, 20), tamper=partial(tamper)).slices(),
    )  # fmt: skip


def statuses(ledger: Ledger) -> list[tuple[str, str]]:
    return sorted((outcome.case[:2], outcome.code) for outcome in ledger.outcomes)


def test_of_a_study_the_series_of_the_bundle_s_modality_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "dicom", "MR", 1, 1)
    write(tmp_path / "dicom", "CT", 1, 2)
    write(tmp_path / "dicom", "CT", 2, 1)
    ledger = predict(BUNDLE, tmp_path / "dicom", tmp_path / "out")
    assert statuses(ledger) == [("ct", "done"), ("ct", "other-modality"), ("mr", "done")]
    assert ledger.exit_code == 0
    (skipped,) = [one for one in ledger.outcomes if one.status is Status.SKIPPED]
    assert "Its study has MR, which the bundle was made for" in skipped.message
    (alone,) = [one for one in ledger.outcomes if one.case[:2] == "ct" and one.status is Status.DONE]
    assert any("is CT, and the bundle was made for MR" in warning for warning in alone.warnings)
    asked = PredictOptions(series=(skipped.case,))
    again = predict(BUNDLE, tmp_path / "dicom", tmp_path / "out", asked)
    assert [(one.case, one.code) for one in again.outcomes] == [(skipped.case, "done")]
    assert again.skipped_kinds == {"image of a series that was not chosen": 24}
    recorded = Ledger.read(tmp_path / "out" / "prediction.json")
    assert recorded is not None
    assert [one.status for one in recorded.outcomes] == [Status.DONE] * 3


def test_a_dry_run_shows_each_input_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "dicom", "MR", 1, 1)
    write(tmp_path / "dicom", "CT", 1, 2)
    words = ["predict", str(BUNDLE), str(tmp_path / "dicom"), str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr()
    lines = [re.split(r"\s{2,}", line.strip()) for line in shown.out.splitlines()]
    assert lines[0] == ["no", "case", "kind", "images", "what would happen"]
    assert [line[0] for line in lines[1:]] == ["1", "2"]
    assert lines[1][2:4] == ["MR", "12"]
    assert lines[1][-1].endswith("x 2.5 mm")
    assert lines[2][2:4] == ["CT", "12"]
    assert lines[2][-1].startswith("skipped [other-modality]")
    assert "1-1" in shown.err
    assert "MR 1" not in shown.err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--series", "1"]) == 0
    capsys.readouterr()
    before = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    assert main([*words, "--series", "1", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert [line.split()[-2:] for line in shown.out.splitlines()[1:3]] == [["already", "done"], ["not", "chosen."]]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == before


def test_a_dry_run_without_a_key_calls_nothing_by_a_name_of_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(tmp_path / "new"))
    write(tmp_path / "dicom", "MR", 1, 1)
    (tmp_path / "dicom" / "bad.dcm").write_bytes(bytes(128) + b"DICM" + b"junkjunk")
    rows, _ = preview(BUNDLE, tmp_path / "dicom", tmp_path / "out")
    assert [(row.case, row.source) for row in rows] == [("file", "bad.dcm"), ("mr_01", "1-1")]


def test_names_of_header_elements_and_the_private_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "dicom", "MR", 1, 1)
    write(tmp_path / "dicom", "MR", 2, 1)
    out, table = tmp_path / "out", tmp_path / "private.csv"
    words = ["predict", str(BUNDLE), str(tmp_path / "dicom"), str(out), "--linkage", str(table)]
    assert main([*words, "--name", "{PatientID}_{SeriesNumber}"]) == 0
    assert "warning: --name puts" in capsys.readouterr().err
    assert {path.name for path in out.glob("*.nii.gz")} == {"patient1_1.nii.gz", "patient2_1.nii.gz"}
    rows = list(csv.reader(table.read_text().splitlines()))
    assert [(row[0], row[2]) for row in rows[1:]] == [("patient1_1", "patient1"), ("patient2_1", "patient2")]
    assert table.stat().st_mode & 0o077 == 0
    # Another series under that name never takes the place of the first one's mask.
    write(tmp_path / "other", "MR", 1, 1)
    before = (out / "patient1_1.nii.gz").read_bytes()
    write(tmp_path / "third", "MR", 1, 9)
    named = PredictOptions(name="{PatientID}_1")
    (taken,) = predict(BUNDLE, tmp_path / "third", out, named).outcomes
    assert (taken.status, taken.code) == (Status.REFUSED, "exists")
    assert "another series" in taken.message
    assert (out / "patient1_1.nii.gz").read_bytes() == before


def test_names_that_meet_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "dicom", "MR", 1, 1)
    write(tmp_path / "dicom", "MR", 1, 2)
    ledger = predict(BUNDLE, tmp_path / "dicom", tmp_path / "out", PredictOptions(name="{PatientID}"))
    assert [one.code for one in ledger.outcomes] == ["name-collision"] * 2
    assert ledger.exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        PredictOptions(series=("9",)), PredictOptions(modality=("PT",)), PredictOptions(name="{PatientBirthName}"),
        PredictOptions(channels="T1=*"), PredictOptions(channels="T1=*1;T2=*2"), PredictOptions(linkage="out/private.csv"),
    ],
)  # fmt: skip
def test_a_choice_of_nothing_is_bad_usage(
    options: PredictOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "dicom", "MR", 1, 1)
    write(tmp_path / "dicom", "MR", 1, 2)
    with pytest.raises(UsageError):
        predict(BUNDLE, tmp_path / "dicom", tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("killed", [True, False])
def test_a_kill_between_image_and_mask_is_no_edit(killed: bool, tmp_path: Path) -> None:
    """A run that was to replace an image and its mask ended when the new image was there and the old mask gone."""
    random = np.random.default_rng(0)
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        image = sitk.GetImageFromArray(random.normal(100, 30, (20, 24, 20)).astype(np.float32))
        sitk.WriteImage(image, str(tmp_path / version / "a.mha"))
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    for source, folder in (("old", out), ("new", fresh)):
        assert predict(BUNDLE, tmp_path / source, folder).exit_code == 0
    shutil.copy(fresh / "images" / "a.nii.gz", out / "images" / "a.nii.gz")
    (out / "a.nii.gz").unlink()
    if killed:
        left = out / f".a{TEMPORARY_MARK}x"
        left.mkdir()
        digest = file_digest(fresh / "images" / "a.nii.gz").xxh3
        (left / ".placing").write_text(json.dumps({"images/a.nii.gz": digest}))
    (outcome,) = predict(BUNDLE, tmp_path / "new", out).outcomes
    assert outcome.code == ("done" if killed else "edited")
    if killed:
        assert (out / "a.nii.gz").read_bytes() == (fresh / "a.nii.gz").read_bytes()
        assert not left.exists()


@pytest.mark.parametrize("when", ["in the network", "before the ledger knew"])
def test_another_kill_forgets_no_file_of_its_own(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image and mask are replaced; one run ends when they are half in place or not recorded, and the next one early."""
    mask = np.zeros((20, 24, 20), np.uint8)

    def segment(ready: Ready, *_: object, **__: object) -> Segmented:
        return Segmented((mask,), ready.checked.grid, ())

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("volseg.verbs.predict.case.segment", segment)
    random, image, out = np.random.default_rng(0), tmp_path / "a.mha", tmp_path / "out"
    for value in (1, 2):
        sitk.WriteImage(sitk.GetImageFromArray(random.normal(100, 30, mask.shape).astype(np.float32)), str(image))
        mask[5:9] = value
        if value == 1:
            assert predict(BUNDLE, image, out).exit_code == 0
    ledger = (out / "prediction.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("volseg.kept.RunningLedger.add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(BUNDLE, image, out)
    (out / "prediction.json").write_bytes(ledger)
    if when == "in the network":
        (out / "a.nii.gz").unlink()
        with monkeypatch.context() as patched:
            patched.setattr("volseg.verbs.predict.case.segment", interrupted)
            with pytest.raises(KeyboardInterrupt):
                predict(BUNDLE, image, out)
    (outcome,) = predict(BUNDLE, image, out).outcomes
    assert outcome.code == "done", outcome
    np.testing.assert_array_equal(read_mask(out / "a.nii.gz").array, mask)
    assert not [path for path in out.iterdir() if TEMPORARY_MARK in path.name]


@pytest.mark.parametrize("given", [{"series": ("1",)}, {"modality": ("MR",)}, {"name": "{PatientID}"}])
def test_choices_are_for_dicom(given: dict[str, Sequence[str]], tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="is for DICOM"):
        preview(BUNDLE, tmp_path / "a.nii.gz", tmp_path / "out", PredictOptions(**given))  # type: ignore[arg-type]
