"""The verb ``check`` from Python."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.conftest import uncounted
from volseg.errors import DataSetError, UsageError
from volseg.verbs.check import CheckOptions, check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import MakeDataset
    from volseg.progress import Task


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.totals: list[float] = []
        self.done = 0.0

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Task]:
        assert title
        assert unit == "cases"
        self.totals.append(total)
        yield self

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        assert note.startswith("case_")
        self.done += amount

    def say(self, line: str) -> None:
        raise AssertionError(line)


def test_a_clean_data_set(make_dataset: MakeDataset) -> None:
    folder, listener = make_dataset(3), Listener()
    report = check(folder, progress=listener)
    assert (report.path, report.faults, report.errors, report.warnings, report.exit_code) == (folder, (), (), (), 0)
    assert report.summary == "3 cases with a mask, 0 without"
    assert (listener.totals, listener.done) == ([3], 3)


def test_faults_and_warnings_are_told_apart(make_dataset: MakeDataset) -> None:
    folder = make_dataset(1)
    (folder / "dataset.json").write_text('{"labels": {"1": "a", "2": "b", "3": "c"}}')
    report = check(folder)
    assert ([fault.code for fault in report.warnings], report.errors) == (["label-unused", "one-patient"], ())
    assert report.exit_code == 0
    (folder / "imagesTr" / "case_0.nii.gz").write_bytes(b"")
    report = check(folder)
    assert [fault.code for fault in report.errors] == ["damaged-file"]
    assert report.exit_code == 1


def test_the_count_of_workers_changes_nothing(make_dataset: MakeDataset) -> None:
    folder = make_dataset(3)
    (folder / "imagesTr" / "case_1.nii.gz").write_bytes(b"")
    assert check(folder, CheckOptions(jobs=2)) == check(folder, CheckOptions(jobs=1))


def test_a_dataset_json_that_makes_no_sense_is_a_fault(make_dataset: MakeDataset) -> None:
    folder = make_dataset(1)
    (folder / "dataset.json").write_text("{")
    report = check(folder)
    assert [fault.code for fault in report.faults] == ["bad-dataset-json"]
    assert report.exit_code == 1


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        check(tmp_path)
    with pytest.raises(UsageError):
        check(tmp_path / "none")
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(DataSetError) as caught:
        check(tmp_path)
    assert caught.value.code == "no-cases"


def test_a_negative_count_of_workers_is_bad_usage(make_dataset: MakeDataset) -> None:
    with pytest.raises(UsageError, match="jobs"):
        check(make_dataset(1), CheckOptions(jobs=-1))


def test_it_imports_nothing_heavy(make_dataset: MakeDataset) -> None:
    program = (
        "import sys, pathlib, volseg; volseg.check(pathlib.Path(sys.argv[1])); "
        "print([name for name in ('torch', 'monai', 'SimpleITK', 'itk', 'matplotlib') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(make_dataset(1))]
    out = subprocess.run(command, env=uncounted(), capture_output=True, check=True)
    assert out.stdout.decode().strip() == "[]"
