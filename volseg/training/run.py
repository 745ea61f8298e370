"""Training run: the trainer, its budget, validation, checkpoints and resuming."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents

from volseg.errors import BundleError
from volseg.finite import not_finite
from volseg.progress import SILENT, Progress
from volseg.training.checkpoint import RunFolder, RunState, write_state
from volseg.training.history import Epoch, best_epoch, steps_of_model, trial_words
from volseg.training.interrupts import WholeSteps
from volseg.training.listeners import LISTENERS, Listener, RunView
from volseg.training.steps import seed_of
from volseg.training.validations import Validations
from volseg.training.watch import LossWatch, require_finite
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ignite.engine import Engine

    from volseg.progress import Task
    from volseg.training.average import WeightAverage
    from volseg.training.budget import Budget

SAVE_SECONDS = 60.0
"""A checkpoint is written when the one before is older than this; a killed run loses no more."""
SAVE_SHARE = 0.03
"""Or later, so that checkpoints of a large network on a slow disk take no more than this share of the time."""
SETTINGS = frozenset(
    {"betas", "eps", "weight_decay", "momentum", "dampening", "nesterov", "amsgrad", "decoupled_weight_decay"}
)
"""Of torch's optimizers, which keep them in their state; the rate is left out, which handlers set."""
TRAINING = "Training"
"""The title of the task that begins when all cases are prepared."""
BAR_UNITS = 1000.0
NETWORK_STREAM = 2
"""Of random numbers; 0 and 1 are those of the batches (``volseg.training.steps``)."""


