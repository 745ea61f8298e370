"""Strangers' files and names: what stands in a file's place is refused at once, and no name forges a line of the output."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.conftest import adopted
from volseg.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

    from tests.conftest import WriteSeries

SECONDS = 60
"""For a verb that does its other cases; a pipe would hold it for good."""


@contextmanager
def in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("held by a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, cohort: Path, trained_bundle: Path) -> Path:
    """A data set, a trained bundle, masks, and a folder to predict, to be copied."""
    root = tmp_path_factory.mktemp("places")
    for folder in ("imagesTr", "labelsTr"):
        (root / "data" / folder).mkdir(parents=True)
        for case in range(6):
            shutil.copy(cohort / folder / f"case_{case:02d}.nii.gz", root / "data" / folder)
    shutil.copytree(cohort / "imagesTs", root / "data" / "imagesTs")
    shutil.copy(cohort / "dataset.json", root / "data")
    for name in ("imagesTs", "labelsTr"):
        shutil.copytree(root / "data" / name, root / name)
    shutil.copytree(trained_bundle, root / "bundle")
    (root / "labelsTr" / "labels.txt").write_text('1 255 0 0 1 1 1 "shell"\n2 0 255 0 1 1 1 "core"\n')
    return root


CASES = [
    # the pipe, the command, its exit code, what it says of it
    ("data/imagesTr/case_00.nii.gz", "check data", 1, "case_00"),
    ("data/labelsTr/case_00.nii.gz", "check data", 1, "case_00"),
    ("data/imagesTr/case_00.json", "check data", 1, "case_00"),
    ("data/dataset.json", "check data", 1, "dataset.json"),
    ("data/patients.csv", "check data", 1, "patients.csv"),
    ("data/conversion.json", "check data", 0, ""),  # convert's own, of which check needs nothing
    ("bundle/configs/inference.yaml", "check bundle", 1, "inference"),
    ("bundle/configs/metadata.json", "check bundle", 1, "metadata"),
    ("bundle/models/model.pt", "check bundle", 1, "model.pt"),
    ("data/imagesTr/case_00.nii.gz", "plan data new", 2, "case_00"),
    ("data/dataset.json", "plan data new", 2, "dataset.json"),
    ("data/imagesTr/case_00.nii.gz", "train bundle --data data --epochs 13", 2, "case_00"),
    ("bundle/configs/train.yaml", "train bundle --data data --epochs 13", 2, "train"),
    ("bundle/runs/fold_0/last.pt", "train bundle --data data --epochs 13", 2, "last.pt"),
    ("bundle/runs/fold_0/training.json", "train bundle --data data --epochs 13", 2, "training.json"),
    ("bundle/runs/folds.json", "train bundle --data data --epochs 13", 2, "folds.json"),
    ("folds.csv", "train bundle --data data --epochs 13 --fresh --folds folds.csv", 2, "folds.csv"),
    ("imagesTs/case_10.nii.gz", "predict bundle imagesTs out", 1, "case_10"),
    ("imagesTs/case_10.json", "predict bundle imagesTs out", 1, "case_10"),
    ("imagesTs/new.nrrd", "predict bundle imagesTs out", 1, "new"),
    ("imagesTs/new.mha", "predict bundle imagesTs out", 1, "new"),
    ("alone.nii.gz", "predict bundle alone.nii.gz out", 2, "alone"),
    ("alone.zip", "predict bundle alone.zip out", 2, "alone.zip"),
    ("bundle/models/model.pt", "predict bundle imagesTs out", 2, "model.pt"),
    ("bundle/configs/inference.yaml", "predict bundle imagesTs out", 2, "inference"),
    ("out/prediction.json", "predict bundle imagesTs out", 2, "prediction.json"),
    ("out/case_10.nii.gz", "predict bundle imagesTs out", 1, "case_10"),
    ("labelsTr/case_00.nii.gz", "postprocess labelsTr out --keep-largest 1", 1, "case_00"),
    ("labelsTr/labels.txt", "postprocess labelsTr out --keep-largest 1", 2, "labels.txt"),
    ("labelsTr/dataset.json", "postprocess labelsTr out --keep-largest 1", 0, ""),  # labels.txt has said it
    ("alone.nii.gz", "postprocess alone.nii.gz out --keep-largest 1", 2, "alone"),
    ("out/postprocessing.json", "postprocess labelsTr out --keep-largest 1", 2, "postprocessing.json"),
    ("labelsTr/case_00.nii.gz", "evaluate labelsTr data/labelsTr", 1, "case_00"),
    ("data/labelsTr/case_00.nii.gz", "evaluate labelsTr data/labelsTr", 1, "case_00"),
    ("labelsTr/labels.txt", "evaluate labelsTr data/labelsTr", 2, "labels.txt"),
    ("alone.nii.gz", "evaluate alone.nii.gz labelsTr/case_00.nii.gz", 2, "alone"),
    ("alone.nii.gz", "evaluate labelsTr/case_00.nii.gz alone.nii.gz", 2, "alone"),
    ("bundle/configs/train.yaml", "trust bundle --yes", 2, "train"),
    ("dicom/slice", "convert dicom nifti", 0, ""),
    ("dicom/archive.zip", "convert dicom nifti", 0, ""),
    ("alone.zip", "convert alone.zip nifti", 2, "alone.zip"),
    ("dicom.key", "convert dicom.key nifti", 2, "dicom.key"),
    ("nifti/conversion.json", "convert dicom nifti", 2, "conversion.json"),
    ("nifti/dataset.json", "convert dicom nifti", 2, "dataset.json"),
    ("labels.csv", "convert dicom nifti --labels labels.csv", 2, "labels.csv"),
    ("demo", "demo demo --minutes 0.01", 2, "demo"),
    ("demo/demo.json", "demo demo --minutes 0.01", 2, "demo"),
]  # fmt: skip


@pytest.mark.parametrize(("pipe", "command", "code", "named"), CASES, ids=[f"{c[1].split()[0]} {c[0]}" for c in CASES])
def test_a_pipe_in_a_file_s_place(
    pipe: str,
    command: str,
    code: int,
    named: str,
    places: Path,
    tmp_path: Path,
    write_series: WriteSeries,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for word in command.split()[1:]:
        source = places / word.split("/")[0]
        if source.is_dir():
            shutil.copytree(source, tmp_path / source.name, dirs_exist_ok=True)
    if "convert" in command:
        write_series(tmp_path / "dicom" / "ct")
    (tmp_path / pipe).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / pipe).unlink(missing_ok=True)
    os.mkfifo(tmp_path / pipe)
    adopted(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    with in_time():
        found = main([*command.split(), *(["--device", "cpu"] if command.split()[0] in ("train", "predict") else [])])
    shown = capsys.readouterr()
    assert found == code, shown
    assert named in shown.out + shown.err
    assert "unexpected" not in shown.out + shown.err
    assert "Traceback" not in shown.err


def test_other_things_in_an_image_s_place(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(places / "imagesTs", images)
    (images / "a_folder.nii.gz").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, target in {"a_device": "/dev/zero", "a_terminal": "/dev/tty", "a_pipe": str(tmp_path / "pipe")}.items():
        (images / f"{name}.nii.gz").symlink_to(target)
    monkeypatch.chdir(images)
    with socket.socket(socket.AF_UNIX) as server, in_time():
        server.bind("a_socket.nii.gz")
        assert main(["predict", str(places / "bundle"), str(images), str(tmp_path / "out"), "--device", "cpu"]) == 1
        assert main(["postprocess", str(images), str(tmp_path / "clean"), "--keep-largest", "1"]) == 2
    lines = capsys.readouterr().out.splitlines()
    for case, what in {
        "a_folder": "a folder", "a_device": "a device", "a_terminal": "a device", "a_pipe": "a pipe", "a_socket": "a socket",
    }.items():  # fmt: skip
        said = f"{case}: refused [no-plain-file] {case}.nii.gz is {what}, not a file. Put the file itself in its place, or remove it."
        assert lines.count(said) == 2
    assert "2 done, 5 refused" in lines


EVIL = "evil\nforged: 9 done\r\x1b[2J\u202e\u2028x"
"""A name that would be three lines, clear the screen and turn text around."""


def require_honest(text: str) -> None:
    """No line was forged, and nothing drives the terminal; the name itself is told."""
    assert not [line for line in text.splitlines() if line.lstrip().startswith("forged")]
    assert not set(text) & set("\r\x1b\u202e\u2028")
    assert "evil\\nforged" in text


def test_no_name_forges_a_line(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of cases and folders, good and refused, in every verb that meets images."""
    root = tmp_path / EVIL
    for name in ("data", "imagesTs", "labelsTr"):
        shutil.copytree(places / name, root / name)
    for folder in ("data/imagesTr", "data/labelsTr", "labelsTr"):
        (root / folder / "case_05.nii.gz").rename(root / folder / f"{EVIL}.nii.gz")
    (root / "imagesTs" / "case_10.nii.gz").rename(root / "imagesTs" / f"{EVIL}.nii.gz")
    (root / "imagesTs" / f"damaged {EVIL}.nii.gz").write_bytes(b"")
    (root / "labelsTr" / f"damaged {EVIL}.nii.gz").write_bytes(b"")
    (root / "labelsTr" / "labels.txt").write_text('1 255 0 0 1 1 1 "a\x1b[2J\u202e"\n2 0 255 0 1 1 1 "core"\n')
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> int:
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        require_honest(shown.out + shown.err + "evil\\nforged" * (words[0] == "plan"))
        return code

    assert run("check", root / "nowhere") == 2
    (root / "data" / "labelsTr" / "case_00.nii.gz").rename(root / "data" / "labelsTr" / f"other {EVIL}.nii.gz")
    assert run("check", root / "data") == 1
    assert run("plan", root / "data", root / "new") == 2
    assert run("train", places / "bundle", "--adopt-runs", "--data", root / "data", "--epochs", 13) == 2
    assert run("predict", places / "bundle", root / "imagesTs", root / "out", "--device", "cpu") == 1
    assert run("postprocess", root / "labelsTr", root / "clean", "--keep-largest", 1) == 1
    assert run("evaluate", root / "labelsTr", root / "data" / "labelsTr", "--out", root / "scores") == 0
    assert run("convert", root / "imagesTs", root / "nifti") == 2
    assert run("demo", root / "data") == 2
    table = (root / "scores" / "evaluation.csv").read_text(encoding="utf-8")
    assert "\nforged" not in table
    assert "\x1b" not in table
    assert "\x1b" not in (root / "out" / "labels.txt").read_text(encoding="utf-8")


