"""One split for each bundle, whatever becomes of its data set."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.heard import Heard
from volseg.dataset.dataset import read_dataset
from volseg.dataset.folds import Split, split_folds
from volseg.errors import DataSetError, UsageError, VolsegError
from volseg.training.record import RunRecord
from volseg.verbs.train import TrainOptions, side_by_side, train
from volseg.verbs.train.fold import Fold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle


@pytest.fixture
def data(cohort: Path, tmp_path: Path) -> Path:
    """A copy of the cohort that a test may change."""
    shutil.copytree(cohort, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def bundle(copy_bundle: CopyBundle, data: Path) -> Path:
    """A bundle whose epochs are one step of one volume."""
    return copy_bundle(steps_per_epoch=1, batch_size=1, dataset_dir=str(data))


def add(data: Path, name: str, seed: int) -> None:
    for folder in ("imagesTr", "labelsTr"):
        image = nibabel.load(data / folder / "case_00.nii.gz")
        voxels = np.asarray(image.dataobj)
        if folder == "imagesTr":
            voxels = voxels + np.float32(seed)
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), data / folder / f"{name}.nii.gz")


def held_out(bundle: Path, fold: int) -> list[str]:
    return list(RunRecord.read(bundle / "runs" / f"fold_{fold}" / "training.json").cases.validation)


def test_cases_that_come_later_are_in_no_fold_and_none_is_held_out_twice(bundle: Path, data: Path) -> None:
    one = TrainOptions(fold=0, epochs=1)
    train(bundle, one)
    for number in range(3):
        add(data, f"a_new_{number}", number + 1)
    heard = Heard()
    train(bundle, TrainOptions(cv=True, epochs=1, at_once=1), heard)
    (line,) = [line for line in heard.lines if "came to the data set" in line]
    assert line.startswith("3 cases came to the data set after it was split: no fold trains on them or holds them out")
    assert line.endswith("(a_new_0 for one). --fresh --cv splits anew.")
    names = sorted(name for fold in range(5) for name in held_out(bundle, fold))
    assert names == [f"case_{n:02d}" for n in range(10)]
    train(bundle, TrainOptions(cv=True, epochs=1, fresh=True, at_once=1))
    names = sorted(name for fold in range(5) for name in held_out(bundle, fold))
    assert names == sorted([*(f"case_{n:02d}" for n in range(10)), *(f"a_new_{n}" for n in range(3))])


def test_a_cross_validation_of_fewer_patients_than_folds_has_a_fold_for_each(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted((data / "labelsTr").iterdir())[3:]:
        path.unlink()
        (data / "imagesTr" / path.name).unlink()
    trained: list[Fold] = []

    def train_all(folds: list[Fold], *_: object) -> dict[str, Fold]:
        trained.extend(folds)
        return {fold.name: fold for fold in folds}

    monkeypatch.setattr(side_by_side, "train_all", train_all)
    heard = Heard()
    train(bundle, TrainOptions(cv=True, epochs=1), heard)
    assert [fold.number for fold in trained] == [0, 1, 2]
    assert len(Split.read(bundle / "runs" / "folds.json").folds) == 3
    assert any(line.startswith("3 folds instead of 5: ") for line in heard.lines)


def test_the_split_is_the_one_of_the_cases_names_where_all_have_the_same_labels(bundle: Path, data: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    split = Split.read(bundle / "runs" / "folds.json")
    assert split.folds == split_folds(read_dataset(data).training)


def test_labels_that_few_cases_have_are_spread(bundle: Path, data: Path) -> None:
    having = {f"case_{n:02d}" for n in range(5)}
    for n in range(5, 10):
        path = data / "labelsTr" / f"case_{n:02d}.nii.gz"
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj).copy()
        voxels[voxels == 2] = 1
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), path)
    train(bundle, TrainOptions(epochs=1))
    assert [len(having.intersection(fold)) for fold in Split.read(bundle / "runs" / "folds.json").folds] == [1] * 5


def test_a_split_is_imported(bundle: Path, tmp_path: Path) -> None:
    rows = [f"case_{n:02d},{n % 3}" for n in range(9)]
    (tmp_path / "mine.csv").write_text("\n".join(["case,fold", *rows, "case_09,"]) + "\n")
    results = train(bundle, TrainOptions(cv=True, epochs=1, at_once=1, folds=tmp_path / "mine.csv"))
    assert [result.name for result in results] == ["fold_0", "fold_1", "fold_2"]
    assert held_out(bundle, 1) == ["case_01", "case_04", "case_07"]
    assert all(result.training == 7 for result in results)
    written = json.loads((bundle / "runs" / "folds.json").read_text())
    assert [fold["val"] for fold in written] == [[f"case_{n:02d}" for n in range(9) if n % 3 == k] for k in range(3)]
    # It stays without being named again.
    with pytest.raises(UsageError, match="no fold 3: the folds are 0 to 2"):
        train(bundle, TrainOptions(fold=3, epochs=1))
    assert train(bundle, TrainOptions(cv=True))[2].already


def test_another_split_than_the_one_that_folds_were_trained_by_is_refused(bundle: Path, tmp_path: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    (tmp_path / "mine.csv").write_text("case,fold\n" + "".join(f"case_{n:02d},{n % 2}\n" for n in range(10)))
    before = (bundle / "runs" / "folds.json").read_bytes()
    for fold in (0, 1):
        with pytest.raises(DataSetError, match=r"fold_0 .* another split than this.*--fresh --cv") as caught:
            train(bundle, TrainOptions(fold=fold, folds=tmp_path / "mine.csv", epochs=2))
        assert caught.value.code == "folds-differ"
    assert (bundle / "runs" / "folds.json").read_bytes() == before
    results = train(bundle, TrainOptions(cv=True, fresh=True, at_once=1, folds=tmp_path / "mine.csv", epochs=1))
    assert [result.validation for result in results] == [5, 5]


def test_an_edited_split_is_refused_and_a_lost_one_made_again(bundle: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    path = bundle / "runs" / "folds.json"
    before = path.read_bytes()
    path.unlink()
    train(bundle, TrainOptions(fold=1, epochs=1))
    assert path.read_bytes() == before
    folds = Split.read(path)
    Split(folds.cases, (folds.folds[1], folds.folds[0], *folds.folds[2:])).write(path)
    with pytest.raises(DataSetError, match="another split"):
        train(bundle, TrainOptions(fold=2, epochs=1))
    path.write_text("{}")
    with pytest.raises(VolsegError, match="is not a JSON list of folds"):
        train(bundle, TrainOptions(fold=2, epochs=1))


@pytest.mark.parametrize(
    ("rows", "code"),
    [(["case_00,0", "ghost,1"], "folds-unknown-case"), (["case_00,0", "case_01,1"], "folds-part-patient")],
)
def test_an_imported_split_has_to_fit(bundle: Path, data: Path, tmp_path: Path, rows: list[str], code: str) -> None:
    (data / "patients.csv").write_text("case,patient\n" + "".join(f"case_{n:02d},p{n // 2}\n" for n in range(10)))
    (tmp_path / "mine.csv").write_text("\n".join(["case,fold", *rows]) + "\n")
    with pytest.raises(DataSetError) as caught:
        train(bundle, TrainOptions(epochs=1, folds=tmp_path / "mine.csv"))
    assert caught.value.code == code
    assert not (bundle / "runs" / "folds.json").exists()


def test_patients_who_became_known_later_are_told(bundle: Path, data: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    split = Split.read(bundle / "runs" / "folds.json")
    pair = {split.folds[0][0]: "p", split.folds[1][0]: "p"}
    rows = "".join(f"case_{n:02d},{pair.get(f'case_{n:02d}', n)}\n" for n in range(10))
    (data / "patients.csv").write_text(f"case,patient\n{rows}")
    heard = Heard()
    train(bundle, TrainOptions(epochs=2), heard)
    assert any(line.startswith("The folds part cases of one patient (") for line in heard.lines)


def test_all_cases_need_no_split(bundle: Path) -> None:
    train(bundle, TrainOptions(all_cases=True, epochs=1))
    assert not (bundle / "runs" / "folds.json").exists()


def test_a_mask_that_changed_under_its_name_is_told_and_recorded(bundle: Path, data: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    before = RunRecord.read(bundle / "runs" / "fold_0" / "training.json")
    path = data / "labelsTr" / "case_03.nii.gz"
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), path)
    heard = Heard()
    train(bundle, TrainOptions(fold=1, epochs=1), heard)  # another fold, whose scores would stand beside the first's
    assert sum("1 case changed after fold_0 was trained (case_03" in line for line in heard.lines) == 1
    train(bundle, TrainOptions(epochs=2), heard)
    assert any(
        line.startswith("The voxels of 1 case changed after this run was begun (case_03") for line in heard.lines
    )
    after = RunRecord.read(bundle / "runs" / "fold_0" / "training.json")
    assert before.cases == after.cases
    assert [session.checksums["data"] for session in after.sessions] == [before.data_sha256, after.data_sha256]
    assert before.data_sha256 != after.data_sha256
    first = after.sessions[0]
    assert first.options["epochs"] == 1
    assert first.device.startswith("cpu")
    assert set(first.checksums) == {"data", "split", "configs/train", "resolved_model"}
