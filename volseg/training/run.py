"""Training run: the trainer, its budget, validation, checkpoints and resuming."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from monai.data.utils import dense_patch_slices
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import SlidingWindowInferer
from monai.inferers.utils import _get_scan_interval
from monai.utils import ensure_tuple_rep, fall_back_tuple

from volseg.errors import BundleError
from volseg.finite import all_finite, not_finite
from volseg.progress import SILENT, Progress
from volseg.training.checkpoint import RunFolder, RunState
from volseg.training.history import Epoch, Validation, best_epoch
from volseg.training.listeners import LISTENERS, Listener, RunView
from volseg.training.steps import StepLoader, seed_of
from volseg.words import counted, listed

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
ESTIMATE_MARGIN = 1.2
"""One case tells only about what all of them take."""
TIMED_PASSES = 2
"""The first is slower: libraries choose how to compute, memory is taken for the first time."""
TOLD_OVERRUN_SECONDS = 3.0
"""A shorter one is none, to a person."""
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
    _losses: list[float] = field(default_factory=list)
    _latest_loss: tuple[int, torch.Tensor | float, Any] | None = None
    _best: float = -math.inf
    _saved_at: float = 0.0
    _saving_took: float = 0.0
    _validated_at_step: int = -1
    _pending: Validation | None = None
    _shown: float = 0.0
    _is_early: bool = False
    _task: Task | None = None
    _validating: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.listeners = (*(kind() for kind in LISTENERS), *self.listeners)

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
        self.history, self._losses = list(state.history), list(state.losses)
        self.budget.validation_seconds = state.validation_seconds
        best = best_epoch(self.history)
        self._best = best.validation.score if best is not None and best.validation is not None else -math.inf
        if self.history and self.history[-1].validation is not None:
            self._validated_at_step = self.history[-1].step

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
        """Train until the budget is spent; gives whether it is, in enough steps to make a model.

        On KeyboardInterrupt the state is saved before re-raising, so that the next run resumes there.

        Raises:
            BundleError: the loss is no number any more.
            FileError: a checkpoint can't be written; the one before stays.
        """
        self._attach()
        if self._loader is not None:
            self._loader.begin(seed=self.seed, position=self.budget.steps)
        for listener in self.listeners:
            listener.began(RunView(self.folder, tuple(self.labels), tuple(self.history)))
        if self._losses and self.budget.steps % self.trainer.state.epoch_length == 0:
            self._end_epoch()  # stopped between an epoch's last step and its end
        self._estimate_validation()
        for listener in self.listeners:
            listener.timed(self.budget.overrun_seconds)
        self.budget.begin_steps()
        self._saved_at = time.monotonic()
        self._shown = BAR_UNITS * self.budget.fraction
        with self.progress.task(TRAINING, BAR_UNITS, "", done=self._shown) as self._task, self._validating:
            try:
                # A run that was stopped in its last moments has only its end to come; the engine would start over.
                if not self.budget.is_spent or not self.budget.steps:
                    self.trainer.run()
                return self._finish()
            except KeyboardInterrupt:
                self._end_validation()  # it may have come inside one
                self._take_loss()
                self.save(complete=False)
                self.progress.say(
                    f"Stopped after {counted(self.budget.steps, 'step')}; the same command goes on from there."
                )
                raise
            finally:
                if self._loader is not None:
                    self._loader.stop()

    @property
    def _loader(self) -> StepLoader | None:
        """The loader of volseg's own bundles; None for others, whose batches depend on what was drawn before."""
        loader = getattr(self.trainer, "data_loader", None)
        return loader if isinstance(loader, StepLoader) else None

    def _estimate_validation(self) -> None:
        """Tell the budget what the last validation will take, until one was measured."""
        from monai.engines import SupervisedEvaluator

        if self.budget.minutes is None or not isinstance(self.evaluator, SupervisedEvaluator):
            return
        if not self.budget.validation_seconds:
            self.budget.validation_seconds = self._time_validation()
        if self.budget.overrun_seconds > TOLD_OVERRUN_SECONDS:
            self.progress.say(
                f"{self.budget.elapsed_seconds / 60:.1f} minutes went by already and a validation takes about "
                f"{self.budget.validation_seconds / 60:.1f}, so training ends about "
                f"{self.budget.overrun_seconds / 60:.1f} minutes after the {self.budget.minutes:g} that were given."
            )

    def _time_validation(self) -> float:
        """What a validation takes, by one of its cases, or by a window of it where windows slide, in seconds."""
        passes = []
        loader, network = self.evaluator.data_loader, self.trainer.network
        with self.progress.task("Timing a validation", TIMED_PASSES, "passes") as task, torch.no_grad():
            batch = next(iter(loader))
            image = self.evaluator.prepare_batch(batch, self.evaluator.state.device, self.evaluator.non_blocking)[0]
            image, windows = _one_window(image, self.evaluator.inferer)
            network.eval()
            for _ in range(TIMED_PASSES):
                before = time.monotonic()
                found = self.evaluator.inferer(image, network)
                float((found[0] if isinstance(found, (list, tuple)) else found).sum())  # waits for a GPU
                passes.append(time.monotonic() - before)
                task.advance()
        return ESTIMATE_MARGIN * min(passes) * windows * len(loader)

    def _finish(self) -> bool:
        """The last validation and the last weights; gives whether the budget is spent, and made a model."""
        ended = self._is_early or self.budget.is_spent or self.trainer.state.epoch >= self.trainer.state.max_epochs
        self._end_epoch()
        if self.evaluator is not None and self._validated_at_step != self.budget.steps:
            before = time.monotonic()
            self.evaluator.run(self.trainer.state.epoch)
            self.budget.validation_seconds = time.monotonic() - before
            if self.history and self._pending is not None:
                minutes = self.budget.elapsed_seconds / 60
                self.history[-1] = replace(self.history[-1], minutes=minutes, validation=self._pending)
            self._pending = None
        if self.history:
            self._tell_epoch()
        if not math.isfinite(self._best) or not self.folder.best.is_file():
            self._improve(None)
        is_model = ended and self.budget.is_enough
        if ended and not is_model:
            steps = counted(self.budget.steps, "step")
            self.progress.say(f"Only {steps} fitted into the minutes, and that is no model. Give more --minutes.")
        for listener in self.listeners:
            listener.ended(self._weights(), complete=is_model)
        self.save(complete=ended)
        self._show()
        return is_model

    def save(self, *, complete: bool) -> None:
        """Have the state written to go on from, each file atomically.

        Raises:
            BundleError: a weight is no number any more; the checkpoint before stays.
            FileError: a file can't be written.
        """
        self._require_finite(self.trainer.network.state_dict())
        before = time.monotonic()
        steps = self.budget.steps  # the engine may have counted one that was interrupted
        state = RunState(
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
            losses=tuple(self._losses),
            seed=self.seed,
            patience=self.patience,
            is_early=self._is_early,
        )
        for listener in self.listeners:
            listener.saved(state)
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - before
        # At the end the weights are written as well: of the last step, of the best, and for inference.
        self.budget.saving_seconds = max(self.budget.saving_seconds, 3 * self._saving_took)
        self.budget.pause()

    def _attach(self) -> None:
        self.trainer.add_event_handler(Events.ITERATION_STARTED, self._before_step)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        if isinstance(self.trainer, SupervisedTrainer):
            self.trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, self._before_backward)
        # Last, so that a validation that another handler runs after the epoch belongs to it.
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._before_validation)
            self.evaluator.add_event_handler(Events.COMPLETED, self._after_validation)

    def _before_step(self, engine: Engine) -> None:
        # What a network draws, for its dropout say, is a function of seed and step, so nothing of it has to be kept.
        torch.manual_seed(seed_of(self.seed, NETWORK_STREAM, engine.state.iteration))

    def _before_backward(self, engine: Engine) -> None:
        """Stop before a loss that is no number spoils the weights; what was learned until now is saved.

        Raises:
            BundleError: the loss is no number.
        """
        loss = engine.state.output["loss"]
        if not isinstance(loss, torch.Tensor) or loss.device.type != "cpu":
            return  # to read it now would make the GPU wait; it is read a step later
        value = float(loss.detach())
        if math.isfinite(value):
            return
        step = engine.state.iteration
        bad = not_finite(self.trainer.network.state_dict())
        if bad is None:
            self._take_loss()
            self.save(complete=False)
            outputs = engine.state.output["pred"]
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            cause = (
                "The loss made it out of finite data, weights and outputs of the network"
                if all(bool(all_finite(one)) for one in outputs)
                else "The network made it out of finite data and weights"
            )
        else:
            cause = f"The weight {bad} is no number any more"
        raise self._not_finite(value, step, engine.state.batch, cause)

    def _not_finite(self, value: float, step: int, batch: Any, cause: str) -> BundleError:
        """The error that names the cases of a batch, and where numbers that are not finite came from."""
        names = () if self._loader is None else self._loader.names(step)
        told = f", on {listed(sorted(set(names)))}" if names else ""
        bad = not_finite(batch) if isinstance(batch, dict) else None
        if bad is not None:
            return BundleError(
                f"The loss became {value} at step {step}{told}: the {bad} of that batch has numbers that are not finite "
                "(NaN or infinity). Look at these cases and at the random transforms in the train config; the same "
                "command then goes on from the last checkpoint.",
                code="loss-not-finite",
            )
        return _not_finite(f"The loss became {value} at step {step}{told}. {cause}")

    def _after_step(self, engine: Engine) -> None:
        self._take_loss()
        self.budget.step()
        if self.average is not None:
            self.average.update()
        output = engine.state.output
        loss = output[0].get("loss") if isinstance(output, list) else output.get("loss")
        if loss is not None:
            # Read one step later: to read it now would make the next batch wait until the GPU is done with this one.
            loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
            self._latest_loss = self.budget.steps, loss, engine.state.batch
        self._show()
        # At the end of an epoch its handlers have their turn first: schedulers, validation.
        if engine.state.iteration % engine.state.epoch_length:
            if self.budget.is_spent:
                engine.terminate()
            else:
                self._save_in_time()

    def _save_in_time(self) -> None:
        if time.monotonic() - self._saved_at >= max(SAVE_SECONDS, self._saving_took / SAVE_SHARE):
            self._take_loss()
            self.save(complete=False)

    def _take_loss(self) -> None:
        """Note the loss of the step before.

        Raises:
            BundleError: it is no number any more.
        """
        if self._latest_loss is None:
            return
        (step, loss, batch), self._latest_loss = self._latest_loss, None
        value = float(loss)
        if not math.isfinite(value):
            raise self._not_finite(value, step, batch, "The data are finite, so the weights or the loss are not")
        self._losses.append(value)

    def _require_finite(self, weights: Mapping[str, torch.Tensor]) -> None:
        bad = not_finite(weights)
        if bad is not None:
            raise _not_finite(f"The weight {bad} is no number any more after step {self.budget.steps}")

    def _after_epoch(self, engine: Engine) -> None:
        self._end_epoch()
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

    def _tell_epoch(self) -> None:
        for listener in self.listeners:
            listener.epoch(self.history[-1])

    def _before_validation(self, engine: Engine) -> None:
        if self.average is not None:
            self.average.apply()
        task = self._validating.enter_context(
            self.progress.task("Validating", len(self.evaluator.data_loader), "cases")
        )

        def advance(_: Engine) -> None:
            task.advance()
            self._show()

        handle = engine.add_event_handler(Events.ITERATION_COMPLETED, advance)
        self._validating.callback(handle.remove)

    def _end_validation(self) -> None:
        """Give the network its own weights back, and end the bar."""
        self._validating.close()
        if self.average is not None:
            self.average.restore()

    def _after_validation(self, engine: Engine) -> None:
        self._end_validation()
        state = engine.state
        name = state.key_metric_name
        score = float(state.metrics[name]) if name in state.metrics else math.nan
        self._pending = Validation(score, _per_label(state.metric_details.get(name), len(self.labels)))
        self._validated_at_step = self.budget.steps
        if math.isfinite(score) and score > self._best:
            self._best = score
            self._improve(score)
        self._show()

    def _improve(self, score: float | None) -> None:
        weights = self._weights()
        self._require_finite(weights)  # background alone may score better than nothing
        for listener in self.listeners:
            listener.improved(weights, score)

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
        recent = self._losses[-50:] or ([self.history[-1].loss] if self.history else [])
        words = [f"loss {sum(recent) / len(recent):.3f}"] if recent else []
        latest = self._pending or next((row.validation for row in reversed(self.history) if row.validation), None)
        if latest is not None and latest.per_label and len(latest.per_label) <= 4:
            pairs = zip(self.labels, latest.per_label, strict=False)
            words.append("Dice " + " ".join(f"{label} {value:.3f}" for label, value in pairs))
        elif latest is not None:
            words.append(f"Dice {latest.score:.3f}")
        return ", ".join(words)


def _one_window(image: torch.Tensor, inferer: Any) -> tuple[torch.Tensor, int]:
    """A part of an image (batch, channel, i, j, k) that takes one pass of the network, and how many the whole takes."""
    inner = getattr(inferer, "inferer", inferer)
    if not isinstance(inner, SlidingWindowInferer) or image.ndim != 5:
        return image, 1
    sizes = image.shape[2:]
    window = fall_back_tuple(inner.roi_size, sizes)
    padded = [max(size, wide) for size, wide in zip(sizes, window, strict=True)]
    overlaps = ensure_tuple_rep(inner.overlap, len(sizes))
    intervals = _get_scan_interval(padded, window, len(sizes), overlaps)
    part = image[:, :, : window[0], : window[1], : window[2]]
    return part, len(dense_patch_slices(padded, window, intervals))


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
