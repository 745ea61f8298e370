"""One trial: a short training of the bundle with other settings, in a folder of its own."""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.atomic import write_error, write_text
from volseg.bundle.folder import CONFIGS, Bundle
from volseg.bundle.own_runs import is_own_run
from volseg.bundle.weights import inference_network
from volseg.bundle.write import write_config
from volseg.errors import DiskFullError, FileError, VolsegError
from volseg.training.listeners import Listener
from volseg.verbs.train import TrainOptions
from volseg.verbs.train.fold import Fold, run_folder
from volseg.verbs.train.session import train_fold
from volseg.verbs.train.split import write_split
from volseg.words import counted
from volseg.workflows.tune.study import MARKS

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from volseg.progress import Progress
    from volseg.training.history import Epoch
    from volseg.training.listeners import RunView
    from volseg.verbs.train.fold import Data
    from volseg.workflows.tune.options import Length, State, TuneOptions
    from volseg.workflows.tune.space import Configs
    from volseg.workflows.tune.study import Trial

OVERRUN_SECONDS = 20.0
"""What a trial may take beyond its minutes."""
NEARLY_OVER = 0.95
"""A trial that came so far is not ended any more."""


class TrialPrunedError(VolsegError):
    """A trial is not worth its rest."""

    default_code = "pruned"


@dataclass(frozen=True)
class Ended:
    """What became of a trial.

    Args:
        state: how it ended.
        score: mean Dice of its last validation.
        steps: optimizer steps.
        setup_seconds: what went by before its minutes began.
        error: why it failed.
    """

    state: State
    score: float | None = None
    steps: int = 0
    setup_seconds: float = 0.0
    error: VolsegError | None = None


@dataclass(frozen=True)
class TrialRunner:
    """Trains trials on the same data, for the same length.

    Args:
        place: the folder of the data set.
        data: its cases and split.
        options: of the search.
        fold: whose cases are held out.
        length: of each trial.
        device: where to compute.
        progress: receives the progress.
    """

    place: Path
    data: Data
    options: TuneOptions
    fold: int
    length: Length
    device: torch.device
    progress: Progress

    def run(self, root: Path, configs: Configs, seed: int, trial: Trial, *, may_prune: bool) -> Ended:
        """Train a trial, or go on with it; what it only needed to go on is removed then.

        Args:
            root: the trial's folder.
            configs: what to train by.
            seed: of its draws.
            trial: is told of validations.
            may_prune: whether it may be ended early.

        Raises:
            DiskFullError, FileError: no trial can be written.
        """
        run = run_folder(Bundle(root), self.fold).folder
        if run.exists() and not is_own_run(run):
            self.progress.say(f"Trial {trial.number} begins anew: what lies in {run} was not made here.")
            remove_trial(root)
        write_trial_bundle(root, configs)
        judge = Judge(trial, self.length, OVERRUN_SECONDS, may_prune=may_prune)
        try:
            ended = self._train(Bundle(root), seed, judge)
        except TrialPrunedError:
            ended = Ended("pruned", steps=judge.steps, setup_seconds=judge.setup_seconds)
        except (DiskFullError, FileError):
            raise
        except VolsegError as error:
            ended = Ended("failed", steps=judge.steps, setup_seconds=judge.setup_seconds, error=error)
        for path in root.rglob("*.pt"):
            with suppress(OSError):
                path.unlink()
        return ended

    def _train(self, bundle: Bundle, seed: int, judge: Judge) -> Ended:
        options = TrainOptions(
            data=self.place,
            fold=self.fold,
            minutes=self.length.minutes,
            epochs=self.length.epochs,
            seed=seed,
            memory_for_data=self.options.memory_for_data,
            cache=self.options.cache,
        )
        assert self.data.split is not None, "one fold is held out"
        write_split(bundle, self.data.split, options, self.progress)
        fold = Fold.open(bundle, self.fold, options, self.device, bundle.read_config("train"), publishes=False)
        network = inference_network(bundle)
        try:
            result = (
                fold.finished()
                if fold.complete
                else train_fold(
                    fold, fold.config(self.place), self.data, network, None, self.progress, listeners=(judge,)
                )
            )
        finally:
            gc.collect()  # engines and handlers refer to each other
            _free_gpu(self.device)
        last = result.history[-1] if result.history else None
        score = math.nan if last is None or last.validation is None else last.validation.score
        steps = 0 if last is None else last.step
        error = None
        if not result.complete:
            error = VolsegError(
                f"{counted(steps, 'step')} in {self.length} make no model. Give each trial more with --trial-minutes and "
                "--fresh.",
                code="too-short",
            )
        elif not math.isfinite(score):
            error = VolsegError("The held-out cases give no score: none has a label.", code="no-score")
        if error is not None:
            return Ended("failed", None, steps, judge.setup_seconds, error)
        return Ended("complete", score, steps, judge.setup_seconds)


