"""A run through its budget: to the step, over interruptions, full disks and losses that are no numbers."""

from __future__ import annotations

import csv
import math
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanSquaredError, StatsHandler, from_engine
from monai.inferers import SlidingWindowInferer

from tests.heard import Heard
from volseg.errors import BundleError, DiskFullError
from volseg.progress import SILENT
from volseg.training import budget as budget_module
from volseg.training import validations
from volseg.training.autocast import AutocastInferer
from volseg.training.average import WeightAverage
from volseg.training.budget import MAX_RESERVE_SHARE, Budget, BudgetedRate
from volseg.training.checkpoint import RunFolder, RunState
from volseg.training.listeners import Listener
from volseg.training.listeners.checkpoint import Checkpoint
from volseg.training.run import Run
from volseg.training.timing import time_validation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

STEPS = 4
"""Of an epoch."""


class Network(torch.nn.Module):
    """One weight that is to become 2; ``interrupt`` is called with the number of the pass through it in training."""

    def __init__(self, interrupt: Callable[[int], object] = lambda _: None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.0))
        self.passes = 0
        self.interrupt = interrupt

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.passes += 1
            self.interrupt(self.passes)
        return image * self.weight


class Publisher(Listener):
    """Keeps what would be published."""

    def __init__(self, published: list[dict[str, torch.Tensor]]) -> None:
        self.published = published

    def improved(self, weights: Mapping[str, torch.Tensor], score: float | None, steps: int) -> None:
        del score, steps
        self.published.append({name: tensor.clone() for name, tensor in weights.items()})


@dataclass
class Bench:
    """A run with all that belongs to it."""

    folder: Path
    epochs: int = 3
    minutes: float | None = None
    interrupt: Callable[[int], object] = lambda _: None
    validates: bool = True
    held_out: list[dict[str, torch.Tensor]] = field(default_factory=list)
    score: Callable[[int], float] | None = None
    averages: bool = False
    optimizer: type[torch.optim.SGD] = torch.optim.SGD
    published: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        items = [{"image": torch.ones(1, 2, 2, 2), "label": torch.full((1, 2, 2, 2), 2.0)}] * (2 * STEPS)
        self.network = Network(self.interrupt)
        optimizer = self.optimizer(self.network.parameters(), lr=0.05, momentum=0.5)
        self.budget = Budget(self.epochs, STEPS, self.minutes)
        self.rate = BudgetedRate(optimizer, self.budget)
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=self.epochs if self.minutes is None else 10**9,
            train_data_loader=DataLoader(Dataset(items), batch_size=2, num_workers=0),
            network=self.network,
            optimizer=optimizer,
            loss_function=torch.nn.MSELoss(),
            train_handlers=[self.rate],
        )
        self.evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset(self.held_out or items[:1]), batch_size=1, num_workers=0),
            network=self.network,
            key_val_metric={"mse": MeanSquaredError(output_transform=from_engine(["pred", "label"]))},
        )
        if self.validates:
            self.trainer.add_event_handler(
                Events.EPOCH_COMPLETED, lambda engine: self.evaluator.run(engine.state.epoch)
            )
        if self.score is not None:
            score = self.score
            self.evaluator.add_event_handler(
                Events.COMPLETED, lambda engine: engine.state.metrics.update(mse=score(engine.state.epoch))
            )
        self.run = Run(
            folder=RunFolder(self.folder),
            trainer=self.trainer,
            evaluator=self.evaluator if self.validates else None,
            budget=self.budget,
            labels=("a",),
            listeners=(Publisher(self.published),),
            average=WeightAverage(self.network) if self.averages else None,
        )

    def saved(self) -> RunState:
        content = torch.load(self.folder / "last.pt", weights_only=True)
        return RunState.read(self.folder / "last.pt", content)

    def go(self, *, resume: bool = False) -> bool:
        state = self.saved() if resume else None
        if state is not None:
            self.run.resume(state)
        self.budget.start(
            before_seconds=state.seconds if state else 0.0,
            setup_seconds=state.setup_seconds if state else 0.0,
            steps=state.step if state else 0,
        )
        return self.run.go()


def at(step: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[int], None]:
    def interrupt(passes: int) -> None:
        if passes == step:
            raise error

    return interrupt


