"""``volseg convert`` as a person types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import uncounted
from volseg.cli.main import main
from volseg.volume import read_header

if TYPE_CHECKING:
    from conftest import WriteSeries


def test_help_and_work_never_import_torch(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    for words in (["--help"], [str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native"]):
        code = (
            "import sys\nfrom volseg.cli.main import main\n"
            f"assert main({['convert', *words]!r}) == 0\n"
            "heavy = {'torch', 'monai', 'SimpleITK', 'itk', 'matplotlib'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        subprocess.run([sys.executable, "-c", code], env=uncounted(), check=True, stdout=subprocess.DEVNULL)


def test_what_plain_images_do_not_need_is_not_imported(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    words = ["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native"]
    code = (
        "import sys\nfrom volseg.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        "assert 'volseg.masks' not in sys.modules\n"
        "assert 'pydicom' not in sys.modules\n"  # not even as absent
        "import pydicom"
    )
    subprocess.run([sys.executable, "-c", code], env=uncounted(), check=True, stdout=subprocess.DEVNULL)


def test_three_spacings_and_other_options(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    words = [str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "1.5", "1.5", "2.5", "--jobs", "1"]
    assert main(["convert", *words]) == 0
    (image,) = (tmp_path / "out/imagesTs").glob("*.nii.gz")
    assert read_header(image).grid.spacing_mm == pytest.approx((1.5, 1.5, 2.5))


def test_results_on_stdout_private_names_on_stderr(
    write_series: WriteSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "dicom/canary-good", seed=1)
    write_series(tmp_path / "dicom/canary-gap", seed=2, positions=[(0, 0, z) for z in (0, 1, 2, 4, 5, 6)])
    assert main(["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native"]) == 1
    out, err = capsys.readouterr()
    assert "[missing-slice]" in out
    assert "the scanner's grid" in out
    assert "1 done, 1 refused" in out
    assert "canary" not in out
    assert "canary-gap" in err


def test_dry_run_prints_a_table_and_writes_nothing(
    write_series: WriteSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "dicom")
    assert main(["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--dry-run"]) == 0
    out, err = capsys.readouterr()
    head, row = out.splitlines()
    assert head.split("  ")[0] == "no"
    assert row.endswith("CT         5  10x12x5 at 0.75x0.5x2.5 mm, resampled to 8x6x13 at 1x1x1 mm")
    assert head.index("what") == row.index("10x12")  # text is aligned to the left
    assert err.splitlines()[-1].endswith(" is .")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("columns", [40, 80, 1000])
def test_a_dry_run_takes_one_line_of_the_terminal_a_series(
    columns: int,
    write_series: WriteSeries,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    write_series(tmp_path / "dicom/b", seed=2, positions=[(0, 0, z) for z in (0, 1, 2, 4, 5, 6)])
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--dry-run"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    longest = max(lines, key=len)
    if columns < 1000:
        assert len(longest) == columns
    else:  # the sentence is whole
        assert len(longest) < columns
        assert longest.endswith(".")
    assert any("refused [missing-slice]"[: columns - 38] in line for line in lines)
    assert all(line.endswith("…") for line in lines if len(line) == columns)


def test_a_dry_run_ends_as_the_run_would(write_series: WriteSeries, tmp_path: Path) -> None:
    gap = [(0, 0, z) for z in (0, 1, 2, 4, 5, 6)]
    for name, positions in (("good", None), ("gap", gap), ("single", [(0, 0, 0)])):
        write_series(tmp_path / name / name, seed=len(name), positions=positions)
    write_series(tmp_path / "gap" / "good", seed=9)
    write_series(tmp_path / "only-gap", seed=10, positions=gap)
    (tmp_path / "gap" / "damaged.dcm").write_bytes((tmp_path / "good/good/000.dcm").read_bytes()[:400])
    for source in ("single", "only-gap", "gap", "good", "good", "single", "only-gap"):
        words = ["convert", str(tmp_path / source), str(tmp_path / "out")]
        assert main([*words, "--dry-run"]) == main(words), source


@pytest.mark.parametrize(
    "words", [["absent", "out"], ["empty", "out"], ["dicom", "file"], ["dicom", "out", "--spacing", "0"]]
)
def test_bad_input_is_one_sentence_and_2(
    words: list[str],
    write_series: WriteSeries,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_series(tmp_path / "dicom")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith("volseg: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("works", [True, False])
def test_nibabel_is_imported_without_pydicom_which_stays_importable(works: bool, tmp_path: Path) -> None:
    """Also where the import of nibabel fails half-way."""
    if not works:
        (tmp_path / "nibabel").mkdir()
        (tmp_path / "nibabel" / "__init__.py").write_text("try:\n    import pydicom\nfinally:\n    1 / 0\n")
    code = (
        "import sys\n"
        "from volseg.cli.convert import import_nibabel_alone\n"
        "try:\n    import_nibabel_alone()\nexcept ZeroDivisionError:\n    print('failed')\n"
        "print('pydicom' in sys.modules, 'nibabel' in sys.modules)\n"
        "import pydicom\n"
        "pydicom.Dataset()\n"
        "import_nibabel_alone()\n"
        "print(sys.modules['pydicom'] is pydicom)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=uncounted() | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == (["False", "True", "True"] if works else ["failed", "False", "False", "True"])
