"""``volseg check`` as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import uncounted
from volseg.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset, RealData


def test_clean(make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(make_dataset())]) == 0
    out, err = capsys.readouterr()
    assert out == "3 cases with a mask, 0 without: no faults\n"
    assert "3/3 cases" in err


def test_one_line_for_each_fault(real_data: RealData, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(real_data("hippocampus-faulty"))]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[:3] for line in lines] == [
        ["error", "[label-without-image]", "hippocampus_010:"],
        ["error", "[duplicate]", "hippocampus_019_copy:"],
        ["error", "[image-without-label]", "hippocampus_019_copy:"],
        ["error", "[grids-differ]", "hippocampus_118:"],
        ["error", "[label-without-image]", "hippocampus_281:"],
    ]
    assert last == "5 cases with a mask, 1 without: 5 faults"


def test_warnings_alone_are_clean(make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_dataset(2)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"1": "a", "2": "b", "3": "[red]c[/red]"}}))
    assert main(["check", str(folder), "--jobs", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "warning [label-unused] the label 3, [red]c[/red], occurs in no mask.",
        "2 cases with a mask, 0 without: no faults, 1 warning",
    ]


@pytest.mark.parametrize("what", ["absent", "file", "empty", "no images"])
def test_nothing_to_check(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data"
    if what == "file":
        path.write_text("x")
    elif what != "absent":
        path.mkdir()
    if what == "no images":
        (path / "imagesTr").mkdir()
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("volseg: ")


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"labels": 5}', '{"training": [{"image": "../../x"}]}'])
def test_a_hostile_dataset_json(content: str, make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_dataset(1)
    (folder / "dataset.json").write_text(content)
    assert main(["check", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "error [" in out
    assert "Traceback" not in out + err


def test_a_listed_file_that_is_missing_is_named(make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_dataset(1)
    entry = {"image": "imagesTr/gone.nii.gz", "label": "labelsTr/case_0.nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({"training": [entry]}))
    assert main(["check", str(folder)]) == 1
    assert "error [missing-file] gone: dataset.json lists imagesTr/gone.nii.gz" in capsys.readouterr().out


def test_workers_from_the_command_line(make_dataset: MakeDataset) -> None:
    folder = make_dataset(3)
    (folder / "imagesTr" / "case_1.nii.gz").write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-m", "volseg", "check", str(folder), "--jobs", "2"],
        capture_output=True,
        check=False,
        text=True,
        env=uncounted(),
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("error [damaged-file] case_1: imagesTr/case_1.nii.gz")


def test_a_mask_drawn_on_a_converted_image_is_found(
    real_data: RealData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ITK-SNAP saves it: named as its image, beside a ``dataset.json`` that knows nothing of it."""
    import SimpleITK as sitk

    folder = tmp_path / "nifti"
    assert main(["convert", str(real_data("dicom/mr-t1-head")), str(folder), "--spacing", "native"]) == 0
    capsys.readouterr()
    assert main(["check", str(folder)]) == 0
    assert capsys.readouterr().out == "0 cases with a mask, 2 without: no faults\n"

    image_path = min((folder / "imagesTs").glob("*.nii.gz"))
    image = sitk.ReadImage(str(image_path))
    mask = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    mask.CopyInformation(image)
    mask[200:300, 200:300, 8:12] = 2
    (folder / "labelsTr").mkdir(exist_ok=True)
    sitk.WriteImage(mask, str(folder / "labelsTr" / image_path.name))
    assert main(["check", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("\n1 case with a mask, 1 without: no faults, 1 warning\n")

    sitk.WriteImage(sitk.Flip(mask, [False, False, True]), str(folder / "labelsTr" / image_path.name))
    assert main(["check", str(folder)]) == 1
    assert "[grids-differ]" in capsys.readouterr().out