def test_a_run_ends_with_its_budget_and_leaves_all_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.go()
    assert bench.network.passes == 3 * STEPS
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"last.pt", "previous.pt", "best.pt", "final.pt", "history.csv", "curve.png"}
    state = bench.saved()
    assert (state.epoch, state.step, state.complete) == (3, 3 * STEPS, True)
    final = torch.load(tmp_path / "final.pt", weights_only=True)
    assert torch.equal(final["weight"], bench.network.weight)
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["epoch"]), int(row["step"])) for row in rows] == [(1, 4), (2, 8), (3, 12)]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[-1]["learning_rate"]) < 0.05 * 0.15  # of the last of twelve steps


@pytest.mark.parametrize("step", [1, 3, STEPS, STEPS + 1, 3 * STEPS])
def test_an_interrupted_step_is_made_again_and_none_is_lost(tmp_path: Path, step: int) -> None:
    bench = Bench(tmp_path, interrupt=at(step))
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    state = bench.saved()
    assert (state.step, state.epoch, state.complete) == (step - 1, (step - 1) // STEPS, False)

    resumed = Bench(tmp_path)
    assert resumed.go(resume=True)
    assert resumed.network.passes == 3 * STEPS - (step - 1)
    assert resumed.saved().step == 3 * STEPS
    assert resumed.saved().complete
    assert resumed.run.history[-1].epoch == 3

    # The same steps with the same rates as without the interruption.
    whole = Bench(tmp_path / "whole")
    whole.go()
    torch.testing.assert_close(resumed.network.weight, whole.network.weight)


def test_many_interruptions_add_up(tmp_path: Path) -> None:
    steps = 0
    for _ in range(5):
        bench = Bench(tmp_path, interrupt=at(3))
        with pytest.raises(KeyboardInterrupt):
            bench.go(resume=steps > 0)
        steps += 2
        assert bench.saved().step == steps
    last = Bench(tmp_path)
    assert last.go(resume=True)
    assert last.network.passes == 3 * STEPS - steps
    assert [row.step for row in last.run.history] == sorted(row.step for row in last.run.history)


def test_an_interrupted_last_validation_is_all_that_is_left_to_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path, epochs=1)
    bench.trainer._event_handlers.clear()  # no validation but the last
    bench.rate.attach(bench.trainer)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    bench.evaluator.add_event_handler(Events.ITERATION_COMPLETED, interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert not bench.saved().complete
    assert bench.saved().step == STEPS
    resumed = Bench(tmp_path, epochs=1)
    assert resumed.go(resume=True)
    assert resumed.network.passes == 0
    assert resumed.saved().complete
    assert (tmp_path / "best.pt").is_file()
    assert resumed.run.history[-1].validation is not None


def test_a_handler_that_listens_to_exceptions_does_not_swallow_the_interrupt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, interrupt=at(3))
    StatsHandler(tag_name="loss", output_transform=from_engine(["loss"], first=True)).attach(bench.trainer)
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert bench.saved().step == 2


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path, interrupt=at(STEPS + 2))
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    before = (tmp_path / "last.pt").read_bytes()

    def poison(passes: int) -> None:
        if passes == 2:
            with torch.no_grad():
                broken.network.weight.fill_(math.nan)

    broken = Bench(tmp_path, interrupt=poison)
    with pytest.raises(BundleError, match=f"The loss became nan at step {STEPS + 3}") as caught:
        broken.go(resume=True)
    assert caught.value.code == "loss-not-finite"
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize("part", ["image", "label"])
def test_data_that_are_no_numbers_are_told_as_such_and_cost_no_step(tmp_path: Path, part: str) -> None:
    bench = Bench(tmp_path)

    def poison(engine: Any) -> None:
        if engine.state.iteration == STEPS + 3:
            engine.state.batch = dict(engine.state.batch) | {part: torch.full((2, 1, 2, 2, 2), math.nan)}

    bench.trainer.add_event_handler(Events.ITERATION_STARTED, poison)
    with pytest.raises(BundleError, match=f"nan at step {STEPS + 3}: the {part} of that batch has numbers") as caught:
        bench.go()
    assert caught.value.code == "loss-not-finite"
    assert bench.saved().step == STEPS + 2
    assert Bench(tmp_path).go(resume=True)


