"""Length of a training, and what is fitted to it: the learning rate and how often to validate."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Literal, get_args

from ignite.engine import Events

from volseg.errors import UsageError

if TYPE_CHECKING:
    from ignite.engine import Engine
    from torch.optim import Optimizer

SAVING_SECONDS = 2.0
"""Kept back for the last checkpoint and the curve until saving was measured."""
MAX_RESERVE_SHARE = 0.5
"""What is kept back for the end never gets more than this share of the minutes."""
SHORT_SECONDS = 10.0
"""A validation of no more is made whole, however few the minutes are."""
OVERRUN_SECONDS = 20.0
OVERRUN_SHARE = 0.05
"""A run takes no more than the larger of these beyond its minutes."""


class Budget:
    """The length of a training over all resumed runs: epochs, or minutes where given.

    Minutes are wall time from the start of the command. What comes before the first step (reading, checking and
    preparing the cases) counts, and so does the end: a step under way, the last validation and the last checkpoint
    are kept inside by what they were measured to take.

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
        self.steps = 0
        """Optimizer steps so far, those of earlier runs included."""
        self.validation_seconds = 0.0
        """What one validation takes; 0 before it is known."""
        self.validates = True
        """Whether there is time for any validation."""
        self.saving_seconds = SAVING_SECONDS
        """What the last checkpoint and the curve take."""
        self.measuring_seconds = 0.0
        """What is kept back to measure the finished model."""
        self.setup_seconds = 0.0
        """How much of the wall time so far went by before the first step of each run."""
        self._before_seconds = 0.0
        self._started = self._stepped_at = time.monotonic()
        self._step_seconds = 0.0

    def start(
        self, *, before_seconds: float, steps: int, setup_seconds: float = 0.0, started: float | None = None
    ) -> None:
        """Begin, or go on after earlier runs.

        Args:
            before_seconds: wall time that earlier runs took.
            steps: optimizer steps of earlier runs.
            setup_seconds: how much of their time went by before their first steps.
            started: ``time.monotonic()`` of when this run began; now by default.
        """
        self._before_seconds = before_seconds
        self._stepped_at = time.monotonic()
        self._started = self._stepped_at if started is None else started
        self.setup_seconds = setup_seconds
        self.steps = steps

    def begin_steps(self) -> None:
        """Say that all is ready: what this run took so far was setup, and the schedule begins or goes on now."""
        self._stepped_at = time.monotonic()
        self.setup_seconds += self._stepped_at - self._started

    def step(self) -> None:
        """Count one optimizer step."""
        now = time.monotonic()
        self.steps += 1
        self._step_seconds, self._stepped_at = now - self._stepped_at, now

    def pause(self) -> None:
        """Say that something else than a step just ended, so that the next step is not taken for a long one."""
        self._stepped_at = time.monotonic()

    @property
    def elapsed_seconds(self) -> float:
        """Wall time so far, that of earlier runs included."""
        return self._before_seconds + time.monotonic() - self._started

    @property
    def left_seconds(self) -> float:
        """How long steps may still be made, where minutes were given."""
        whole = (self.minutes or 0.0) * 60
        end = self.validation_seconds + self.saving_seconds + self.measuring_seconds + self._step_seconds
        return whole - min(end, MAX_RESERVE_SHARE * whole) - self.elapsed_seconds

    @property
    def fraction(self) -> float:
        """How much of the time for steps, or of the steps, is used: from 0 at the first step to 1."""
        if self.minutes is None:
            return min(1.0, self.steps / (self.epochs * self.steps_per_epoch))
        left, used = self.left_seconds, self.elapsed_seconds - self.setup_seconds
        return 1.0 if left <= 0 else max(0.0, used / (used + left))

    @property
    def is_spent(self) -> bool:
        """Whether training has to end now."""
        return self.fraction >= 1.0

    def affordable(self, cases: int) -> int:
        """How many of so many cases a validation may look at, where ``validation_seconds`` is what all of them take."""
        if self.minutes is None or self.validation_seconds <= SHORT_SECONDS:
            return cases
        room = max(SHORT_SECONDS, MAX_RESERVE_SHARE * (self.minutes * 60 - self.elapsed_seconds))
        return min(cases, int(cases * room / self.validation_seconds))

    @property
    def enough_minutes(self) -> float:
        """With how many minutes a validation could look at all cases, where ``validation_seconds`` is what all of them take."""
        return (self.elapsed_seconds + self.validation_seconds / MAX_RESERVE_SHARE) / 60

    @property
    def has_time_to_validate(self) -> bool:
        """Whether a validation now ends within the minutes, or hardly later."""
        if self.minutes is None:
            return True
        end = self.validation_seconds + self.saving_seconds
        most = self.minutes * 60 + max(OVERRUN_SECONDS, OVERRUN_SHARE * self.minutes * 60)
        return self.validation_seconds <= SHORT_SECONDS or self.elapsed_seconds + end <= most

    @property
    def overrun_seconds(self) -> float:
        """How much longer the run takes than the minutes, since what went by and its end don't fit into them."""
        whole = (self.minutes or 0.0) * 60
        ends = max(self.elapsed_seconds, whole - min(self.validation_seconds, MAX_RESERVE_SHARE * whole))
        return max(0.0, ends + self.validation_seconds - whole) if whole else 0.0


