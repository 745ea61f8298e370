"""Case names by template and the private table: inside their folder, told apart, readable by their owner alone."""

from __future__ import annotations

import csv
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volseg.cli.main import main
from volseg.errors import OutputExistsError, UsageError
from volseg.outcomes import Ledger, Status
from volseg.verbs.convert import ConvertOptions, convert, preview

if TYPE_CHECKING:
    from conftest import WriteSeries
    from pydicom.dataset import Dataset


def patients(write_series: WriteSeries, folder: Path, *ids: str, **more: object) -> None:
    for seed, patient in enumerate(ids):

        def edit(data: Dataset, _: int, patient: str = patient) -> None:
            data.SpecificCharacterSet = "ISO_IR 192"
            data.PatientID = patient
            for keyword, value in more.items():
                setattr(data, keyword, value)

        write_series(folder / str(seed), seed=seed, edit=edit)


def named(template: str, **more: object) -> ConvertOptions:
    return ConvertOptions(spacing=("native",), name=template, **more)  # type: ignore[arg-type]


def images(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz"))


def codes(ledger: Ledger) -> list[str]:
    return sorted(outcome.code for outcome in ledger.outcomes)


@pytest.mark.parametrize(
    ("patient", "name"),
    [
        ("AB-12", "AB-12_3"),
        ("../../../etc/x", "etc_x_3"),
        ("/abs", "abs_3"),
        ("..", None),
        ("a\x00b", "a_b_3"),
        ("Müller^Jörg", "Muller_Jorg_3"),
        ("王", None),
        ("", None),
        ("<script>alert(1)</script>", "script_alert_1_script_3"),
        ("x" * 64, "x" * 64 + "_3"),
        (".hidden", "hidden_3"),
        ("-rf", "rf_3"),
        ("con", "con_3"),
    ],
)
def test_a_name_never_leaves_its_folder(
    patient: str, name: str | None, write_series: WriteSeries, tmp_path: Path, trust_store: Path
) -> None:
    patients(write_series, tmp_path / "dicom", patient)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", named("{PatientID}_{SeriesNumber}"))
    assert images(tmp_path) == ([f"out/imagesTs/{name}.nii.gz"] if name else [])
    assert codes(ledger) == ["done" if name else "name-incomplete"]
    trust_store.with_name("names.key").unlink()
    rows, _ = preview(tmp_path / "dicom", tmp_path / "new", named("{PatientID}_{SeriesNumber}"))
    assert [row.case for row in rows] == [name or "ct_01"]


def test_names_of_devices_and_channels_are_changed(write_series: WriteSeries, tmp_path: Path) -> None:
    patients(write_series, tmp_path / "dicom", "AUX", SeriesNumber=1001)
    convert(tmp_path / "dicom", tmp_path / "a", named("{PatientID}"))
    convert(tmp_path / "dicom", tmp_path / "b", named("{PatientID}_{SeriesNumber}"))
    assert images(tmp_path) == ["a/imagesTs/case_AUX.nii.gz", "b/imagesTs/AUX-1001.nii.gz"]


def test_names_that_meet_are_refused(write_series: WriteSeries, tmp_path: Path) -> None:
    patients(write_series, tmp_path / "dicom", "a b", "A/B", "c")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", named("{PatientID}"))
    assert codes(ledger) == ["done", "name-collision", "name-collision"]
    assert images(tmp_path / "out") == ["imagesTs/c.nii.gz"]
    assert "a b" not in (tmp_path / "out/conversion.json").read_text()


def test_an_image_of_another_series_is_never_replaced(write_series: WriteSeries, tmp_path: Path) -> None:
    patients(write_series, tmp_path / "first", "a")
    convert(tmp_path / "first", tmp_path / "out", named("{PatientID}"))
    assert codes(convert(tmp_path / "first", tmp_path / "out", named("{PatientID}"))) == ["already-done"]
    write_series(tmp_path / "other", seed=9, edit=lambda data, _: setattr(data, "PatientID", "a"))
    before = (tmp_path / "out/imagesTs/a.nii.gz").read_bytes()
    ledger = convert(tmp_path / "other", tmp_path / "out", named("{PatientID}", overwrite=True))
    assert [(one.status, one.code) for one in ledger.outcomes] == [(Status.REFUSED, "name-collision")]
    (tmp_path / "out/imagesTs/a.json").unlink()
    assert codes(convert(tmp_path / "first", tmp_path / "out", named("{PatientID}"))) == ["name-collision"]
    assert (tmp_path / "out/imagesTs/a.nii.gz").read_bytes() == before


@pytest.mark.parametrize(
    "template", ["{PatientBirthName}", "{PatientID.__class__}", "{PatientID!r}", "{PatientID:>9}", "{", "{}", "plain"]
)
def test_a_template_that_makes_no_name_is_bad_usage(template: str, write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    with pytest.raises(UsageError):
        convert(tmp_path / "dicom", tmp_path / "out", named(template))
    assert not (tmp_path / "out").exists()


def test_the_choice_is_warned_of(write_series: WriteSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "dicom")
    words = ["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native"]
    assert main([*words, "--name", "{PatientID}"]) == 0
    assert "warning: --name" in capsys.readouterr().err
    assert main([*words[:2], str(tmp_path / "other"), *words[3:]]) == 0
    assert "--name" not in capsys.readouterr().err


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_table_tells_the_patients_and_is_private(write_series: WriteSeries, tmp_path: Path) -> None:
    patients(write_series, tmp_path / "dicom", "Müller", "=1+2", " @SUM(A1)", "-7", "plain")
    before = os.umask(0)
    try:
        options = ConvertOptions(spacing=("native",), linkage=tmp_path / "private/table.csv")
        ledger = convert(tmp_path / "dicom", tmp_path / "out", options)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private/table.csv").stat().st_mode) == 0o600
    head, *rows = table(tmp_path / "private/table.csv")
    assert head == ["case", "patient", "PatientID"]
    assert [row[0] for row in rows] == sorted(outcome.case for outcome in ledger.outcomes)
    assert sorted(row[2] for row in rows) == sorted(["Müller", "'=1+2", "'@SUM(A1)", "'-7", "plain"])
    text = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))
    assert "table.csv" not in text
    assert "plain" not in text


def test_the_table_is_written_again_only_when_asked(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    options = ConvertOptions(spacing=("native",), linkage=tmp_path / "table.csv")
    convert(tmp_path / "dicom", tmp_path / "out", options)
    first = (tmp_path / "table.csv").read_bytes()
    with pytest.raises(OutputExistsError):
        convert(tmp_path / "dicom", tmp_path / "out", options)
    (tmp_path / "table.csv").unlink()
    assert codes(convert(tmp_path / "dicom", tmp_path / "out", options)) == ["already-done"]
    assert (tmp_path / "table.csv").read_bytes() == first


@pytest.mark.parametrize("place", ["out/table.csv", "out/deep/er.csv", "link/table.csv", "out/../out/t.csv"])
def test_the_table_stays_out_of_the_output_folder(place: str, write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError) as caught:
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(linkage=tmp_path / place))
    assert caught.value.code == "linkage-inside"
    assert not (tmp_path / "out").exists()
