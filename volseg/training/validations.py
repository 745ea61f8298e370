"""Validations of a run: what they take, at how many cases they look, and what the last one found."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator

from volseg.progress import SILENT, Progress
from volseg.training.history import Validation
from volseg.training.timing import time_validation
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ignite.engine import Engine
    from torch.nn import Module

    from volseg.training.average import WeightAverage
    from volseg.training.budget import Budget
    from volseg.training.checkpoint import RunState

TOLD_OVERRUN_SECONDS = 3.0
"""A shorter one is none, to a person."""


@dataclass(eq=False)
class Validations:
    """The validations of a run.

    Args:
        evaluator: what validates; None when no case is held out.
        budget: of the run; it is told what a validation takes.
        average: of the weights, which is then what is validated.
        labels: how many there are above background.
        cases: at how many of the cases held out each looks, where there is no time for all; else None.
        pending: what the last one found, until a row of the history has it.
        at_step: after how many steps it came; -1 before any.
        were_made: whether there was one.
        under_way: what ends with the one under way.
    """

    evaluator: Any
    budget: Budget
    average: WeightAverage | None
    labels: int
    cases: int | None = None
    pending: Validation | None = None
    at_step: int = -1
    were_made: bool = False
    under_way: ExitStack = field(default_factory=ExitStack)
    _progress: Progress = SILENT

    def resume(self, state: RunState) -> None:
        """Go on with those of an earlier run: of the same cases, since scores of others would not compare."""
        if state.validated and self.evaluator is not None:
            self._look_at(-(-state.validated // self._batch_size))
        self.were_made = any(row.validation is not None for row in state.history)
        if state.history and state.history[-1].validation is not None:
            self.at_step = state.history[-1].step

    def attach(self, progress: Progress, advanced: Callable[[], None], scored: Callable[[float], None]) -> None:
        """Look after each validation, whoever begins it.

        Args:
            progress: who listens.
            advanced: called after each case.
            scored: called after each validation with its score.
        """
        self._progress = progress
        if self.evaluator is None:
            return

        def before(engine: Engine) -> None:
            if self.average is not None:
                self.average.apply()
            count = engine.state.epoch_length or len(self.evaluator.data_loader)
            task = self.under_way.enter_context(progress.task("Validating", count, "cases"))

            def advance(_: Engine) -> None:
                task.advance()
                advanced()

            handle = engine.add_event_handler(Events.ITERATION_COMPLETED, advance)
            self.under_way.callback(handle.remove)

        def after(engine: Engine) -> None:
            self.stop()
            name = engine.state.key_metric_name
            score = float(engine.state.metrics[name]) if name in engine.state.metrics else math.nan
            self.pending = Validation(score, _per_label(engine.state.metric_details.get(name), self.labels))
            self.at_step, self.were_made = self.budget.steps, True
            scored(score)

        self.evaluator.add_event_handler(Events.STARTED, before)
        self.evaluator.add_event_handler(Events.COMPLETED, after)

    def stop(self) -> None:
        """Give the network its own weights back, and end the bar, also where a validation was interrupted."""
        self.under_way.close()
        if self.average is not None:
            self.average.restore()

    def estimate(self, network: Module) -> tuple[float, float]:
        """Tell the budget what the last validation will take, until one was measured, and validate no more than fits.

        Returns:
            How many seconds the run would take beyond its minutes with validations of all cases, and with how many minutes
            there would be time for them.
        """
        budget = self.budget
        if self.cases:
            self._progress.say(
                f"Each validation goes on looking at the first {counted(self.cases, 'case')} held out alone, as this run "
                "was begun. --fresh starts over."
            )
        if budget.minutes is None or not isinstance(self.evaluator, SupervisedEvaluator):
            return budget.overrun_seconds, budget.enough_minutes
        if not budget.validation_seconds:
            budget.validation_seconds = time_validation(network, self.evaluator, self._progress)
        overrun, enough = budget.overrun_seconds, budget.enough_minutes
        batches = len(self.evaluator.data_loader)
        fitting = batches if self.were_made or self.cases else budget.affordable(batches)
        if fitting < batches:
            self._look_at(fitting)
            told = (
                f"each validation looks at the first {self.cases} of them, and scores and the choice of the best weights "
                "are of these alone."
                if fitting
                else "none is made: the model is that of the last step, and has no score."
            )
            self._progress.say(
                f"warning: A validation of the {counted(len(self.evaluator.data_loader.dataset), 'case')} held out takes "
                f"about {budget.validation_seconds / 60:.1f} minutes, too long for the {budget.minutes:g} that were "
                f"given: {told}"
            )
            budget.validation_seconds *= fitting / batches
        if budget.elapsed_seconds > budget.minutes * 60 + TOLD_OVERRUN_SECONDS:
            self._progress.say(
                f"{budget.elapsed_seconds / 60:.1f} minutes went by already, more than the {budget.minutes:g} that were "
                "given: training ends as soon as it can."
            )
        return overrun, enough

    def make_last(self, epoch: int) -> bool:
        """Validate the weights of the last step, where that was not done and there is time; gives whether it was.

        Args:
            epoch: its number.
        """
        if self.evaluator is None or not self.budget.validates or self.at_step == self.budget.steps:
            return False
        if self.were_made and not self.budget.has_time_to_validate:
            self._progress.say(
                "There is no time left for a validation of the last weights: the model stays that of the best before."
            )
            return False
        before = time.monotonic()
        self.evaluator.run(epoch)
        self.budget.validation_seconds = time.monotonic() - before
        return True

    def _look_at(self, batches: int) -> None:
        """Have each look at the first batches alone, of cases that are always in the same order."""
        self.budget.validates = batches > 0
        self.evaluator.state.epoch_length = max(1, batches)  # a config's own handlers may validate all the same
        self.cases = min(batches * self._batch_size, len(self.evaluator.data_loader.dataset))

    @property
    def _batch_size(self) -> int:
        return getattr(self.evaluator.data_loader, "batch_size", None) or 1


def _per_label(details: Any, count: int) -> tuple[float, ...]:
    """The mean over cases of each label, where the metric kept (cases, labels); NaN where no case has it."""
    if not isinstance(details, torch.Tensor) or details.ndim != 2 or details.shape[1] != count:
        return ()
    means = torch.nanmean(details.float().cpu(), dim=0)
    return tuple(float(value) for value in means)
