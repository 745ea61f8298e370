"""The scores in the bundle's own README."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.training.history import best_epoch, read_history
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
