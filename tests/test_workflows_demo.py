"""The demo, tiny, through the command line: the whole chain, interrupted, resumed and rerun."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.conftest import adopted
from volseg.cli.main import main
from volseg.errors import UsageError
from volseg.workflows.demo import DemoOptions, demo
from volseg.workflows.phantoms import scanner
from volseg.workflows.phantoms.phantom import LABELS

CASES, NEW = 5, 2
OPTIONS = ["--cases", str(CASES), "--new-cases", str(NEW), "--matrix", "24", "--minutes", "0.05", "--device", "cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that was interrupted in its second cohort, then run to its end."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    whole = scanner.write_cohort
    written = []

    def interrupted(phantoms: object, place: Path, *, seed: tuple[int, ...]) -> int:
        written.append(place)
        if len(written) == 2:
            place.mkdir()
            (place / "half").write_bytes(b"half")
            raise KeyboardInterrupt
        return whole(phantoms, place, seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanner, "write_cohort", interrupted)
        assert main(["demo", str(folder), *OPTIONS]) == 130
    assert sorted(path.name for path in folder.iterdir()) == ["demo.json", "dicom"]
    assert main(["demo", str(folder), *OPTIONS]) == 0
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_step_left_its_work(finished: Path) -> None:
    assert len(list((finished / "dataset" / "labelsTr").glob("*.nii.gz"))) == CASES
    assert json.loads((finished / "dataset" / "dataset.json").read_text())["labels"] == LABELS.to_dataset_json()
    assert (finished / "bundle" / "models" / "model.pt").is_file()
    assert (finished / "bundle" / "runs" / "fold_0" / "curve.png").is_file()
    masks = sorted((finished / "masks").glob("*.nii.gz"))
    assert len(masks) == NEW
    for mask in masks:
        image, true = (sitk.ReadImage(str(finished / place / mask.name)) for place in ("masks/images", "reference"))
        made = sitk.ReadImage(str(mask))
        # ITK-SNAP compares these exactly.
        for read in (made, true):
            assert read.GetSpacing() == image.GetSpacing()
            assert read.GetOrigin() == image.GetOrigin()
            assert read.GetDirection() == image.GetDirection()
        assert (finished / "pictures" / mask.name.replace(".nii.gz", ".png")).stat().st_size > 10_000
    assert (finished / "evaluation" / "evaluation.csv").is_file()
    assert not [path for path in finished.rglob("*") if ".partial-" in path.name]


def test_the_drawn_masks_lie_on_their_organs(finished: Path) -> None:
    """Found by place alone, each mask must fit the CT values of its image: the liver is soft tissue, not air."""
    for label in sorted((finished / "dataset" / "labelsTr").glob("*.nii.gz")):
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(label)))
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(finished / "dataset" / "imagesTs" / label.name)))
        inside = image[mask == 1]
        assert 30 < np.median(inside) < 130
        assert np.std(inside) < 60
        assert set(np.unique(mask)) == {0, 1, 2, 3, 4}


def test_nothing_names_a_phantom_as_patient(finished: Path) -> None:
    """Phantoms carry names in their DICOM; nothing made from them may."""
    for name in ("dataset", "bundle", "masks", "evaluation"):
        assert not [path for path, content in contents(finished / name).items() if b"phantom-0" in content]


def test_a_second_run_changes_nothing_and_says_where_to_look(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    trained_at = (finished / "bundle" / "models" / "model.pt").stat().st_mtime_ns
    adopted(finished / "bundle")  # each test has a config folder of its own
    assert main(["demo", str(finished), *OPTIONS]) == 0
    assert contents(finished) == before
    assert (finished / "bundle" / "models" / "model.pt").stat().st_mtime_ns == trained_at
    out = capsys.readouterr().out
    for line in out.splitlines():
        if line.strip().startswith("itksnap"):
            words = line.split()
            assert all(Path(word).is_file() for word in words[2::2])
            break
    else:
        pytest.fail("no line for ITK-SNAP")
    assert out.count(".png") == NEW
    assert "mean of the labels" in out


def test_masks_of_older_weights_are_made_again(finished: Path) -> None:
    masks = sorted((finished / "masks").glob("*.nii.gz"))
    for mask in masks:
        os.utime(mask, (1, 1))
    adopted(finished / "bundle")
    assert main(["demo", str(finished), *OPTIONS]) == 0
    assert all(mask.stat().st_mtime > 1 for mask in masks)


def test_other_phantoms_need_another_folder(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(finished), *OPTIONS, "--seed", "7"]) == 2
    assert "other phantoms" in capsys.readouterr().err


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", str(tmp_path), *OPTIONS]) == 2
    assert "holds no demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_full_disk_ends_it_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pydicom.dcmwrite", full)
    assert main(["demo", str(tmp_path), *OPTIONS]) == 2
    assert "No space is left on the disk" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["demo", str(tmp_path / "file"), *OPTIONS]) == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_a_cohort_needs_a_phantom(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one"):
        demo(tmp_path / "x", DemoOptions(new_cases=0))
    assert not (tmp_path / "x").exists()
