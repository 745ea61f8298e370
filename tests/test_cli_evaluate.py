"""``volseg evaluate``: the tables that it prints, and its exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.compared import box, save, two_sides
from volseg.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    return two_sides(tmp_path)


def test_it_prints_cases_means_and_what_is_in_no_mean(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted, reference = sides
    save(reference / "d.nii.gz", box(3))
    assert main(["evaluate", str(predicted), str(reference), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split()[:3] == ["case", "label", "Dice"]
    assert lines[6].split()[:4] == ["c", "spleen", "0.0000", "0.0000"]
    assert any(line.startswith("mean of 3 cases") for line in lines)
    assert any(line.startswith("spleen") and "0.00 /2" in line for line in lines)
    assert "References without a prediction, in no mean: 1 (d)" in lines
    assert any(line.startswith("Infinite HD95, in no mean: 1.") for line in lines)
    assert "3 done" in lines
    assert (tmp_path / "out" / "evaluation.csv").is_file()
    assert "Comparing masks" in said.err

    assert main(["evaluate", str(predicted), str(reference), "--require-all", "--labels", "1"]) == 1
    said = capsys.readouterr()
    assert "d: refused [missing-prediction]" in said.out
    assert "spleen" not in said.out


def test_exit_codes(sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted, reference = sides
    save(predicted / "a.nii.gz", box(3)[1:])
    assert main(["evaluate", str(predicted), str(reference)]) == 1
    assert "a: refused [grids-differ]" in capsys.readouterr().out
    for name in "bc":
        (predicted / f"{name}.nii.gz").unlink()
    assert main(["evaluate", str(predicted), str(reference)]) == 2
    (predicted / "a.nii.gz").unlink()
    assert main(["evaluate", str(predicted), str(reference)]) == 2
    assert main(["evaluate", str(tmp_path / "absent"), str(reference)]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err


def test_many_rows_go_to_a_file_and_the_means_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(61):
        for side in ("predicted", "reference"):
            save(tmp_path / side / f"case_{number:02d}.nii.gz", box(3)[:9, :9, :9])
    assert main(["evaluate", str(tmp_path / "predicted"), str(tmp_path / "reference"), "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "61 rows of cases and labels are not shown" in said
    assert "case_00" not in said
    assert "mean of 61 cases" in said
