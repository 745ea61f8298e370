"""How long training lasts, and what is fitted to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from volseg.errors import UsageError
from volseg.training import budget as module
from volseg.training.budget import MAX_RESERVE_SHARE, SAVING_SECONDS, Budget, BudgetedRate, PacedValidation

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def optimizer(rate: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


@pytest.mark.parametrize(
    "length", [{"epochs": 0}, {"steps_per_epoch": 0}, {"minutes": 0.0}, {"minutes": -1.0}, {"minutes": float("nan")}]
)
def test_a_length_has_to_be_positive(length: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="at least one epoch"):
        Budget(**({"epochs": 2, "steps_per_epoch": 3} | length))  # type: ignore[arg-type]


def test_epochs_are_counted_in_steps(clock: Clock) -> None:
    budget = Budget(epochs=3, steps_per_epoch=4)
    budget.start(before_seconds=0, steps=0)
    for step in range(12):
        assert budget.fraction == pytest.approx(step / 12)
        assert not budget.is_spent
        clock.now += 1e6  # no matter how long they take
        budget.step()
    assert budget.is_spent
    assert budget.steps == 12


def test_minutes_are_wall_time_less_what_the_end_needs(clock: Clock) -> None:
    budget = Budget(epochs=1, steps_per_epoch=1, minutes=2)
    budget.validation_seconds = 10
    budget.start(before_seconds=0, steps=0)
    usable = 120 - 10 - SAVING_SECONDS
    for share in (0.0, 0.25, 0.5, 0.999):
        clock.now = 1000 + share * usable
        assert budget.fraction == pytest.approx(share)
        assert not budget.is_spent
    clock.now = 1000 + usable
    assert budget.is_spent


def test_a_long_validation_never_takes_the_most_of_it(clock: Clock) -> None:
    budget = Budget(epochs=1, steps_per_epoch=1, minutes=1)
    budget.validation_seconds = 1e4
    budget.start(before_seconds=0, steps=0)
    clock.now += 60 * (1 - MAX_RESERVE_SHARE) / 2
    assert budget.fraction == pytest.approx(0.5)


def test_resumed_minutes_are_a_total(clock: Clock) -> None:
    budget = Budget(epochs=1, steps_per_epoch=1, minutes=10)
    budget.start(before_seconds=300, steps=70, started=990.0)
    assert budget.elapsed_seconds == pytest.approx(310)
    assert budget.steps == 70
    clock.now += 290
    assert budget.is_spent


def test_a_step_that_would_not_end_in_time_is_not_begun(clock: Clock) -> None:
    budget = Budget(epochs=1, steps_per_epoch=1, minutes=1)
    budget.saving_seconds = 0
    budget.start(before_seconds=0, steps=0)
    made = 0
    while not budget.is_spent:
        clock.now += 7
        budget.step()
        made += 1
    assert (made, budget.elapsed_seconds) == (8, 56)


def test_the_schedule_begins_with_the_first_step_and_the_minutes_with_the_command(clock: Clock) -> None:
    budget = Budget(epochs=1, steps_per_epoch=1, minutes=2)
    budget.saving_seconds = 0
    budget.start(before_seconds=0, steps=0)
    clock.now += 20  # loading
    budget.begin_steps()
    assert budget.fraction == 0
    clock.now += 50
    assert budget.fraction == pytest.approx(0.5)
    # Gone on with, the setup of either run is no part of the schedule: 60 of 90 seconds of steps are made.
    again = Budget(epochs=1, steps_per_epoch=1, minutes=2)
    again.saving_seconds = 0
    again.start(before_seconds=70, setup_seconds=20, steps=9)
    clock.now += 10
    again.begin_steps()
    clock.now += 10
    assert again.fraction == pytest.approx(60 / 90)
    assert again.setup_seconds == 30
    clock.now += 30
    assert again.is_spent


def test_a_validation_that_would_leave_no_time_for_the_last_one_is_left_out(clock: Clock) -> None:
    budget = Budget(epochs=1, steps_per_epoch=1, minutes=1)
    budget.validation_seconds = 20
    budget.start(before_seconds=0, steps=0)
    evaluator = Evaluator(clock, seconds=20)
    paced = PacedValidation(evaluator, budget, share=1.0)
    for epoch in range(1, 60):
        if budget.is_spent:
            break
        clock.now += 1
        paced(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))  # type: ignore[arg-type]
    assert evaluator.epochs == []  # before it pays there is no time left for two
    assert 60 - 20 - SAVING_SECONDS <= budget.elapsed_seconds <= 60 - 20


@pytest.mark.parametrize("minutes", [None, 5.0])
def test_the_rate_ends_at_zero_by_the_power_of_what_is_left(clock: Clock, minutes: float | None) -> None:
    budget = Budget(epochs=10, steps_per_epoch=10, minutes=minutes)
    budget.start(before_seconds=0, steps=0)
    adjusted = optimizer(0.1)
    rate = BudgetedRate(adjusted, budget, power=0.9, warm_up=0.05)
    fractions, rates = [], []
    engine = SimpleNamespace()
    for _ in range(100):
        fractions.append(budget.fraction)
        rate(engine)  # type: ignore[arg-type]
        rates.append(adjusted.param_groups[0]["lr"])
        budget.step()
        clock.now += 3
    shares = np.array(fractions)
    warm = shares >= 0.05
    np.testing.assert_allclose(np.array(rates)[warm], 0.1 * (1 - shares[warm]) ** 0.9, rtol=1e-6, atol=1e-12)
    assert (np.diff(rates[:4]) > 0).all()
    assert rates[-1] < 0.1 * 0.02
    assert rate.factor(1.0) == 0.0
    assert 0 < rate.factor(0.0) < 0.1


def test_the_rate_goes_on_from_the_config_s_own_after_a_resume() -> None:
    budget = Budget(epochs=10, steps_per_epoch=10)
    resumed = optimizer(0.1)
    rate = BudgetedRate(resumed, budget, warm_up=0)
    resumed.param_groups[0]["lr"] = 1e-9  # as a checkpoint's optimizer brings it
    budget.start(before_seconds=0, steps=50)
    rate(SimpleNamespace())  # type: ignore[arg-type]
    assert resumed.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**0.9)


def of_torch(curve: str, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    adjusted, schedulers = optimizer(0.1), torch.optim.lr_scheduler
    if curve == "one-cycle":  # torch reaches its top and its end a step earlier than it says
        share = (0.3 * steps + 1) / (steps + 1)
        return schedulers.OneCycleLR(adjusted, max_lr=0.1, total_steps=steps + 1, pct_start=share, cycle_momentum=False)
    if curve == "cosine":
        return schedulers.CosineAnnealingLR(adjusted, T_max=steps)
    return schedulers.PolynomialLR(adjusted, total_iters=steps, power=0.9)


@pytest.mark.parametrize(("curve", "warm_up"), [("polynomial", 0.0), ("cosine", 0.0), ("one-cycle", 0.3)])
def test_the_curves_are_those_of_torch_at_equal_steps(curve: Any, warm_up: float) -> None:
    """Also where every run is gone on with by another one: nothing but the steps decides."""
    theirs, steps = of_torch(curve, 40), 40
    for step in range(steps):
        adjusted, budget = optimizer(0.1), Budget(epochs=8, steps_per_epoch=5)
        budget.start(before_seconds=0, steps=step)
        BudgetedRate(adjusted, budget, curve=curve, warm_up=warm_up)(SimpleNamespace())  # type: ignore[arg-type]
        assert adjusted.param_groups[0]["lr"] == pytest.approx(theirs.get_last_lr()[0], rel=1e-6, abs=1e-12), step
        theirs.optimizer.step()
        theirs.step()


@pytest.mark.parametrize("curve", ["polynomial", "cosine", "one-cycle"])
@pytest.mark.parametrize("warm_up", [0.0, 0.02, 0.5, 1.0])
def test_every_curve_rises_once_and_falls_to_nothing(curve: Any, warm_up: float) -> None:
    rate = BudgetedRate(optimizer(), Budget(1, 1), curve=curve, warm_up=warm_up)
    factors = np.array([rate.factor(share) for share in np.linspace(0, 1, 401)])
    top = int(factors.argmax())
    assert ((factors >= 0) & (factors <= 1)).all()
    assert (np.diff(factors[: top + 1]) > 0).all()
    assert (np.diff(factors[top:]) <= 0).all()
    assert factors[-1] <= 1e-5 or warm_up == 1


def test_a_curve_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="one-cycle"):
        BudgetedRate(optimizer(), Budget(1, 1), curve="linear")  # type: ignore[arg-type]


class Evaluator:
    def __init__(self, clock: Clock, seconds: float, cases: int = 2) -> None:
        self.clock, self.seconds, self.data_loader = clock, seconds, [None] * cases
        self.epochs: list[int] = []

    def run(self, epoch: int) -> None:
        self.epochs.append(epoch)
        self.clock.now += self.seconds


def test_validation_gets_its_share_of_the_time(clock: Clock) -> None:
    budget = Budget(epochs=1, steps_per_epoch=1, minutes=60)
    evaluator = Evaluator(clock, seconds=6)
    paced = PacedValidation(evaluator, budget, share=0.1)
    for epoch in range(1, 301):
        clock.now += 2
        paced(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))  # type: ignore[arg-type]
    spent = 6 * len(evaluator.epochs)
    assert evaluator.epochs[0] == 1  # at once, since nobody knows how long it takes
    assert 0.06 <= spent / (clock.now - 1000) <= 0.11
    assert budget.validation_seconds == pytest.approx(6)


def test_nothing_held_out_is_never_validated(clock: Clock) -> None:
    evaluator = Evaluator(clock, seconds=1, cases=0)
    PacedValidation(evaluator, Budget(1, 1))(SimpleNamespace())  # type: ignore[arg-type]
    assert evaluator.epochs == []


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("minutes", "gone", "takes", "cases"),
    [
        (None, 0, 1e4, 20),
        (10, 0, 300, 20),  # half of the minutes
        (10, 0, 600, 10),
        (10, 300, 300, 10),  # half of what is left
        (10, 0, 6001, 0),  # one case takes longer
        (0.8, 0, 60, 8),
        (0.1, 0, 10, 20),  # hardly longer
        (0.1, 0, 40, 5),
        (1, 600, 40, 5),  # all are gone
    ],
)
def test_a_validation_looks_at_no_more_cases_than_there_is_time_for(
    minutes: float | None, gone: float, takes: float, cases: int
) -> None:
    budget = Budget(1, 1, minutes)
    budget.validation_seconds = takes
    budget.start(before_seconds=gone, steps=0)
    assert budget.affordable(20) == cases


def test_a_validation_that_would_end_too_late_is_known_before(clock: Clock) -> None:
    budget = Budget(1, 1, minutes=10)
    budget.validation_seconds, budget.saving_seconds = 40, 0
    budget.start(before_seconds=589, steps=0)
    assert budget.has_time_to_validate
    clock.now += 2
    assert not budget.has_time_to_validate
    budget.validation_seconds = 5
    assert budget.has_time_to_validate


def test_no_validation_comes_where_there_is_time_for_none(clock: Clock) -> None:
    evaluator, budget = Evaluator(clock, seconds=1), Budget(1, 1, 1)
    budget.validates = False
    PacedValidation(evaluator, budget)(SimpleNamespace(state=SimpleNamespace(epoch=1)))  # type: ignore[arg-type]
    assert evaluator.epochs == []


def test_what_went_by_before_counts_for_the_overrun() -> None:
    """A validation of a quarter of the minutes does not fit any more when 0.9 of them are gone."""
    budget = Budget(1, 1, minutes=10.0)
    budget.validation_seconds = 150.0
    budget.start(before_seconds=0.0, steps=0)
    assert budget.overrun_seconds == 0.0
    budget.start(before_seconds=540.0, steps=0)
    assert budget.overrun_seconds == pytest.approx(90.0, abs=1.0)
    budget.validation_seconds = 400.0
    budget.start(before_seconds=0.0, steps=0)
    assert budget.overrun_seconds == pytest.approx(100.0, abs=1.0)