def write_trial_bundle(root: Path, configs: Configs) -> None:
    """Write the configs of a trial; those of one that goes on are there already.

    Raises:
        FileError: they can't be written.
    """
    write_config(root / CONFIGS / "inference.yaml", configs.inference)
    write_config(root / CONFIGS / "train.yaml", configs.train)
    write_text(root / CONFIGS / "metadata.json", json.dumps(configs.metadata, indent=1) + "\n")


def remove_trial(root: Path) -> None:
    """Remove what lies in a trial's folder.

    Raises:
        FileError: it can't be removed.
    """
    try:
        shutil.rmtree(root)
    except OSError as error:
        raise write_error(root, error) from error


class Judge(Listener):
    """Compares a trial with the others at parts of its length, and ends it where it is among the worst."""

    def __init__(self, trial: Trial, length: Length, overrun_seconds: float, *, may_prune: bool) -> None:
        self._trial, self._length, self._may_prune = trial, length, may_prune
        self._overrun_seconds = overrun_seconds
        self._before: tuple[float, float] | None = None
        self._made = time.monotonic()
        self.setup_seconds = 0.0
        self.steps = 0

    def began(self, run: RunView) -> None:
        """Note how long the cases took."""
        super().began(run)
        self.setup_seconds = time.monotonic() - self._made
        for row in run.history:
            self._before = self._point(row) or self._before

    def timed(self, overrun_seconds: float, validated: int | None, enough_minutes: float) -> None:
        """Refuse a trial that has no time to validate all cases, by which it is compared with the others.

        Raises:
            VolsegError: it would, with the code ``too-long``.
        """
        if overrun_seconds > self._overrun_seconds or validated is not None:
            raise VolsegError(
                f"There is no time in {self._length} to validate all cases held out, by which trials are compared. Give each "
                f"trial more: --trial-minutes {math.ceil(11 * enough_minutes) / 10:g} --fresh",
                code="too-long",
            )

    def epoch(self, row: Epoch) -> None:
        """Compare at each mark that was passed, by the score between two validations.

        Raises:
            TrialPrunedError: it is not worth its rest.
        """
        self.steps = row.step
        now, before = self._point(row), self._before
        if now is None:
            return
        self._before = now
        if before is None:
            return
        is_worse = False
        for mark in MARKS:
            if before[0] < mark <= now[0]:
                share = (mark - before[0]) / (now[0] - before[0])
                is_worse |= self._trial.is_worse(mark, before[1] + share * (now[1] - before[1]))
        if is_worse and self._may_prune and now[0] < NEARLY_OVER:
            raise TrialPrunedError("Among the worst trials")

    def _point(self, row: Epoch) -> tuple[float, float] | None:
        """The part of the trial that is over, and the score then."""
        if row.validation is None or not math.isfinite(row.validation.score):
            return None
        if self._length.minutes is not None:
            return row.minutes / self._length.minutes, row.validation.score
        return row.epoch / (self._length.epochs or 1), row.validation.score


def _free_gpu(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
