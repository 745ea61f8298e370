"""Training by MONAI's own runner: it comes to weights that inference loads, and leaves volseg's alone otherwise."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from volseg.bundle.folder import open_bundle
from volseg.bundle.published import Published
from volseg.bundle.weights import inference_network, read_state_dict
from volseg.cli.main import main
from volseg.errors import BundleError
from volseg.training import Budget, BudgetedRate, Standalone, WeightAverage
from volseg.verbs.predict import predict

if TYPE_CHECKING:
    from tests.conftest import CopyBundle


def run_with_monai(bundle: Path, epochs: int) -> None:
    """What ``python -m monai.bundle run`` does in the bundle's folder, which a test of predict runs as a command."""
    with pytest.MonkeyPatch.context() as inside, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own
        inside.chdir(bundle)
        monai.bundle.run(meta_file="configs/metadata.json", config_file="configs/train.yaml", max_epochs=epochs)


def test_monai_s_runner_trains_a_model_that_inference_loads(
    copy_bundle: CopyBundle,
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = copy_bundle(learning_rate=0.01)
    run_with_monai(bundle, 12)
    described = inference_network(open_bundle(bundle))
    assert described is not None
    assert set(torch.load(bundle / "models" / "model.pt", weights_only=True)) == set(described.state_dict())
    assert sorted(path.name for path in (bundle / "models").iterdir()) == ["model.pt"]
    assert not (bundle / "runs").exists()
    # It learned what the images show: a core inside a shell.
    assert predict(bundle, cohort, tmp_path / "masks").exit_code == 0
    mask, image = (
        np.asarray(nibabel.load(folder / "case_10.nii.gz").dataobj)
        for folder in (tmp_path / "masks", cohort / "imagesTs")
    )
    assert np.mean((mask > 0) == (image > 150)) > 0.95
    # volseg takes it for no run of its own.
    capsys.readouterr()
    assert main(["train", str(bundle), "--data", str(cohort), "--epochs", "1"]) == 0
    said = capsys.readouterr()
    assert "is of no run of this bundle. It stays" in said.err


def test_a_model_that_another_program_trained_is_not_taken_for_the_run_s(
    copy_bundle: CopyBundle, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle(trained=True)
    model = bundle / "models" / "model.pt"
    published = model.read_bytes()
    assert not (bundle / "models" / "model_before.pt").exists()  # volseg train leaves the handler out
    run_with_monai(bundle, 1)
    assert (bundle / "models" / "model_before.pt").read_bytes() == published
    record = Published.read(open_bundle(bundle))
    assert record is not None
    assert not record.is_of(model)
    main(["check", str(bundle)])
    assert "changed under its name" in capsys.readouterr().out
    assert main(["train", str(bundle), "--data", str(cohort)]) == 0  # complete before
    assert "The bundle's model is that of fold_0" not in capsys.readouterr().out
    assert main(["train", str(bundle), "--data", str(cohort), "--publish"]) == 0
    assert model.read_bytes() == published


class _Evaluator(Engine):
    """Scores by turns 0.1, 0.9, 0.5; volseg asks it no more than this."""

    def __init__(self, network: torch.nn.Module, cases: int = 1) -> None:
        super().__init__(lambda *_: None)
        self.data_loader = list(range(cases))
        self.scores = iter((0.1, 0.9, 0.5))
        self.seen: list[float] = []
        self.add_event_handler(Events.COMPLETED, self._score, network)

    def run(self, *_: Any) -> Any:
        return super().run(self.data_loader, max_epochs=1)

    def _score(self, _: Engine, network: torch.nn.Module) -> None:
        self.state.key_metric_name = "dice"
        self.state.metrics = {"dice": next(self.scores)}
        self.seen.append(float(network.weight.detach()))


def _trainer(network: torch.nn.Linear, path: Path | None, *, cases: int = 1) -> tuple[Engine, _Evaluator, Budget, Any]:
    """Adds 1 to the network's only weight at each of four steps of an epoch."""

    def step(*_: object) -> None:
        with torch.no_grad():
            network.weight += 1

    trainer, evaluator = Engine(step), _Evaluator(network, cases)
    budget = Budget(1000, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    BudgetedRate(optimizer, budget, warm_up=0).attach(trainer)
    Standalone(budget, WeightAverage(network, decay=0), evaluator, path, leave_out=["bias"]).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run() if cases else None)
    return trainer, evaluator, budget, optimizer


@pytest.fixture
def network() -> torch.nn.Linear:
    network = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(network.weight)
    return network


def test_the_best_weights_are_kept_and_the_rate_follows_the_trainer_s_own_length(
    network: torch.nn.Linear, tmp_path: Path
) -> None:
    trainer, evaluator, budget, optimizer = _trainer(network, tmp_path / "model.pt")
    trainer.run(range(4), max_epochs=3)
    assert evaluator.seen == [4, 8, 12]
    assert {name: float(value) for name, value in read_state_dict(tmp_path / "model.pt").items()} == {"weight": 8.0}
    assert (budget.steps, budget.fraction) == (12, 1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx((1 / 12) ** 0.9)


def test_without_held_out_cases_the_last_weights_are_written(network: torch.nn.Linear, tmp_path: Path) -> None:
    trainer, evaluator, *_ = _trainer(network, tmp_path / "model.pt", cases=0)
    trainer.run(range(4), max_epochs=2)
    assert evaluator.seen == []
    assert float(read_state_dict(tmp_path / "model.pt")["weight"]) == 8.0


def test_nothing_happens_without_a_path(network: torch.nn.Linear, tmp_path: Path) -> None:
    trainer, _, budget, _ = _trainer(network, None)
    trainer.run(range(4), max_epochs=1)
    assert budget.steps == 0
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers_are_never_written(network: torch.nn.Linear, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"before")
    trainer, *_ = _trainer(network, tmp_path / "model.pt")
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: network.weight.data.fill_(torch.nan))
    with pytest.raises(BundleError, match="no numbers any more"):
        trainer.run(range(4), max_epochs=1)
    assert (tmp_path / "model.pt").read_bytes() == b"before"
