"""One run: a trainer taken through its budget, with checkpoints that survive interruption."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events

from volseg.errors import BundleError
from volseg.progress import SILENT, Progress
from volseg.training.checkpoint import RunFolder, RunState, write_tensors
from volseg.training.history import Epoch, Validation, draw_curve, write_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ignite.engine import Engine

    from volseg.progress import Task
    from volseg.training.average import WeightAverage
    from volseg.training.budget import Budget

SAVE_SECONDS = 20.0
"""The last checkpoint is written after an epoch when the one before is older than this."""
BAR_UNITS = 1000.0


@dataclass(eq=False)
class Run:
    """A trainer and its evaluator within a budget.

    Args:
        folder: where checkpoints and history go.
        trainer: MONAI's ``SupervisedTrainer`` or another engine with ``network`` and ``optimizer``.
        evaluator: what validates; None when no case is held out.
        budget: how long.
        labels: names of the labels above background, for history and progress.
        publish: called with the state dict of a new best (or, without validation, of the last) network.
        scheduler: a learning-rate scheduler of the bundle's own, kept over a resume.
        average: the average of the weights, which is then what is validated and published.
    """

    folder: RunFolder
    trainer: Any
    evaluator: Any
    budget: Budget
    labels: Sequence[str]
    publish: Callable[[Mapping[str, torch.Tensor]], None]
    scheduler: Any = None
    average: WeightAverage | None = None
    progress: Progress = SILENT
    history: list[Epoch] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)
    _latest_loss: tuple[int, torch.Tensor | float] | None = None
    _best: float = -math.inf
    _saved_at: float = 0.0
    _validated_at_step: int = -1
    _pending: Validation | None = None
    _shown: float = 0.0
    _task: Task | None = None

    def resume(self, state: RunState) -> None:
        """Go on from an earlier run's state.

        Raises:
            BundleError: the checkpoint doesn't fit the network or optimizer.
        """
        try:
            self.trainer.network.load_state_dict(state.network)
            self.trainer.optimizer.load_state_dict(state.optimizer)
            if self.average is not None and state.average is not None:
                self.average.load_state_dict(state.average, state.step)
            if self.scheduler is not None and state.scheduler is not None:
                self.scheduler.load_state_dict(state.scheduler)
        except (RuntimeError, ValueError, KeyError) as error:
            raise BundleError(
                f"{self.folder.last} doesn't fit the network in train.yaml, which has changed since. "
                "Start the fold over with --fresh.",
                code="bad-checkpoint",
            ) from error
        # A run that stopped inside an epoch finishes it: the engine reckons from the steps where in it to begin.
        self.trainer.state.iteration = state.step
        self.trainer.state.epoch = state.step // self.trainer.state.epoch_length
        self.history = list(state.history)
        self._best = state.best_score()

    def go(self) -> bool:
        """Train until the budget is spent; gives whether it is.

        On KeyboardInterrupt the state is saved before re-raising, so that the next run resumes there.

        Raises:
            BundleError: the loss is no number any more.
            FileError: a checkpoint can't be written; the one before stays.
        """
        self._attach()
        self._saved_at = time.monotonic()
        with self.progress.task("Training", BAR_UNITS, "") as task:
            self._task = task
            self._shown = 0.0
            self._show()
            try:
                # A run that was stopped in its last moments has only its end to come; the engine would start over.
                if not self.budget.is_spent or not self.budget.steps:
                    self.trainer.run()
                return self._finish()
            except KeyboardInterrupt:
                self._restore()  # it may have come inside a validation
                self._end_epoch()
                self.save(complete=False)
                self.progress.say(f"Stopped after {self.budget.steps} steps; the same command goes on from there.")
                raise

    def _finish(self) -> bool:
        """The last validation and the last weights; gives whether the budget is spent."""
        complete = self.budget.is_spent or self.trainer.state.epoch >= self.trainer.state.max_epochs
        self._end_epoch()
        if self.evaluator is not None and self._validated_at_step != self.budget.steps:
            self.evaluator.run(self.trainer.state.epoch)
            self._record_validation()
        self._write_weights(self.folder.final)
        if self.evaluator is None or not self.folder.best.is_file():
            self._write_best()
        self.save(complete=complete)
        return complete

    def save(self, *, complete: bool) -> None:
        """Write the checkpoint to go on from, the CSV and the curve, each atomically.

        Raises:
            BundleError: a weight is no number any more; the checkpoint before stays.
            FileError: a file can't be written.
        """
        self._require_finite()
        steps = self.budget.steps  # the engine may have counted one that was interrupted
        state = RunState(
            network=self.trainer.network.state_dict(),
            optimizer=self.trainer.optimizer.state_dict(),
            average=None if self.average is None else self.average.state_dict(),
            scheduler=None if self.scheduler is None else self.scheduler.state_dict(),
            epoch=steps // self.trainer.state.epoch_length,
            step=steps,
            seconds=self.budget.elapsed_seconds,
            epochs=self.budget.epochs,
            minutes=self.budget.minutes,
            complete=complete,
            history=tuple(self.history),
        )
        write_tensors(self.folder.last, state.to_plain())
        if self.history:
            write_csv(self.folder.history, self.history, self.labels)
            draw_curve(self.folder.curve, self.history, self.labels)
        self._saved_at = time.monotonic()

    def _attach(self) -> None:
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        # Last, so that a validation that another handler runs after the epoch belongs to it.
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._before_validation)
            self.evaluator.add_event_handler(Events.COMPLETED, self._after_validation)

    def _after_step(self, engine: Engine) -> None:
        self._take_loss()
        self.budget.step()
        if self.average is not None:
            self.average.update()
        output = engine.state.output
        loss = output[0].get("loss") if isinstance(output, list) else output.get("loss")
        if loss is not None:
            # Read one step later: to read it now would make the next batch wait until the GPU is done with this one.
            self._latest_loss = self.budget.steps, loss.detach() if isinstance(loss, torch.Tensor) else loss
        self._show()
        # At the end of an epoch its handlers have their turn first: schedulers, validation.
        if self.budget.is_spent and engine.state.iteration % engine.state.epoch_length:
            engine.terminate()

    def _take_loss(self) -> None:
        """Note the loss of the step before.

        Raises:
            BundleError: it is no number any more.
        """
        if self._latest_loss is None:
            return
        (step, loss), self._latest_loss = self._latest_loss, None
        value = float(loss)
        if not math.isfinite(value):
            raise _not_finite(f"The loss became {value} at step {step}")
        self._losses.append(value)

    def _require_finite(self) -> None:
        for name, tensor in self.trainer.network.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise _not_finite(f"The weight {name} is no number any more after step {self.budget.steps}")

    def _after_epoch(self, engine: Engine) -> None:
        self._end_epoch()
        if self.budget.is_spent:
            engine.terminate()
            return
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save(complete=False)

    def _end_epoch(self) -> None:
        self._take_loss()
        if not self._losses:
            return
        self.history.append(
            Epoch(
                epoch=self.trainer.state.epoch,
                step=self.budget.steps,
                minutes=self.budget.elapsed_seconds / 60,
                learning_rate=float(self.trainer.optimizer.param_groups[0]["lr"]),
                loss=sum(self._losses) / len(self._losses),
                validation=self._pending,
            )
        )
        self._losses, self._pending = [], None

    def _before_validation(self, engine: Engine) -> None:
        del engine
        if self.average is not None:
            self.average.apply()

    def _restore(self) -> None:
        if self.average is not None:
            self.average.restore()

    def _after_validation(self, engine: Engine) -> None:
        self._restore()
        state = engine.state
        name = state.key_metric_name
        score = float(state.metrics[name]) if name in state.metrics else math.nan
        self._pending = Validation(score, _per_label(state.metric_details.get(name), len(self.labels)))
        self._validated_at_step = self.budget.steps
        if math.isfinite(score) and score > self._best:
            self._best = score
            self._write_best()
        self._show()

    def _record_validation(self) -> None:
        """Give the validation after the last step to the last epoch."""
        if self.history and self._pending is not None:
            last = self.history[-1]
            self.history[-1] = Epoch(
                last.epoch, last.step, self.budget.elapsed_seconds / 60, last.learning_rate, last.loss, self._pending
            )
        self._pending = None

    def _write_weights(self, path: Path) -> None:
        write_tensors(path, self._weights())

    def _write_best(self) -> None:
        weights = self._weights()
        write_tensors(self.folder.best, weights)
        self.publish(weights)

    def _weights(self) -> dict[str, torch.Tensor]:
        source = self.trainer.network if self.average is None else self.average
        return {name: tensor.cpu() for name, tensor in source.state_dict().items()}

    def _show(self) -> None:
        if self._task is None:
            return
        reached = BAR_UNITS * self.budget.fraction
        self._task.advance(reached - self._shown, self._note())
        self._shown = reached

    def _note(self) -> str:
        recent = self._losses[-50:] or ([self.history[-1].loss] if self.history else [])
        words = [f"loss {sum(recent) / len(recent):.3f}"] if recent else []
        latest = self._pending or next((row.validation for row in reversed(self.history) if row.validation), None)
        if latest is not None and latest.per_label and len(latest.per_label) <= 4:
            pairs = zip(self.labels, latest.per_label, strict=False)
            words.append("Dice " + " ".join(f"{label} {value:.3f}" for label, value in pairs))
        elif latest is not None:
            words.append(f"Dice {latest.score:.3f}")
        return ", ".join(words)


def _not_finite(what: str) -> BundleError:
    return BundleError(
        f"{what}, so training can't go on. Lower the learning rate in the train config, then type the same command to "
        "go on from the last checkpoint, or start over with --fresh.",
        code="loss-not-finite",
    )


def _per_label(details: Any, count: int) -> tuple[float, ...]:
    """The mean over cases of each label, where the metric kept (cases, labels); NaN where no case has it."""
    if not isinstance(details, torch.Tensor) or details.ndim != 2 or details.shape[1] != count:
        return ()
    means = torch.nanmean(details.float().cpu(), dim=0)
    return tuple(float(value) for value in means)