def test_no_text_of_a_bundle_forges_a_line(places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / EVIL
    shutil.copytree(places / "bundle", bundle)
    config = bundle / "configs" / "inference.yaml"
    config.write_text(
        config.read_text() + json.dumps(EVIL) + ": $print(" + "0)\n" + "more: " + json.dumps("$" + EVIL) + "\n"
    )
    (bundle / f"{EVIL}.py").write_text("")
    for words, code in (
        (["check", str(bundle)], 1),
        (["predict", str(bundle), str(places / "imagesTs"), str(tmp_path / "out")], 3),
        (["trust", str(bundle), "--yes"], 0),
        (["predict", str(bundle), str(tmp_path / EVIL / "none"), str(tmp_path / "out")], 2),
    ):
        assert main(words) == code
        shown = capsys.readouterr()
        require_honest(shown.out + shown.err)


def test_no_name_in_dicom_forges_a_line(
    tmp_path: Path, write_series: WriteSeries, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of files, folders and members of archives; what headers say is not shown at all."""

    def with_gap(ds: Dataset, number: int) -> None:
        if number == 3:
            ds.ImagePositionPatient = [-30, -40, 99]

    folder = tmp_path / "dicom" / EVIL
    write_series(folder, edit=with_gap, name=EVIL + "{:03d}")
    with zipfile.ZipFile(tmp_path / "dicom" / "packed.zip", "w") as archive:
        write_series(tmp_path / "other", edit=with_gap, seed=1)
        for path in (tmp_path / "other").iterdir():
            archive.write(path, f"{EVIL}/{path.name}")
    assert main(["convert", str(tmp_path / "dicom"), str(tmp_path / "nifti")]) == 2
    shown = capsys.readouterr()
    assert "2 refused" in shown.out
    require_honest(shown.out + shown.err)


@pytest.mark.parametrize("linked", ["imagesTs", "imagesTr", "labelsTr"])
def test_convert_writes_nothing_through_a_link(
    linked: str, tmp_path: Path, write_series: WriteSeries, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "dicom")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "nifti").mkdir()
    (tmp_path / "nifti" / linked).symlink_to(tmp_path / "elsewhere")
    assert main(["convert", str(tmp_path / "dicom"), str(tmp_path / "nifti")]) == 2
    assert f"{linked} is a link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_predict_writes_nothing_through_a_link(
    places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "elsewhere")
    assert main(["predict", str(places / "bundle"), str(places / "imagesTs"), str(tmp_path / "out")]) == 2
    assert "images is a link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
