"""Runs that a bundle brings are gone on with where they were made here, or taken over."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from volseg.bundle.own_runs import is_own_run, remember_run
from volseg.cli.main import main
from volseg.errors import BundleError
from volseg.verbs.train import TrainOptions, train

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_is_known_by_its_place_alone(tmp_path: Path, trust_store: Path) -> None:
    run = tmp_path / "runs" / "fold_0"
    assert not is_own_run(run)
    remember_run(run)
    assert is_own_run(run.parent / "x" / ".." / "fold_0")
    assert not is_own_run(run.with_name("fold_1"))
    (trust_store.parent / "runs").chmod(0o777)  # anybody may add one
    assert not is_own_run(run)


def test_no_home_knows_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(tmp_path / "nowhere" / "at all"))
    assert not is_own_run(tmp_path)


@pytest.fixture
def from_elsewhere(trained_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with a complete run of fold 0, as somebody hands it on, and with scores that are none of it."""
    bundle = tmp_path / "from_elsewhere"
    shutil.copytree(trained_bundle, bundle)
    (bundle / "runs" / "cross_validation.json").write_text("{")
    return bundle


@pytest.mark.parametrize("options", [{}, {"publish": True}, {"epochs": 13}, {"cv": True}, {"fresh": True}, {"fold": 1}])
def test_a_strangers_runs_are_refused(from_elsewhere: Path, cohort: Path, options: dict[str, bool]) -> None:
    before = {path: path.read_bytes() for path in from_elsewhere.rglob("*") if path.is_file()}
    with pytest.raises(BundleError, match=r"not made here.*--adopt-runs.*--fresh --cv") as told:
        train(from_elsewhere, TrainOptions(data=cohort, **options))  # type: ignore[arg-type]
    assert told.value.code == "not-own-runs"
    assert {path: path.read_bytes() for path in from_elsewhere.rglob("*") if path.is_file()} == before


def test_all_cases_needs_no_run_of_others(from_elsewhere: Path, cohort: Path) -> None:
    (result,) = train(from_elsewhere, TrainOptions(data=cohort, all_cases=True, epochs=1))
    assert result.complete
    table = (from_elsewhere / "docs" / "README.md").read_text()
    assert "| validation Dice | all_cases |" in table  # and not the stranger's fold


def test_a_moved_bundle_is_taken_over_once(from_elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(from_elsewhere)]) == 2
    assert "--adopt-runs" in capsys.readouterr().err
    assert main(["train", str(from_elsewhere), "--adopt-runs"]) == 0
    assert main(["train", str(from_elsewhere)]) == 0
    assert "already complete" in capsys.readouterr().out


def test_a_fresh_run_by_an_adopted_split_is_this_persons(from_elsewhere: Path, cohort: Path) -> None:
    (result,) = train(from_elsewhere, TrainOptions(data=cohort, fresh=True, adopt_runs=True, epochs=1))
    assert [row.step for row in result.history] == [4]
    assert json.loads((from_elsewhere / "models" / "published.json").read_text())["steps"] == 4
    assert train(from_elsewhere, TrainOptions(data=cohort))[0].already
