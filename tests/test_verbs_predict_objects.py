"""Predict with DICOM objects as outputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest

from tests.heard import Heard
from tests.label_study import names_of
from volseg.cli.main import main
from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.outcomes import Ledger
from volseg.verbs.convert import ConvertOptions, convert
from volseg.verbs.predict import PredictOptions, predict
from volseg.volume import read_mask

if TYPE_CHECKING:
    from tests.conftest import WriteImage, WriteSeries

ALL = PredictOptions(dicom_seg=True, dicom_labelmap=True, rtstruct=True)
SUFFIXES = ("seg", "labelmap", "rtstruct")


@pytest.fixture
def dicom(write_series: WriteSeries, tmp_path: Path) -> Path:
    positions = [(0, 0, 2.0 * k) for k in range(12)]
    values = np.random.default_rng(0).integers(0, 2000, (12, 20, 24)).astype(np.uint16)
    write_series(tmp_path / "dicom", positions=positions, array=values)
    return tmp_path / "dicom"


def test_convert_reads_back_what_was_predicted(
    trained_bundle: Path, dicom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--dicom-seg", "--dicom-labelmap", "--rtstruct"]
    assert main(["predict", str(trained_bundle), str(dicom), str(out), *options]) == 0
    said = capsys.readouterr()
    assert "carry the patient's name" in said.err
    (outcome,) = Ledger.read(out / "prediction.json").outcomes  # type: ignore[union-attr]
    objects = [f"{outcome.case}.{suffix}.dcm" for suffix in SUFFIXES]
    assert set(objects) <= set(outcome.outputs)
    assert outcome.made is not None
    assert set(objects) <= set(outcome.made.files)
    mask = read_mask(out / f"{outcome.case}.nii.gz")
    assert mask.array.any()
    data = pydicom.dcmread(out / objects[0])
    assert data.PatientName == pydicom.dcmread(next(dicom.iterdir())).PatientName
    assert b"Doe" not in (out / "prediction.json").read_bytes()
    source, back = tmp_path / "source", tmp_path / "back"
    shutil.copytree(dicom, source / "images")
    for name in objects:  # convert compares them: objects that draw one structure have to agree
        shutil.copy(out / name, source)
    ledger = convert(source, back, ConvertOptions(spacing=("native",), jobs=1))
    assert [one.code for one in ledger.outcomes] == ["done"]
    assert "from 1 RTSTRUCT and 2 SEG" in ledger.outcomes[0].message
    (found,) = (back / "labelsTr").glob("*.nii.gz")
    read = read_mask(found).array
    numbers = names_of(back)
    for index, name in LabelTable.from_itksnap((out / "labels.txt").read_text()).to_dataset_json().items():
        np.testing.assert_array_equal(read == numbers.get(name, 0), mask.array == int(index))


def test_a_rerun_with_an_option_more_writes_what_is_missing(trained_bundle: Path, dicom: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (first,) = predict(trained_bundle, dicom, out).outcomes
    before = {path.name: path.read_bytes() for path in out.glob("*.nii.gz")}
    (second,) = predict(trained_bundle, dicom, out, ALL).outcomes
    objects = [f"{first.case}.{suffix}.dcm" for suffix in SUFFIXES]
    assert set(objects) <= set(second.outputs)
    assert {path.name: path.read_bytes() for path in out.glob("*.nii.gz")} == before
    bytes_of = {name: (out / name).read_bytes() for name in objects}
    assert [one.code for one in predict(trained_bundle, dicom, out, ALL).outcomes] == ["already-done"]
    (out / objects[0]).unlink()
    predict(trained_bundle, dicom, out, ALL)
    assert {name: (out / name).read_bytes() for name in objects} == bytes_of
    assert [one.code for one in predict(trained_bundle, dicom, out).outcomes] == ["already-done"]
    assert {name: (out / name).read_bytes() for name in objects} == bytes_of


def test_what_is_no_dicom_is_refused_before_the_work(
    trained_bundle: Path, write_image: WriteImage, tmp_path: Path
) -> None:
    write_image(tmp_path / "images" / "a.nii.gz", np.zeros((8, 8, 8), np.int16))
    heard = Heard()
    with pytest.raises(UsageError, match="Give the folder of DICOM itself") as refused:
        predict(trained_bundle, tmp_path / "images", tmp_path / "out", PredictOptions(rtstruct=True), heard)
    assert refused.value.code == "no-dicom-source"
    assert not list((tmp_path / "out").glob("*.nii.gz"))