def test_a_loss_that_breaks_by_itself_is_told_and_the_weights_before_it_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    whole = bench.trainer.loss_function
    bench.trainer.loss_function = lambda pred, label: (
        whole(pred, label) * (math.inf if bench.trainer.state.iteration == 3 else 1)
    )
    with pytest.raises(BundleError, match=r"inf at step 3\. The loss made it out of finite data, weights and outputs"):
        bench.go()
    state = bench.saved()
    assert state.step == 2
    assert math.isfinite(state.network["weight"])


def test_patience_ends_a_run_and_is_remembered(tmp_path: Path) -> None:
    bench = Bench(tmp_path, epochs=9, score={1: 0.3, 2: 0.8, 3: 0.5, 4: 0.7, 5: 0.9}.__getitem__)
    bench.run.patience = 2
    bench.run.progress = heard = Heard()
    assert bench.go()
    state = bench.saved()
    assert (state.epoch, state.complete, state.is_early, state.patience) == (4, True, True, 2)
    assert "No better validation in 2 epochs; training ends here." in heard.lines


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step whose loss is the first to tell comes after the epoch that would be saved."""
    monkeypatch.setattr("volseg.training.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("volseg.training.run.SAVE_SHARE", math.inf)
    bench = Bench(tmp_path)

    def poison(engine: Any) -> None:
        if engine.state.iteration == 2 * STEPS:
            with torch.no_grad():
                bench.network.weight.fill_(math.inf)

    bench.trainer.add_event_handler(Events.ITERATION_COMPLETED, poison)
    with pytest.raises(BundleError, match=f"The weight weight is no number any more after step {2 * STEPS}") as caught:
        bench.go()
    assert caught.value.code == "loss-not-finite"
    assert bench.saved().step == 2 * STEPS - 1


def test_the_loss_of_the_very_last_step_is_looked_at(tmp_path: Path) -> None:
    def poison(passes: int) -> None:
        if passes == STEPS:
            with torch.no_grad():
                bench.network.weight.fill_(math.inf)

    bench = Bench(tmp_path, epochs=1, interrupt=poison)
    with pytest.raises(BundleError, match=f"step {STEPS}"):
        bench.go()
    assert not (tmp_path / "final.pt").exists()


@pytest.mark.parametrize("averages", [False, True])
def test_weights_that_are_no_numbers_are_never_published(tmp_path: Path, averages: bool) -> None:
    """However well they score: a mask of background alone may be better than nothing."""
    bench = Bench(tmp_path, score=lambda epoch: epoch / 10, averages=averages)

    def poison(engine: Any) -> None:
        if engine.state.iteration == 2 * STEPS:
            with torch.no_grad():
                bench.network.weight.fill_(math.nan)
            if bench.run.average is not None:
                bench.run.average.update()

    # Before the handler that validates, which comes at the end of the epoch.
    bench.trainer.add_event_handler(Events.ITERATION_COMPLETED, poison)
    with pytest.raises(BundleError, match=f"The weight weight is no number any more after step {2 * STEPS}"):
        bench.go()
    assert [math.isfinite(weights["weight"]) for weights in bench.published] == [True]
    assert math.isfinite(torch.load(tmp_path / "best.pt", weights_only=True)["weight"])


@pytest.mark.parametrize("part", ["network", "optimizer"])
def test_a_checkpoint_with_numbers_that_are_not_finite_is_not_gone_on_from(tmp_path: Path, part: str) -> None:
    Bench(tmp_path).go()
    state = Bench(tmp_path).saved()
    if part == "network":
        state.network["weight"].fill_(math.inf)
    else:
        state.optimizer["state"][0]["momentum_buffer"].fill_(math.nan)
    with pytest.raises(BundleError, match=rf"last\.pt: {part}\..* not finite.*--fresh") as caught:
        Bench(tmp_path, epochs=5).run.resume(state)
    assert caught.value.code == "not-finite"


def test_the_best_validation_is_kept_and_published(tmp_path: Path) -> None:
    bench = Bench(tmp_path, epochs=4, score={1: 0.3, 2: 0.8, 3: 0.5, 4: math.nan}.__getitem__)
    after_epoch: dict[int, torch.Tensor] = {}
    bench.trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: after_epoch.update({engine.state.epoch: bench.network.weight.detach().clone()}),
    )
    bench.go()
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert torch.equal(best["weight"], after_epoch[2])
    assert [float(weights["weight"]) for weights in bench.published] == pytest.approx(
        [float(after_epoch[1]), float(after_epoch[2])]
    )
    assert [row.validation.score for row in bench.run.history if row.validation][1] == 0.8


def test_a_resumed_run_keeps_the_better_of_the_earlier_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, score=lambda _: 0.9, interrupt=at(STEPS + 1))
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    before = (tmp_path / "best.pt").read_bytes()
    resumed = Bench(tmp_path, score=lambda _: 0.7)
    assert resumed.go(resume=True)
    assert (tmp_path / "best.pt").read_bytes() == before
    (again,) = resumed.published  # for a run that was killed before it got there
    assert torch.equal(again["weight"], torch.load(tmp_path / "best.pt", weights_only=True)["weight"])


def test_without_validation_the_last_weights_are_the_best(tmp_path: Path) -> None:
    bench = Bench(tmp_path, validates=False)
    assert bench.go()
    assert len(bench.published) == 1
    assert torch.equal(bench.published[0]["weight"], bench.network.weight)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert torch.equal(best["weight"], bench.network.weight)


def test_scores_that_are_no_numbers_leave_the_last_weights(tmp_path: Path) -> None:
    bench = Bench(tmp_path, score=lambda _: math.nan)
    assert bench.go()
    assert len(bench.published) == 1


def test_an_average_is_what_is_validated_and_published(tmp_path: Path) -> None:
    bench = Bench(tmp_path, averages=True)
    seen = []
    bench.evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda _: seen.append(bench.network.weight.item()))
    assert bench.go()
    assert bench.run.average is not None
    average = bench.run.average.state_dict()["weight"]
    assert seen[-1] == pytest.approx(float(average))
    assert float(average) != pytest.approx(bench.network.weight.item(), abs=1e-3)
    assert torch.equal(torch.load(tmp_path / "final.pt", weights_only=True)["weight"], average)
    assert torch.equal(bench.saved().network["weight"], bench.network.weight)


def test_an_interrupt_inside_a_validation_saves_the_network_not_its_average(tmp_path: Path) -> None:
    bench = Bench(tmp_path, averages=True)
    own: list[torch.Tensor] = []

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    bench.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda _: own.append(bench.network.weight.detach().clone())
    )
    bench.evaluator.add_event_handler(Events.ITERATION_COMPLETED, interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert torch.equal(bench.saved().network["weight"], own[-1])


def test_minutes_end_a_run_wherever_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, minutes=0.05)
    assert bench.go()
    state = bench.saved()
    assert state.complete
    assert (1 - MAX_RESERVE_SHARE) * 3 <= state.seconds < 20
    assert bench.run.history[-1].learning_rate < 0.05 * 0.1
    assert bench.run.history[-1].validation is not None


def test_minutes_that_are_over_before_the_first_step_still_make_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, minutes=1e-9)
    assert bench.go()
    assert bench.network.passes == 1
    assert (tmp_path / "best.pt").is_file()


@pytest.mark.parametrize(("fits", "looked_at"), [(8, [1, 2, 3, 4, 5, 6, 7, 8]), (3, [1, 2, 3]), (0, [])])
def test_validations_look_at_as_many_cases_as_the_minutes_have_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int, looked_at: list[int]
) -> None:
    monkeypatch.setattr(validations, "time_validation", lambda *_: 80.0)
    monkeypatch.setattr(budget_module, "SHORT_SECONDS", 10.0 * fits)
    items = [{"image": torch.full((1, 2, 2, 2), float(n)), "label": torch.zeros(1, 2, 2, 2)} for n in range(1, 9)]
    seen: list[int] = []

    def look(engine: Any) -> None:
        seen.extend(int(item["image"].max()) for item in engine.state.batch)

    bench = Bench(tmp_path, minutes=1e-9, held_out=items)
    bench.evaluator.add_event_handler(Events.ITERATION_COMPLETED, look)
    bench.run.progress = heard = Heard()
    assert bench.go()
    assert seen == looked_at
    some = None if fits == 8 else fits
    assert (bench.run.validated, bench.saved().validated) == (some, some)
    told = [line for line in heard.lines if "cases held out" in line]
    assert len(told) == (some is not None)
    assert (tmp_path / "best.pt").is_file()
    if not fits:
        assert "none is made" in told[0]
        assert bench.saved().best_score is None
    again = Bench(tmp_path, minutes=5.0, held_out=items)  # goes on with the same cases, whose scores compare
    again.evaluator.add_event_handler(Events.ITERATION_COMPLETED, look)
    seen.clear()
    again.run.resume(bench.saved())
    assert again.run.validated == (some or None)
    again.evaluator.run(1)
    assert seen == (looked_at or [1, 2, 3, 4, 5, 6, 7, 8])


def test_a_last_validation_that_would_come_too_late_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Budget, "has_time_to_validate", property(lambda budget: budget.steps < STEPS + 1))
    bench = Bench(tmp_path, epochs=2, interrupt=lambda passes: passes == STEPS + 2 and bench.trainer.terminate())
    bench.run.progress = heard = Heard()
    bench.go()
    assert bench.run.history[-1].validation is None
    assert bench.run.history[0].validation is not None
    assert any("There is no time left for a validation" in line for line in heard.lines)


def test_a_checkpoint_that_can_t_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, interrupt=at(2))
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(folder: RunFolder, state: object) -> None:
        del state
        raise DiskFullError(f"No space is left on the disk to write {folder.last}.")

    monkeypatch.setattr("volseg.training.listeners.checkpoint.write_state", full)
    with pytest.raises(DiskFullError):
        Bench(tmp_path, interrupt=at(2)).go(resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, epochs=1)
    bench.go()
    state: Any = bench.saved()
    for change in ({"network": {"other": torch.zeros(1)}}, {"optimizer": {"state": {}, "param_groups": []}}):
        with pytest.raises(BundleError, match=r"doesn't fit the network in train\.yaml") as caught:
            Bench(tmp_path).run.resume(RunState(**{**vars(state), **change}))
        assert caught.value.code == "bad-checkpoint"


def test_a_changed_optimizer_is_followed_or_refused(tmp_path: Path) -> None:
    """torch takes the settings of a checkpoint over those of the config, without a word."""
    Bench(tmp_path, epochs=1).go()
    other = Bench(tmp_path)
    other.trainer.optimizer.param_groups[0]["momentum"] = 0.25
    other.run.resume(other.saved())
    assert other.trainer.optimizer.param_groups[0]["momentum"] == 0.25
    other.trainer.optimizer = torch.optim.AdamW(other.network.parameters())
    with pytest.raises(BundleError, match="optimizer, which has changed since"):
        other.run.resume(other.saved())


def test_an_average_that_the_config_got_later_begins_with_what_was_learned(tmp_path: Path) -> None:
    """The weights that were drawn would be published as the average of the run."""
    Bench(tmp_path, epochs=1).go()
    later = Bench(tmp_path, averages=True)
    later.run.resume(later.saved())
    assert later.run.average is not None
    torch.testing.assert_close(later.run.average.state_dict(), dict(later.saved().network))


@pytest.mark.parametrize("size", [(20, 9, 5), (8, 8, 8)])
def test_a_validation_is_timed_by_one_window(tmp_path: Path, size: tuple[int, int, int]) -> None:
    """A pass over a whole volume may take longer than the minutes have."""
    bench = Bench(tmp_path, minutes=1.0)
    calls: list[torch.Size] = []

    def count(_: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        calls.append(given[0].shape)
        time.sleep(0.02)

    bench.evaluator.inferer = AutocastInferer(SlidingWindowInferer((8, 8, 8), sw_batch_size=1, overlap=0.25))
    item = {"image": torch.ones(1, *size), "label": torch.full((1, *size), 2.0)}
    bench.evaluator.data_loader = DataLoader(Dataset([item] * 3), batch_size=1)
    bench.network.register_forward_pre_hook(count)
    seconds = time_validation(bench.network, bench.evaluator, SILENT)
    assert calls == [torch.Size((1, 1, 8, 8, 8))] * 2
    calls.clear()
    bench.evaluator.inferer(item["image"][None], bench.network)
    assert 3 * len(calls) * 0.02 <= seconds < 3 * len(calls) * 0.02 * 5


def test_checkpoints_are_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.training.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("volseg.training.run.SAVE_SHARE", math.inf)
    saved = []
    bench = Bench(tmp_path)
    bench.trainer.add_event_handler(
        Events.EPOCH_STARTED,
        lambda _: saved.append(bench.saved().step if (tmp_path / "last.pt").exists() else None),
    )
    bench.go()
    assert saved == [None, STEPS, 2 * STEPS]


def test_a_checkpoint_comes_inside_an_epoch_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.training.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("volseg.training.run.SAVE_SHARE", math.inf)
    saved = []
    bench = Bench(
        tmp_path, interrupt=lambda _: saved.append(bench.saved().step if (tmp_path / "last.pt").exists() else 0)
    )
    bench.go()
    assert saved == list(range(3 * STEPS))


def test_an_epoch_that_was_left_and_gone_on_with_is_one_row(tmp_path: Path) -> None:
    bench = Bench(tmp_path, interrupt=at(STEPS + 3))
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    resumed = Bench(tmp_path)
    resumed.go(resume=True)
    whole = Bench(tmp_path / "whole")
    whole.go()
    assert [(row.epoch, row.step) for row in resumed.run.history] == [(1, 4), (2, 8), (3, 12)]
    assert [row.loss for row in resumed.run.history] == pytest.approx([row.loss for row in whole.run.history])


def test_too_few_steps_are_told_as_a_trial(tmp_path: Path) -> None:
    bench = Bench(tmp_path, minutes=1e-9)
    bench.run.progress = heard = Heard()
    assert bench.go()
    assert bench.saved().complete  # these minutes are used up
    (told,) = [line for line in heard.lines if "is a trial: it was trained for 1 step only" in line]
    assert told.startswith("warning: ")


def test_a_validation_shows_how_far_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, epochs=1)
    bench.run.progress = heard = Heard()
    bench.go()
    assert heard.tasks == [("Training", 1000.0, ""), ("Validating", 1, "cases")]


class Killed(BaseException):
    """As if the process ended there."""


@pytest.mark.parametrize("written", ["nothing", "best.pt", "all"])
def test_a_kill_while_the_best_is_written_loses_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    def score(epoch: int) -> float:
        return {1: 0.1, 2: 0.9, 3: 0.5}[epoch]

    whole = Bench(tmp_path / "whole", score=score)
    whole.go()
    known = Checkpoint.improved
    calls = 0

    def killed(self: Checkpoint, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2 and written == "nothing":
            raise Killed
        known(self, *args)
        if calls == 2 and written == "best.pt":
            raise Killed

    bench = Bench(
        tmp_path / "killed", score=score, interrupt=at(2 * STEPS + 1, Killed) if written == "all" else lambda _: 0
    )
    monkeypatch.setattr(Checkpoint, "improved", killed)
    with pytest.raises(Killed):
        bench.go()
    assert bench.saved().best_score == 0.9  # the state never lags behind the weights
    resumed = Bench(tmp_path / "killed", score=score)
    resumed.go(resume=True)
    best = [torch.load(tmp_path / name / "best.pt", weights_only=True)["weight"] for name in ("whole", "killed")]
    assert torch.equal(*best)
    assert [row.validation for row in resumed.run.history] == [row.validation for row in whole.run.history]


class HalfSteps(torch.optim.SGD):
    """An optimizer that somebody interrupts in the midst of its second step."""

    heard = 0
    times = 1

    def step(self, closure: Any = None) -> Any:
        self.heard += 1
        if self.heard == 2:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return super().step(closure)


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_an_interrupt_waits_for_the_end_of_a_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, optimizer=HalfSteps)
    heard = bench.run.progress = Heard()
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert "Stopped after 2 steps; the same command goes on from there." in heard.lines
    whole = Bench(tmp_path / "whole")
    whole.go()
    resumed = Bench(tmp_path)
    resumed.go(resume=True)
    assert torch.equal(resumed.network.weight, whole.network.weight)


@pytest.mark.usefixtures("heeded")
def test_a_second_interrupt_does_not_wait_and_saves_no_half_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.trainer.optimizer.__class__ = HalfSteps
    assert isinstance(bench.trainer.optimizer, HalfSteps)
    bench.trainer.optimizer.times = 2
    heard = bench.run.progress = Heard()
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert "Stopped inside a step; the same command goes on from the last checkpoint." in heard.lines
    assert not (tmp_path / "last.pt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
