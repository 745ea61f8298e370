"""Options and results of training."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.errors import UsageError
from volseg.options import PathOption
from volseg.planning.wishes import parse_memory

if TYPE_CHECKING:
    from volseg.progress import Progress
    from volseg.training.history import Epoch
    from volseg.training.prepared import Store

ENCODER = "encoder"
TRACKERS = ("tensorboard", "mlflow")
DEFAULT_SEED = 0
MAX_SEED = 2**32
"""numpy's and MONAI's take no larger one."""
DEFAULT_FOLD = 0


@dataclass(frozen=True)
class FreezeOption:
    """How long the encoder stays as it was taken.

    Args:
        epochs: the first so many; None means to the end.
    """

    epochs: int | None


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train."""

    data: PathOption | None = None
    """The data set, instead of the one that the bundle names."""

    fold: int | None = None
    """The fold whose cases are held out: 0 to 4, fewer where there are fewer patients, or as many as --folds brings; 0
    unless told otherwise."""

    folds: PathOption | None = None
    """Split the data set as a file says: nnU-Net's splits_final.json, or a CSV with the columns case and fold."""

    cv: bool = False
    """Train all folds, as many side by side as the device has room for; score each case by the fold that held it out,
    choose the bundle's rules for labels by these scores, and make the models an ensemble for predict --folds all."""

    at_once: int = 0
    """With --cv, how many folds are trained side by side; 0 takes as many as the device has room for. On a CPU they
    share its cores."""

    keep_rules: bool = False
    """With --cv, leave the bundle's rules for labels as they are."""

    all_cases: bool = False
    """Hold out no case."""

    minutes: float | None = None
    """Stop after so many minutes of wall time, resumed runs included; the schedule is fitted to it. With --cv these are
    the minutes of each fold, from the command's start where it begins at once, else from its own."""

    epochs: int | None = None
    """Stop after so many epochs instead of the plan's."""

    patience: int | None = None
    """End earlier, after so many epochs without a better validation."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""

    fresh: bool = False
    """Start over, and remove what an earlier run of this fold left; with --cv split the data set anew, too."""

    publish: bool = False
    """Make this run's model the one in models/, also where another run's is there."""

    adopt_runs: bool = False
    """Go on with runs that lie in the bundle and were not made here, such as those of a bundle that you moved from
    another place or computer."""

    seed: int = DEFAULT_SEED
    """The start of all random draws, so that a run can be repeated; one that goes on keeps its own."""

    memory_for_data: str | None = None
    """What prepared cases may take of the memory, such as 4GB, also while they are prepared; two fifths of what is free
    unless told otherwise. The rest is read from files."""

    cache: PathOption | None = None
    """A folder that prepared cases are kept in, under prepared, instead of your cache folder."""

    deterministic: bool = False
    """On a GPU, compute in a way that gives the same numbers each time, which is slower."""

    init_from: PathOption | None = None
    """Begin with what fits of other weights: a bundle, of which nothing is run, or a file of weights."""

    freeze: str | None = None
    """With --init-from, keep the encoder as it was taken: encoder:5 for the first five epochs, encoder to the end."""

    taken_rate: float | None = None
    """With --init-from, what the learning rate of the weights that were taken is multiplied by; 0.3 unless told
    otherwise."""

    track: str | None = field(default=None, metadata={"private": True})  # a URI may hold a password
    """Tell tensorboard or mlflow of each epoch and show it a slice of a validated case; mlflow:URI names a server or
    database, else it is a file in your cache folder. Name it again when the run goes on."""

    @property
    def tracker(self) -> tuple[str, str] | None:
        """The tracker that ``track`` names, and its URI, which is empty without one; None where nothing is tracked.

        Raises:
            UsageError: it names none.
        """
        if self.track is None:
            return None
        name, colon, uri = self.track.partition(":")
        if name not in TRACKERS or (colon and name != "mlflow"):
            raise UsageError("--track takes tensorboard, mlflow, or mlflow:URI.")
        if colon and not re.fullmatch(r"(https?|sqlite)://\S+", uri):
            raise UsageError("--track mlflow:URI takes a server (https://...) or a database (sqlite:////...).")
        if find_spec(name) is None:
            raise UsageError(f'--track {name}: it is not installed. Install it with: pip install "volseg[track]"')
        return name, uri

    @property
    def freezing(self) -> FreezeOption | None:
        """What ``freeze`` says; None where nothing is frozen.

        Raises:
            UsageError: it says something else.
        """
        if self.freeze is None:
            return None
        part, colon, count = self.freeze.partition(":")
        if part != ENCODER or (colon and not (count.isascii() and count.isdigit() and int(count[:9]) > 0)):
            raise UsageError("--freeze takes encoder, or encoder:5 for the first five epochs.")
        return FreezeOption(int(count[:9]) if colon else None)

    @property
    def one_fold(self) -> int:
        """The fold that is held out where one is."""
        return DEFAULT_FOLD if self.fold is None else self.fold

    @property
    def splits_anew(self) -> bool:
        """Whether all folds start over, so that there is no split to keep to."""
        return self.fresh and self.cv

    def numbers(self, count: int) -> tuple[int | None, ...]:
        """The folds to train of ``count``, one after the other; None holds out no case.

        Raises:
            UsageError: there is no such fold.
        """
        if self.all_cases:
            return (None,)
        if self.cv:
            return tuple(range(count))
        if not 0 <= self.one_fold < count:
            raise UsageError(f"There is no fold {self.one_fold}: the folds are 0 to {count - 1}.")
        return (self.one_fold,)

    def store(self, progress: Progress, beside: int = 1) -> Store:
        """Where prepared cases are kept.

        Args:
            progress: is told what is written.
            beside: how many folds share the memory for them; their files all folds share.

        Raises:
            UsageError: ``memory_for_data`` is no size.
        """
        from volseg.training.prepared import Store, memory_for_data

        asked = None if self.memory_for_data is None else parse_memory(self.memory_for_data, "--memory-for-data")
        memory = memory_for_data() if asked is None else asked
        folder = None if self.cache is None else Path(self.cache) / "prepared"
        # One of them prepares, and the others wait for it.
        return Store(memory // beside, folder, progress, preparing_bytes=memory)

    def shared_by(self, processes: int) -> TrainOptions:
        """The options of each of so many processes on a machine, which share its memory.

        Raises:
            UsageError: ``memory_for_data`` is no size.
        """
        from volseg.training.prepared.store import memory_for_data

        asked = None if self.memory_for_data is None else parse_memory(self.memory_for_data, "--memory-for-data")
        share = memory_for_data() if asked is None else asked
        return replace(self, memory_for_data=f"{max(1, share // processes // 10**6)}MB")

    def require_sense(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: options exclude each other, or a number is out of range.
        """
        if self.cv and self.all_cases:
            raise UsageError("--cv holds out every case once and --all-cases none. Choose one of them.")
        if self.fold is not None and (self.cv or self.all_cases):
            other = "--cv trains every fold" if self.cv else "--all-cases holds out none"
            raise UsageError(f"--fold names one fold and {other}. Choose one of them.")
        if self.minutes is not None and self.epochs is not None:
            raise UsageError("--minutes and --epochs both say how long to train. Choose one of them.")
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise UsageError("--minutes must be above 0.")
        if self.epochs is not None and self.epochs < 1:
            raise UsageError("--epochs must be at least 1.")
        if not 0 <= self.seed < MAX_SEED:
            raise UsageError("--seed must be from 0 to 4294967295.")
        if self.taken_rate is not None and not (math.isfinite(self.taken_rate) and 0 < self.taken_rate <= 1):
            raise UsageError("--taken-rate must be above 0 and at most 1.")
        _ = self.freezing
        _ = self.tracker
        if self.memory_for_data is not None:
            parse_memory(self.memory_for_data, "--memory-for-data")
        if self.patience is not None and self.patience < 1:
            raise UsageError("--patience must be at least 1.")
        if self.patience is not None and self.all_cases:
            raise UsageError("--patience looks at validations and --all-cases holds out none. Choose one of them.")
        if self.all_cases and self.folds is not None:
            raise UsageError("--folds splits the data set and --all-cases holds out none. Choose one of them.")
        if self.at_once < 0:
            raise UsageError("--at-once must be at least 1, or 0 for as many folds as the device has room for.")
        if not self.cv and (self.at_once or self.keep_rules):
            option = "--at-once" if self.at_once else "--keep-rules"
            raise UsageError(f"{option} is for --cv, which trains several folds.")
        if self.cv and self.publish:
            raise UsageError("--publish means one run's model and --cv trains several. Name one with --fold.")


@dataclass(frozen=True)
class FoldResult:
    """What training one fold came to.

    Args:
        name: ``fold_0``, or ``all_cases``.
        folder: where its checkpoints, CSV and curve lie.
        history: one row for each epoch.
        labels: names of the labels above background.
        complete: whether the budget is spent.
        already: whether it was complete before, so that nothing was done.
        training: how many cases it trained on; ``validation``: how many it held out.
        validated: at how many of these each validation looked, where there was no time for all; else None.
        published: the run whose model is in ``models/`` by now; None where it is of no run that volseg knows.
        failed: what ended it beside other folds, in a sentence; empty where nothing did.
    """

    name: str
    folder: Path
    history: tuple[Epoch, ...] = field(repr=False)
    labels: tuple[str, ...]
    complete: bool
    already: bool
    training: int
    validation: int
    published: str | None = None
    failed: str = ""
    validated: int | None = None

    @property
    def best(self) -> Epoch | None:
        """The epoch of the best validation; None without any."""
        from volseg.training.history import best_epoch

        return best_epoch(self.history)
