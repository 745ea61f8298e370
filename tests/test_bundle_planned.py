"""Training reads the data set that a person named or planned for, and none that a stranger's config names."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from volseg.bundle.planned import is_planned, remember_plan
from volseg.bundle.trust import judge, record_trust
from volseg.cli.main import main
from volseg.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CopyBundle, MakeBundle


def test_a_plan_is_of_one_bundle_and_one_data_set_in_their_places(tmp_path: Path) -> None:
    bundle, data = tmp_path / "bundle", tmp_path / "data"
    assert not is_planned(bundle, data)
    remember_plan(bundle, data)
    remember_plan(bundle, data)
    assert is_planned(bundle, data)
    assert is_planned(tmp_path / "data" / ".." / "bundle", data)
    assert not is_planned(data, bundle)
    assert not is_planned(bundle, tmp_path)


def test_a_plan_trusts_no_bundle(make_bundle: MakeBundle, tmp_path: Path) -> None:
    from volseg.bundle.folder import Bundle

    root = make_bundle()
    remember_plan(root, tmp_path / "data")
    with (root / "configs" / "train.yaml").open("a") as file:
        file.write("x: $1\n")
    assert not judge(Bundle(root)).may_run


def test_train_reads_no_data_that_a_config_alone_names(
    planned_bundle: Path,
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = tmp_path / "from_elsewhere"
    shutil.copytree(planned_bundle, bundle)
    path = bundle / "configs" / "train.yaml"
    lines = [
        line if not line.startswith("dataset_dir:") else f"dataset_dir: {cohort}"
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines) + "\n")

    import volseg.training.items  # it keeps the function that it found when it was imported

    assert volseg.training.items.read_dataset

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("read")

    monkeypatch.setattr("volseg.dataset.dataset.read_dataset", refuse)
    assert main(["train", str(bundle), "--epochs", "1"]) == 2
    error = capsys.readouterr().err
    assert f"names the data set {cohort}" in error
    assert f"--data {cohort}" in error
    assert main(["check", str(bundle)]) == 0
    assert not (bundle / "runs" / "fold_0").exists()


def test_a_trusted_bundle_and_a_planned_one_bring_their_data(copy_bundle: CopyBundle, cohort: Path) -> None:
    from volseg.bundle.folder import Bundle

    bundle = copy_bundle(steps_per_epoch=1, batch_size=1)
    assert is_planned(bundle, cohort)
    other = copy_bundle("other", steps_per_epoch=1, batch_size=1)
    other = other.rename(other.with_name("moved"))
    assert not is_planned(other, cohort)
    with (other / "configs" / "train.yaml").open("a") as file:
        file.write("x: $1\n")
    record_trust(judge(Bundle(other)))
    for root in (bundle, other):
        assert main(["train", str(root), "--epochs", "1"]) == 0


def test_a_plan_that_can_not_be_recorded_is_made(
    cohort: Path, tmp_path: Path, trust_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust_store.write_text("{")
    assert main(["plan", str(cohort), str(tmp_path / "bundle")]) == 0
    assert "--data" in capsys.readouterr().err
    assert (tmp_path / "bundle" / "configs" / "train.yaml").is_file()
    with pytest.raises(FileError):
        is_planned(tmp_path / "bundle", cohort)
