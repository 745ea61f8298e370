"""Trackers: curves that go on, the picture of a case, and faults that cost no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from volseg.errors import UsageError
from volseg.training.checkpoint import RunFolder
from volseg.training.history import Epoch, Validation
from volseg.training.listeners import RunView
from volseg.training.listeners.trackers import MLflow, TensorBoard, Tracker, validation_picture
from volseg.verbs.train.options import TrainOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = tuple(Epoch(n, 3 * n, 0.1 * n, 0.01, 2.0 - n, Validation(0.1 * n, (0.2 * n, float("nan")))) for n in (1, 2, 3))


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Broken(Tracker):
    title = "Broken"
    told = 0

    def open(self) -> bool:
        return False

    def tell(self, step: int, figures: Mapping[str, float], picture: NDArray[np.uint8] | None) -> None:
        del step, figures, picture
        type(self).told += 1
        raise OSError("https://user:secret@server is gone")

    def close(self, *, complete: bool) -> None:
        del complete
        raise OSError


def engine() -> Engine:
    return Engine(lambda *_: None)


def case() -> dict[str, torch.Tensor]:
    """One voxel of label 2 in the reference at (0, 3, 1) and (0, 3, 2) in another plane of the prediction."""
    label, pred = torch.zeros(3, 2, 4, 5), torch.zeros(3, 2, 4, 5)
    label[2, 0, 3, 1] = pred[1, 1, 0, 1] = 1
    return {"image": torch.arange(40.0).reshape(1, 2, 4, 5), "label": label, "pred": pred}


def test_the_picture_is_a_slice_through_the_foreground() -> None:
    picture = validation_picture(case(), regions=False)
    assert picture is not None
    assert picture.shape == (4, 3 * 2, 3)
    coloured = np.ptp(picture.astype(int), axis=2) > 0
    # Rows go from the front (the last j) to the back; of the three panels the image has no colour.
    assert np.argwhere(coloured).tolist() == [[0, 2], [3, 5]]
    assert validation_picture({"image": torch.ones(1, 2, 2)}, regions=False) is None


def test_tensorboard_goes_on_with_the_same_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path / "fold_0")
    # Killed after the third epoch, of which no checkpoint knows; the second run makes it again.
    for history, rows in (((), ROWS), (ROWS[:2], ROWS[2:])):
        evaluator = Engine(lambda *_: [case()])
        tracker = TensorBoard(engine(), evaluator, Said())  # type: ignore[arg-type]
        tracker.began(RunView(folder, ("liver", "a/b"), history))
        for row in rows:
            evaluator.run([0, 1])
            tracker.epoch(row)
        tracker.end(complete=not history)
    found = EventAccumulator(str(folder.tensorboard))
    found.Reload()
    assert sorted(found.Tags()["scalars"]) == ["dice/1 liver", "learning_rate", "loss", "validation"]
    assert [event.step for event in found.Scalars("loss")] == [3, 6, 9]
    assert [event.step for event in found.Images(found.Tags()["images"][0])] == [3, 6, 9]
    folder.remove()
    assert not list(folder.folder.iterdir())


@pytest.mark.filterwarnings("ignore")  # of MLflow and SQLAlchemy, about their own insides
def test_mlflow_goes_on_with_the_same_run(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    folder, uri = RunFolder(tmp_path / "fold_0"), f"sqlite:///{tmp_path / 'mlflow.db'}"
    folder.folder.mkdir()
    said = Said()
    for history, row in ((ROWS[:1], ROWS[1]), (ROWS[:2], ROWS[2])):
        trainer = engine()
        trainer.state.max_epochs, trainer.state.epoch_length = 3, 3
        tracker = MLflow(trainer, None, said, uri=uri)
        tracker.began(RunView(folder, ("liver",), history))
        tracker.epoch(row)
        tracker.end(complete=True)
    assert not said.lines
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("volseg").experiment_id])
    assert [one.step for one in client.get_metric_history(run.info.run_id, "loss")] == [3, 6, 9]
    assert run.info.status == "FINISHED"


def test_a_tracker_that_fails_is_told_once_and_costs_nothing(tmp_path: Path) -> None:
    said = Said()
    tracker = Broken(engine(), None, said)  # type: ignore[arg-type]
    tracker.began(RunView(RunFolder(tmp_path), ("liver",)))
    for row in ROWS:
        tracker.epoch(row)
    tracker.end(complete=True)
    assert Broken.told == 1
    (line,) = said.lines
    assert "Training goes on" in line
    assert "secret" not in line


@pytest.mark.parametrize("word", ["wandb", "tensorboard:x", "mlflow:", "mlflow:file:///tmp/x", "mlflow:server"])
def test_words_that_name_no_tracker(word: str) -> None:
    with pytest.raises(UsageError, match="--track"):
        TrainOptions(track=word).require_sense()


def test_a_tracker_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.verbs.train.options.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r'pip install "volseg\[track\]"'):
        TrainOptions(track="mlflow").require_sense()
