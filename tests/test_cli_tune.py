"""``volseg tune``: what a person reads of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tuning import score_by
from volseg.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle


@pytest.fixture
def bundle(copy_bundle: CopyBundle) -> Path:
    return copy_bundle("a bundle", steps_per_epoch=2)


def test_a_table_says_what_was_tried_what_won_and_what_chance_does(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score_by(monkeypatch, lambda config, seed: (0.5 if config["learning_rate"] == 0.002 else 0.6) + 0.01 * seed)
    assert main(["tune", str(bundle), "--trials", "6", "--trial-epochs", "1"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0].split() == (
        "trial score state steps learning rate weight of ce patch width augmentation".split()  # noqa: SIM905
    )
    assert lines[1].split()[:6] == ["0", "0.5000", "complete", "4", "0.002", "1"]
    assert lines[2].split()[:4] == ["1", "(best)", "0.6000", "complete"]
    assert lines[5].split()[:6] == ["4", "0.5100", "0", "again", "4", "."]
    assert "The best is trial 1: mean Dice +0.1000 against the plan." in lines
    assert "Two trainings of the same settings differed by up to 0.0100." in lines
    assert lines[-1] == f"Next: volseg train '{bundle}'"
    assert "Trial 1: learning rate" in told.err
    assert main(["check", str(bundle)]) == 0
    capsys.readouterr()
    assert main(["tune", str(bundle), "--trials", "6"]) == 0
    assert "The search was complete" in capsys.readouterr().out


def test_chance_is_called_so(bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    score_by(monkeypatch, lambda config, seed: (0.5 if config["learning_rate"] == 0.002 else 0.51) + 0.02 * seed)
    assert main(["tune", str(bundle), "--trials", "6", "--trial-epochs", "1"]) == 0
    assert "this gain may be chance" in capsys.readouterr().out


def test_what_stops_a_search_is_told_by_its_exit_code(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(tmp_path / "none")]) == 2
    assert main(["tune", str(bundle), "--minutes", "5", "--trial-epochs", "2"]) == 2

    def stop(*_: object) -> float:
        raise KeyboardInterrupt

    score_by(monkeypatch, stop)
    capsys.readouterr()
    assert main(["tune", str(bundle), "--trials", "2", "--trial-epochs", "1"]) == 130
    assert "the same command goes on with it" in capsys.readouterr().err
