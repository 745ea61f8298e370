"""How long training may take, and what is fitted to it: the learning rate and how often to validate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from volseg.errors import UsageError

if TYPE_CHECKING:
    from ignite.engine import Engine
    from torch.optim import Optimizer

SAVING_SECONDS = 2.0
"""Kept back for the last checkpoint and the curve."""
MAX_RESERVE_SHARE = 0.25
"""The last validation never gets more than this share of the minutes; a longer one overruns."""


class Budget:
    """The length of a training over all resumed runs: epochs, or minutes where given.

    Args:
        epochs: the length in epochs of ``steps_per_epoch`` steps; what counts when there are no minutes.
        steps_per_epoch: optimizer steps in an epoch.
        minutes: the length in minutes of wall time; the schedule is fitted to it and epochs don't count.

    Raises:
        UsageError: a length is not positive.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, minutes: float | None = None) -> None:
        if epochs < 1 or steps_per_epoch < 1 or (minutes is not None and not minutes > 0):
            raise UsageError("Training needs at least one epoch of one step, or more than 0 minutes.")
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.minutes = minutes
        self.reserve_seconds = 0.0
        self._before_seconds = 0.0
        self._started = time.monotonic()
        self._steps = 0

    def start(self, *, before_seconds: float, steps: int, started: float | None = None) -> None:
        """Begin, or go on after ``before_seconds`` and ``steps`` of earlier runs.

        Args:
            before_seconds: wall time that earlier runs took.
            steps: optimizer steps of earlier runs.
            started: ``time.monotonic()`` of when this run began; now by default.
        """
        self._before_seconds = before_seconds
        self._steps = steps
        self._started = time.monotonic() if started is None else started

    def step(self) -> None:
        """Count one optimizer step."""
        self._steps += 1

    @property
    def steps(self) -> int:
        """Optimizer steps so far, those of earlier runs included."""
        return self._steps

    @property
    def elapsed_seconds(self) -> float:
        """Wall time so far, that of earlier runs included."""
        return self._before_seconds + time.monotonic() - self._started

    @property
    def _usable_seconds(self) -> float:
        whole = (self.minutes or 0.0) * 60
        return whole - min(self.reserve_seconds + SAVING_SECONDS, MAX_RESERVE_SHARE * whole)

    @property
    def fraction(self) -> float:
        """How much of the budget is used, from 0 to 1."""
        if self.minutes is not None:
            return min(1.0, self.elapsed_seconds / self._usable_seconds)
        return min(1.0, self._steps / (self.epochs * self.steps_per_epoch))

    @property
    def is_spent(self) -> bool:
        """Whether training has to end now."""
        return self.fraction >= 1.0

    def reserve(self, seconds: float) -> None:
        """Keep that much wall time back for the last validation."""
        self.reserve_seconds = seconds


class BudgetedRate:
    """A handler that lowers the learning rate to 0 by a power of the budget that is left.

    The polynomial schedule (Chen et al., DeepLab, 2017; nnU-Net uses the power 0.9), over the budget instead of
    epochs, so that it ends at 0 whether the budget is in epochs or minutes. It keeps no state: a resumed run goes on
    where the budget stands.

    Args:
        optimizer: whose learning rates are set; its own rates are the first.
        budget: what is used up.
        power: of the part that is left.
        warm_up: the part of the budget over which the rate rises linearly.
    """

    def __init__(self, optimizer: Optimizer, budget: Budget, power: float = 0.9, warm_up: float = 0.02) -> None:
        self.optimizer = optimizer
        self.budget = budget
        self.power = power
        self.warm_up = warm_up
        self.first_rates = [float(group["lr"]) for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Set the rates before every step."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def factor(self, fraction: float) -> float:
        """What the first rate is multiplied by when ``fraction`` of the budget is used."""
        rising = min(1.0, (fraction + 1e-3) / self.warm_up) if self.warm_up > 0 else 1.0
        return float(rising * max(0.0, 1.0 - fraction) ** self.power)

    def __call__(self, engine: Engine) -> None:
        """Set the rates for the step that begins."""
        del engine
        factor = self.factor(self.budget.fraction)
        for group, first in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = first * factor


class PacedValidation:
    """A handler that validates after an epoch whenever validation has had less than its share of the time.

    Args:
        evaluator: what validates.
        budget: it is told how long a validation takes, so that the last one fits in.
        share: the part of the time that validation may take.
    """

    def __init__(self, evaluator: Any, budget: Budget, share: float = 0.1) -> None:
        self.evaluator = evaluator
        self.budget = budget
        self.share = share
        self._spent_seconds = 0.0
        self._last_seconds = 0.0
        self._began = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Look after every epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate if it is time."""
        if not len(self.evaluator.data_loader):  # nothing is held out
            return
        so_far = time.monotonic() - self._began
        if self._spent_seconds + self._last_seconds > self.share * so_far:
            return
        before = time.monotonic()
        self.evaluator.run(engine.state.epoch)
        self._last_seconds = time.monotonic() - before
        self._spent_seconds += self._last_seconds
        self.budget.reserve(self._last_seconds)
