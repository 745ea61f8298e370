"""Which patient a case is from: the table, and what goes before what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.listings import write_json
from volseg.dataset.dataset import read_dataset
from volseg.dataset.patients import read_patients
from volseg.errors import DataSetError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset


class TestPatients:
    def test_the_table_goes_before_the_listing_and_that_before_the_sidecar(self, make_dataset: MakeDataset) -> None:
        folder = write_json(make_dataset(4), patients={"case_0": "listed", "case_1": "listed"})
        (folder / "patients.csv").write_text("\ufeffcase,patient,age\ncase_0,table,70\n", encoding="utf-8")
        for name in ("case_1", "case_2"):
            (folder / "imagesTr" / f"{name}.json").write_text('{"patient": "sidecar", "EchoTime": 0.1}')
        dataset = read_dataset(folder)
        assert [case.patient for case in dataset.training] == ["table", "listed", "sidecar", None]
        assert [(fault.code, fault.is_error) for fault in dataset.faults] == [("patient-unknown", False)]
        assert "case_3" in dataset.faults[0].message

    def test_the_sidecar_of_a_case_with_several_channels(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset(1, channels=2)
        (folder / "imagesTr" / "case_0.json").write_text('{"patient": "p"}')
        assert read_dataset(folder).training[0].patient == "p"

    def test_a_broken_sidecar_is_a_fault_of_its_case(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        (folder / "imagesTr" / "case_1.json").write_text('{"format": 1, "case": "case_1", "mod')
        dataset = read_dataset(folder)
        assert [(fault.code, fault.case) for fault in dataset.faults] == [("bad-sidecar", "case_1")]
        assert str(folder) not in dataset.faults[0].message

    @pytest.mark.parametrize(
        "content",
        [
            b"case,person\na,1\n",
            b"case,patient\ncase_0,\n",
            b"case,patient\ncase_0,a\ncase_0,b\n",
            b"case,patient\n\xff\xfe,a\n",
            b"case,patient\n" + b'"' + b"x" * 200_000 + b'",a\n',
        ],
    )
    def test_a_table_that_makes_no_sense_is_refused(self, content: bytes, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        (folder / "patients.csv").write_bytes(content)
        with pytest.raises(DataSetError) as caught:
            read_dataset(folder)
        assert caught.value.code == "bad-patients"
        assert "patients.csv" in caught.value.message


def test_a_table_is_read_by_its_headings_whatever_else_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text('age,patient,case\n70,"p, 1", a \n71,"p, 1",b\n71,"p, 1",b\n,q,c\n')
    assert read_patients(path) == {"a": "p, 1", "b": "p, 1", "c": "q"}


def test_a_table_that_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("case,patient\na,p\n")
    monkeypatch.setattr("volseg.dataset.patients.MAX_PATIENTS_BYTES", 16)
    for wrong in (path, tmp_path / "absent.csv", tmp_path):
        with pytest.raises(DataSetError) as caught:
            read_patients(wrong)
        assert caught.value.code == "bad-patients"
    monkeypatch.setattr("volseg.dataset.patients.MAX_PATIENTS_BYTES", 17)
    assert read_patients(path) == {"a": "p"}