Curve = Literal["polynomial", "cosine", "one-cycle"]

FIRST_SHARE = 1 / 25
"""Of the largest rate, where one-cycle begins (torch's ``OneCycleLR``)."""
LAST_SHARE = 1e-4
"""Of that, where it ends."""


class BudgetedRate:
    """A handler that changes the learning rate with the part of the budget that is used.

    So it comes to its end whether the budget is in epochs or minutes. It keeps no state: a resumed run goes on where the
    budget stands. The optimizer's own rates are the largest; momentum stays as it is, in one-cycle as well.

    - ``polynomial``: a power of what is left (Chen et al., DeepLab, 2017; nnU-Net uses the power 0.9).
    - ``cosine``: half a cosine down to 0 (Loshchilov and Hutter, ICLR 2017, without restarts).
    - ``one-cycle``: half a cosine up over the warm-up and another down (Smith and Topin, 2018, as torch has it).

    Args:
        optimizer: whose learning rates are set; its own rates are the largest.
        budget: what is used up.
        power: of the part that is left, for ``polynomial``.
        warm_up: the part of the budget over which the rate rises, linearly but in ``one-cycle``.
        curve: how it changes.

    Raises:
        UsageError: there is no such curve.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        budget: Budget,
        power: float = 0.9,
        warm_up: float = 0.02,
        curve: Curve = "polynomial",
    ) -> None:
        if curve not in get_args(Curve):
            raise UsageError(f"There is no curve {curve!r}. Choose one of {', '.join(get_args(Curve))}.")
        self.optimizer = optimizer
        self.budget = budget
        self.power = power
        self.warm_up = warm_up
        self.curve = curve
        self.first_rates = [float(group["lr"]) for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Set the rates before every step."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def factor(self, fraction: float) -> float:
        """What the first rate is multiplied by when ``fraction`` of the budget is used."""
        left = max(0.0, 1.0 - fraction)
        if self.curve == "one-cycle":
            if fraction < self.warm_up:
                return _between(FIRST_SHARE, 1.0, fraction / self.warm_up)
            return _between(FIRST_SHARE * LAST_SHARE, 1.0, left / (1.0 - self.warm_up) if self.warm_up < 1 else 0.0)
        rising = min(1.0, (fraction + 1e-3) / self.warm_up) if self.warm_up > 0 else 1.0
        return rising * float(left**self.power if self.curve == "polynomial" else _between(0.0, 1.0, left))

    def __call__(self, engine: Engine) -> None:
        """Set the rates for the step that begins."""
        del engine
        factor = self.factor(self.budget.fraction)
        for group, first in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = first * factor


def _between(low: float, high: float, share: float) -> float:
    """From ``low`` at 0 to ``high`` at 1 along half a cosine."""
    return low + (high - low) * (1 - math.cos(math.pi * share)) / 2


class PacedValidation:
    """A handler that validates after an epoch whenever validation has had less than its share of the time.

    Within minutes, a validation that would leave no time for a step and the last validation is left to the end.

    Args:
        evaluator: what validates.
        budget: it is told how long a validation takes, so that the last one fits in.
        share: the part of the time that validation may take.
    """

    def __init__(self, evaluator: Any, budget: Budget, share: float = 0.05) -> None:
        self.evaluator = evaluator
        self.budget = budget
        self.share = share
        self._spent_seconds = 0.0
        self._began = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Look after every epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate if it is time."""
        if not len(self.evaluator.data_loader) or not self.budget.validates:  # nothing is held out, or no time for it
            return
        so_far, takes = time.monotonic() - self._began, self.budget.validation_seconds
        if self._spent_seconds + takes > self.share * so_far:
            return
        if self.budget.minutes is not None and takes > self.budget.left_seconds:
            return
        before = time.monotonic()
        self.evaluator.run(engine.state.epoch)
        self.budget.validation_seconds = time.monotonic() - before
        self._spent_seconds += self.budget.validation_seconds
        self.budget.pause()
