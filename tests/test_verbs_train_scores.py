"""The scores in the bundle's own README."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.training import autocast, precision
from volseg.training.history import best_epoch, read_history
from volseg.training.record import RunRecord
from volseg.verbs.train import TrainOptions, train

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle


@pytest.fixture
def bundle(copy_bundle: CopyBundle) -> Path:
    """A bundle whose epochs are one step of one volume."""
    return copy_bundle(steps_per_epoch=1, batch_size=1)


def test_the_scores_of_each_run_stand_between_the_marks_and_nothing_else_changes(bundle: Path) -> None:
    readme = bundle / "docs" / "README.md"
    text = readme.read_text().replace("# bundle", "# my own title").replace("## Use", "## How I use it\n\nlike \xff so")
    readme.write_text(text)
    train(bundle, TrainOptions(epochs=1))
    train(bundle, TrainOptions(fold=1, epochs=2))
    after = readme.read_text()
    begin, end = text.index("<!-- written by volseg train -->"), text.index("<!-- to here -->")
    assert after.startswith(text[:begin])
    assert after.endswith(text[end:])
    lines = after.splitlines()
    assert "| validation Dice | fold_0 | fold_1 |" in lines
    expected = []
    for fold in (0, 1):
        best = best_epoch(read_history(bundle / "runs" / f"fold_{fold}" / "history.csv")[0])
        assert best is not None
        assert best.validation is not None
        expected.append(f"{best.validation.score:.3f}")
    assert f"| mean | {expected[0]} | {expected[1]} |" in lines
    assert any(line.startswith("| shell | ") for line in lines)
    assert "`models/model.pt` is the model of fold_0." in after


@pytest.mark.parametrize("change", [("<!-- written by volseg train -->", ""), ("<!-- to here -->", "")])
def test_where_the_marks_are_gone_a_person_s_text_stays(bundle: Path, change: tuple[str, str]) -> None:
    readme = bundle / "docs" / "README.md"
    readme.write_text(readme.read_text().replace(*change))
    before = readme.read_bytes()
    train(bundle, TrainOptions(epochs=1))
    assert readme.read_bytes() == before


def test_a_bundle_without_readme_is_trained(bundle: Path) -> None:
    (bundle / "docs" / "README.md").unlink()
    assert train(bundle, TrainOptions(epochs=1))[0].complete
    assert not (bundle / "docs" / "README.md").exists()


def test_what_bfloat16_changes_is_measured_and_said_of_the_model_that_is_there(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme, record = bundle / "docs" / "README.md", bundle / "runs" / "fold_0" / "training.json"
    for module in (autocast, precision):
        monkeypatch.setattr(module, "use_bfloat16", lambda _: True)
    monkeypatch.setattr(precision, "MAX_SHARE", 0.0)  # no time for a case
    train(bundle, TrainOptions(epochs=1))
    assert RunRecord.read(record).bfloat16_change is None
    assert "In bfloat16 it gives" not in readme.read_text()
    monkeypatch.setattr(precision, "MAX_SHARE", 1e6)
    monkeypatch.setattr(precision, "MAX_SECONDS", 1e6)
    train(bundle, TrainOptions(epochs=2))
    change = RunRecord.read(record).bfloat16_change
    assert change is not None
    assert change.cases == len(RunRecord.read(record).cases.validation)
    assert change.voxels > change.changed >= 0
    assert f"In bfloat16 it gives {change.changed:,} of {change.voxels:,} voxels (" in readme.read_text()
    # What an earlier part of the run measured is of another model.
    monkeypatch.setattr(precision, "MAX_SHARE", 0.0)
    train(bundle, TrainOptions(epochs=3))
    assert RunRecord.read(record).bfloat16_change is None
    assert "In bfloat16 it gives" not in readme.read_text()


def test_without_memory_for_float32_the_training_is_good_all_the_same(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (autocast, precision):
        monkeypatch.setattr(module, "use_bfloat16", lambda _: True)

    def short(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("volseg.verbs.train.session.measure_change", short)
    assert train(bundle, TrainOptions(epochs=1))[0].complete
    assert "In bfloat16 it gives" not in (bundle / "docs" / "README.md").read_text()