@dataclass(eq=False)
class Run:
    """A trainer and its evaluator within a budget.

    Args:
        folder: where checkpoints and history go.
        trainer: MONAI's ``SupervisedTrainer`` or another engine with ``network`` and ``optimizer``.
        evaluator: what validates; None when no case is held out.
        budget: how long.
        labels: names of the labels above background, for history and progress.
        listeners: what hears the results, beside those of every run.
        scheduler: a learning-rate scheduler of the bundle's own, kept over a resume.
        average: the average of the weights, which is then what is validated and published.
        progress: who listens.
        seed: of all random draws.
        patience: after how many epochs without a better validation the run ends; None never.
    """

    folder: RunFolder
    trainer: Any
    evaluator: Any
    budget: Budget
    labels: Sequence[str]
    listeners: Sequence[Listener] = ()
    scheduler: Any = None
    average: WeightAverage | None = None
    progress: Progress = SILENT
    seed: int = 0
    patience: int | None = None
    history: list[Epoch] = field(default_factory=list)
    _best: float = -math.inf
    _best_step: int | None = None
    _is_better: bool = False
    _saved_at: float = 0.0
    _saving_took: float = 0.0
    _shown: float = 0.0
    _is_early: bool = False
    _task: Task | None = None

    def __post_init__(self) -> None:
        self.listeners = (*(kind() for kind in LISTENERS), *self.listeners)
        self._steps = WholeSteps(self.trainer.optimizer)
        self._watch = LossWatch(self.trainer)
        self._validations = Validations(self.evaluator, self.budget, self.average, len(self.labels))

    @property
    def validated(self) -> int | None:
        """At how many of the cases held out each validation looks, where there is no time for all; else None."""
        return self._validations.cases

    def resume(self, state: RunState) -> None:
        """Go on from an earlier run's state.

        Raises:
            BundleError: the checkpoint doesn't fit the network or optimizer, or holds numbers that are not finite.
        """
        parts = {"network": state.network, "average": state.average or {}, "optimizer": state.optimizer}
        bad = not_finite(parts)
        if bad is not None:
            raise BundleError(
                f"{self.folder.last}: {bad} has numbers that are not finite (NaN or infinity), so training can't go on "
                "from it. Start the fold over with --fresh.",
                code="not-finite",
            )
        try:
            self.trainer.network.load_state_dict(state.network)
            self._resume_optimizer(state.optimizer)
            if self.average is not None:  # one that the config got since begins with what was learned until then
                kept, steps = (state.network, 0) if state.average is None else (state.average, state.step)
                self.average.load_state_dict(kept, steps)
            if self.scheduler is not None and state.scheduler is not None:
                self.scheduler.load_state_dict(state.scheduler)
        except (RuntimeError, ValueError, KeyError) as error:
            raise BundleError(
                f"{self.folder.last} doesn't fit the network in train.yaml, or its optimizer, which has changed since. "
                "Start the fold over with --fresh.",
                code="bad-checkpoint",
            ) from error
        # A run that stopped inside an epoch finishes it: the engine reckons from the steps where in it to begin.
        self.trainer.state.iteration = state.step
        self.trainer.state.epoch = state.epoch
        self.seed = state.seed
        self.history, self._watch.losses = list(state.history), list(state.losses)
        self.budget.validation_seconds = state.validation_seconds
        best = best_epoch(self.history)
        self._best = best.validation.score if best is not None and best.validation is not None else -math.inf
        self._best = max(self._best, -math.inf if state.best_score is None else state.best_score)
        self._best_step = state.best_step
        # It may have been killed between this state and the weights that are the best so far: they are written again.
        self._is_better = state.best_step == state.step and math.isfinite(self._best)
        self._validations.resume(state)

    def _resume_optimizer(self, state: Mapping[str, Any]) -> None:
        """Take over what the optimizer has learned; how it works is the config's, which a person may have changed.

        Raises:
            KeyError: the state is another kind of optimizer's.
        """
        optimizer = self.trainer.optimizer
        wanted = [{name: group[name] for name in SETTINGS & group.keys()} for group in optimizer.param_groups]
        optimizer.load_state_dict(state)
        for group, settings in zip(optimizer.param_groups, wanted, strict=True):
            if settings.keys() - group.keys():
                raise KeyError("another optimizer's")
            if self.scheduler is None:  # which may have changed them
                group.update(settings)

    def go(self) -> bool:
        """Train until the budget is spent; gives whether it is.

        On KeyboardInterrupt the state is saved before re-raising, so that the next run resumes there.

        Raises:
            BundleError: the loss is no number any more.
            FileError: a checkpoint can't be written; the one before stays.
        """
        self._attach()
        if self._watch.loader is not None:
            self._watch.loader.begin(seed=self.seed, position=self.budget.steps)
        for listener in self.listeners:
            listener.began(RunView(self.folder, tuple(self.labels), tuple(self.history)))
        if self._watch.losses and self.budget.steps % self.trainer.state.epoch_length == 0:
            self._end_epoch()  # stopped between an epoch's last step and its end
        if self._is_better:
            self._tell_better()
        overrun_seconds, enough_minutes = self._validations.estimate(self.trainer.network)
        for listener in self.listeners:
            listener.timed(overrun_seconds, self.validated, enough_minutes)
        self.budget.begin_steps()
        self._saved_at = time.monotonic()
        self._shown = BAR_UNITS * self.budget.fraction
        with (
            self.progress.task(TRAINING, BAR_UNITS, "", done=self._shown) as self._task,
            self._validations.under_way,
            self._steps,
        ):
            try:
                # A run that was stopped in its last moments has only its end to come; the engine would start over.
                if not self.budget.is_spent or not self.budget.steps:
                    self.trainer.run()
                return self._finish()
            except KeyboardInterrupt:
                self._validations.stop()  # it may have come inside one
                if self._steps.is_inside:
                    self.progress.say("Stopped inside a step; the same command goes on from the last checkpoint.")
                    raise
                self._watch.take()
                self.save(complete=False)
                self.progress.say(
                    f"Stopped after {counted(self.budget.steps, 'step')}; the same command goes on from there."
                )
                raise
            finally:
                if self._watch.loader is not None:
                    self._watch.loader.stop()

    def _finish(self) -> bool:
        """The last validation and the last weights; gives whether the budget is spent."""
        ended = self._is_early or self.budget.is_spent or self.trainer.state.epoch >= self.trainer.state.max_epochs
        self._end_epoch()
        if self._validations.make_last(self.trainer.state.epoch):
            if self.history and self._validations.pending is not None:
                minutes = self.budget.elapsed_seconds / 60
                self.history[-1] = replace(self.history[-1], minutes=minutes, validation=self._validations.pending)
            self._validations.pending = None
        if self.history:
            self._tell_epoch()
        self._keep_better()
        if not math.isfinite(self._best) or not self.folder.best.is_file():
            self._tell_better()
        trial = trial_words(steps_of_model(self.history))
        if ended and trial:
            self.progress.say(f"warning: {trial} Give more --minutes or --epochs.")
        for listener in self.listeners:
            listener.ended(self._weights(), complete=ended)
        self.save(complete=ended)
        self._show()
        return ended

    def save(self, *, complete: bool) -> None:
        """Have the state written to go on from, each file atomically.

        Raises:
            BundleError: a weight is no number any more; the checkpoint before stays.
            FileError: a file can't be written.
        """
        before = time.monotonic()
        state = self._state(complete=complete)
        for listener in self.listeners:
            listener.saved(state)
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - before
        # At the end the weights are written as well: of the last step, of the best, and for inference.
        self.budget.saving_seconds = max(self.budget.saving_seconds, 3 * self._saving_took)
        self.budget.pause()

    def _state(self, *, complete: bool) -> RunState:
        require_finite(self.trainer.network.state_dict(), self.budget.steps)
        steps = self.budget.steps  # the engine may have counted one that was interrupted
        return RunState(
            network=self.trainer.network.state_dict(),
            optimizer=self.trainer.optimizer.state_dict(),
            average=None if self.average is None else self.average.state_dict(),
            scheduler=None if self.scheduler is None else self.scheduler.state_dict(),
            epoch=steps // self.trainer.state.epoch_length,
            step=steps,
            seconds=self.budget.elapsed_seconds,
            setup_seconds=self.budget.setup_seconds,
            epochs=self.budget.epochs,
            minutes=self.budget.minutes,
            validation_seconds=self.budget.validation_seconds,
            complete=complete,
            history=tuple(self.history),
            losses=tuple(self._watch.losses),
            seed=self.seed,
            patience=self.patience,
            is_early=self._is_early,
            best_step=self._best_step,
            best_score=self._best if math.isfinite(self._best) else None,
            validated=self.validated,
        )

    def _attach(self) -> None:
        self.trainer.add_event_handler(Events.ITERATION_STARTED, self._before_step)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        if isinstance(self.trainer, SupervisedTrainer):
            self.trainer.add_event_handler(
                IterationEvents.LOSS_COMPLETED,
                lambda engine: self._watch.before_backward(engine, lambda: self.save(complete=False)),
            )
        # Last, so that a validation that another handler runs after the epoch belongs to it.
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        self._validations.attach(self.progress, self._show, self._scored)

    def _before_step(self, engine: Engine) -> None:
        # What a network draws, for its dropout say, is a function of seed and step, so nothing of it has to be kept.
        torch.manual_seed(seed_of(self.seed, NETWORK_STREAM, engine.state.iteration))

    def _after_step(self, engine: Engine) -> None:
        self._watch.take()
        self.budget.step()
        if self.average is not None:
            self.average.update()
        self._watch.note(self.budget.steps, engine.state.output, engine.state.batch)
        self._steps.end()
        self._show()
        # At the end of an epoch its handlers have their turn first: schedulers, validation.
        if engine.state.iteration % engine.state.epoch_length:
            self._keep_better()
            if self.budget.is_spent:
                engine.terminate()
            else:
                self._save_in_time()

    def _save_in_time(self) -> None:
        if time.monotonic() - self._saved_at >= max(SAVE_SECONDS, self._saving_took / SAVE_SHARE):
            self._watch.take()
            self.save(complete=False)

    def _after_epoch(self, engine: Engine) -> None:
        self._end_epoch()
        self._keep_better()
        if self.budget.is_spent:
            engine.terminate()  # the end tells of this epoch, with the last validation
            return
        if self._is_patience_over():
            self._is_early = True
            self.progress.say(f"No better validation in {counted(self.patience or 0, 'epoch')}; training ends here.")
            engine.terminate()
            return
        self._tell_epoch()
        self._save_in_time()

    def _is_patience_over(self) -> bool:
        best = best_epoch(self.history)
        if self.patience is None or best is None or self.history[-1].validation is None:
            return False
        return self.history[-1].epoch - best.epoch >= self.patience

    def _end_epoch(self) -> None:
        self._watch.take()
        if not self._watch.losses:
            return
        self.history.append(
            Epoch(
                epoch=self.trainer.state.epoch,
                step=self.budget.steps,
                minutes=self.budget.elapsed_seconds / 60,
                learning_rate=float(self.trainer.optimizer.param_groups[0]["lr"]),
                loss=sum(self._watch.losses) / len(self._watch.losses),
                validation=self._validations.pending,
            )
        )
        self._watch.losses, self._validations.pending = [], None

    def _tell_epoch(self) -> None:
        for listener in self.listeners:
            listener.epoch(self.history[-1])

    def _scored(self, score: float) -> None:
        if math.isfinite(score) and score > self._best:
            self._best, self._is_better = score, True
        self._show()

    def _keep_better(self) -> None:
        """Write the weights of the best validation, where the last one was it.

        After the state that knows of them: were the run killed in between, the next one finds them in that state. The
        other way round, it would go on with the best of a validation that nothing knows of.
        """
        if self._is_better:
            self._watch.take()
            self._best_step = self.budget.steps
            write_state(self.folder, self._state(complete=False))  # alone: to draw the curve takes longer than it
            self.budget.pause()
            self._tell_better()

    def _tell_better(self) -> None:
        self._is_better = False
        weights = self._weights()
        require_finite(weights, self.budget.steps)  # background alone may score better than nothing
        score = self._best if math.isfinite(self._best) else None
        for listener in self.listeners:
            listener.improved(weights, score, self.budget.steps)

    def _weights(self) -> dict[str, torch.Tensor]:
        source = self.trainer.network if self.average is None else self.average
        return {name: tensor.cpu() for name, tensor in source.state_dict().items()}

    def _show(self) -> None:
        if self._task is None:
            return
        reached = max(self._shown, BAR_UNITS * self.budget.fraction)
        self._task.advance(reached - self._shown, self._note())
        self._shown = reached

    def _note(self) -> str:
        recent = self._watch.losses[-50:] or ([self.history[-1].loss] if self.history else [])
        words = [f"loss {sum(recent) / len(recent):.3f}"] if recent else []
        latest = self._validations.pending or next(
            (row.validation for row in reversed(self.history) if row.validation), None
        )
        if latest is not None and latest.per_label and len(latest.per_label) <= 4:
            pairs = zip(self.labels, latest.per_label, strict=False)
            words.append("Dice " + " ".join(f"{label} {value:.3f}" for label, value in pairs))
        elif latest is not None:
            words.append(f"Dice {latest.score:.3f}")
        return ", ".join(words)
