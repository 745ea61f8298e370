"""``volseg predict``: what it prints, and its exit codes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.zoo import write_zoo_bundle
from volseg.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage


def test_a_folder_of_images(
    trained_bundle: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(trained_bundle), str(cohort / "imagesTs"), str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "2 done"
    assert "Predicting: done, 2/2 cases" in shown.err
    assert {path.name for path in out.iterdir()} == {
        "case_10.nii.gz", "case_11.nii.gz", "labels.txt", "prediction.json",
    }  # fmt: skip
    assert main(["predict", str(trained_bundle), str(cohort / "imagesTs"), str(out)]) == 0
    assert capsys.readouterr().out == shown.out.replace("2 done", "2 done (2 were there already)")


def test_some_refused_is_1_with_a_line_for_each(
    trained_bundle: Path,
    cohort: Path,
    tmp_path: Path,
    write_image: WriteImage,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(cohort / "imagesTs", tmp_path / "images")
    write_image(tmp_path / "images" / "nan.nii.gz", np.full((20, 24, 20), np.nan, np.float32))
    (tmp_path / "images" / "empty.nii.gz").write_bytes(b"")
    assert main(["predict", str(trained_bundle), str(tmp_path / "images"), str(tmp_path / "out")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("empty: refused [damaged-file]")
    assert lines[1].startswith("nan: refused [not-finite] The image has voxels that are not finite numbers")
    assert lines[2] == "2 done, 2 refused"


def test_nothing_done_is_2(
    trained_bundle: Path, tmp_path: Path, write_image: WriteImage, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_image(tmp_path / "nan.nii.gz", np.full((20, 24, 20), np.nan, np.float32))
    assert main(["predict", str(trained_bundle), str(path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "1 refused"


def test_a_fold_s_own_cases(
    trained_bundle: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(trained_bundle), str(cohort), str(out), "--fold", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 done",
        f"Open each image with {out / '<case>.nii.gz'} as its segmentation and {out / 'labels.txt'} as its labels.",
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no weights", "has no weights yet. Train it with volseg train"),
        ("no fold", "has no model of fold 2"),
        ("no bundle", "has no configs/metadata.yaml or .json"),
        ("empty folder", "is empty"),
        ("text file", "is no image that volseg reads"),
        ("missing", "does not exist"),
        ("file in the masks' place", "is a file. Name a folder for the masks."),
        ("folder of the images", "holds the images themselves"),
        ("the bundle", "is the bundle itself"),
    ],
)
def test_what_can_t_work_is_2_and_one_sentence(
    trained_bundle: Path,
    planned_bundle: Path,
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    words: str,
) -> None:
    bundle, source, out, more = trained_bundle, cohort, tmp_path / "out", list[str]()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    if kind == "no weights":
        bundle = planned_bundle
    elif kind == "no fold":
        more = ["--fold", "2"]
    elif kind == "no bundle":
        bundle = tmp_path / "empty"
    elif kind == "file in the masks' place":
        out = tmp_path / "text.txt"
    elif kind == "the bundle":
        out = bundle
    elif kind == "folder of the images":
        source = out = cohort / "imagesTs"
    else:
        name = {"empty folder": "empty", "text file": "text.txt", "missing": "gone"}[kind]
        source = tmp_path / name
    assert main(["predict", str(bundle), str(source), str(out), *more]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = [line for line in shown.err.splitlines() if line.startswith("volseg:")]
    assert words in line
    assert not (tmp_path / "out").exists()


def test_an_untrusted_bundle_is_3(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_zoo_bundle(tmp_path / "bundle", cohort)
    (bundle / "models").mkdir()
    (bundle / "models" / "model.pt").write_bytes(b"weights")
    assert main(["predict", str(bundle), str(cohort), str(tmp_path / "out")]) == 3
    assert "goes beyond what runs without trust, and nobody has trusted it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_is_130(
    trained_bundle: Path,
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("volseg.inference.segmenter.Segmenter.segment", interrupted)
    assert main(["predict", str(trained_bundle), str(cohort), str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.rstrip().endswith("interrupted")
    assert not list(tmp_path.glob("out/*.nii.gz"))
