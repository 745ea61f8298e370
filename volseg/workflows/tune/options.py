"""Options and results of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from volseg.errors import UsageError
from volseg.options import PathOption
from volseg.words import counted

DEFAULT_MINUTES = 60.0
DEFAULT_TRIALS = 12
LEAST_TRIAL_MINUTES = 0.5
"""Below, reading the cases and the last validation leave no time to learn anything in."""
LEAST_MINUTES = 0.01
"""Of a trial; a length is kept to the ten thousandth of a minute."""
DEFAULT_TRIAL_MINUTES = 5.0
"""Where only the number of trials is known."""
MOST_TRIALS = 1000
MAX_SEED = 2**32 - 2
"""One more is the seed of the settings that are tried again."""

Value = str | float
State = Literal["complete", "pruned", "failed", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How to search."""

    data: PathOption | None = None
    """The data set, instead of the one that the bundle names."""

    minutes: float | None = None
    """The time for the whole search, earlier calls included; 60 unless told otherwise. A trial that would not end within
    it is not begun."""

    trials: int | None = None
    """At most so many trials."""

    trial_minutes: float | None = None
    """The time for each trial, once its cases are prepared; a twelfth of --minutes unless told otherwise, at least half a
    minute."""

    trial_epochs: int | None = None
    """Train each trial for so many epochs, not for minutes: the same steps whatever a step costs. With --trials, and
    without --minutes."""

    fold: int | None = None
    """The fold whose held-out cases give the score; 0 unless told otherwise."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""

    seed: int | None = None
    """The start of all random draws, those of the search as well; 0 unless told otherwise."""

    fresh: bool = False
    """Forget an earlier search of this bundle and begin anew, from its configs as they are now."""

    memory_for_data: str | None = None
    """What prepared cases may take of the memory, such as 4GB; two fifths of what is free unless told otherwise."""

    cache: PathOption | None = None
    """A folder that prepared cases are kept in, under prepared, instead of your cache folder."""

    def require_sense(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: options exclude each other, or a number is out of range.
        """
        for name, value in (("--minutes", self.minutes), ("--trial-minutes", self.trial_minutes)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be above 0.")
        if self.trial_minutes is not None and self.trial_minutes < LEAST_MINUTES:
            raise UsageError(f"--trial-minutes must be at least {LEAST_MINUTES:g}: nothing is learnt in less.")
        if self.trials is not None and not 1 <= self.trials <= MOST_TRIALS:
            raise UsageError(f"--trials must be from 1 to {MOST_TRIALS}.")
        if self.trial_epochs is not None and self.trial_epochs < 1:
            raise UsageError("--trial-epochs must be at least 1.")
        if self.trial_epochs is not None and (self.minutes is not None or self.trial_minutes is not None):
            raise UsageError(
                "--trial-epochs gives each trial the same steps, and minutes the same time. Choose one of them; --trials "
                "says how many trials of so many epochs."
            )
        if self.fold is not None and self.fold < 0:
            raise UsageError("--fold must be at least 0.")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed must be from 0 to {MAX_SEED}.")


@dataclass(frozen=True)
class Length:
    """How long each trial is trained: minutes, or epochs where those are given."""

    minutes: float | None = None
    epochs: int | None = None

    @classmethod
    def of(cls, options: TuneOptions) -> Length:
        """What was asked for, or what the whole time suggests.

        Raises:
            UsageError: a trial would take longer than all of them together.
        """
        if options.trial_epochs is not None:
            return cls(epochs=options.trial_epochs)
        whole = total_minutes(options)
        if options.trial_minutes is not None:
            length = options.trial_minutes
        elif whole is None:
            length = DEFAULT_TRIAL_MINUTES
        else:
            length = max(whole / DEFAULT_TRIALS, LEAST_TRIAL_MINUTES)
        if whole is not None and length > whole:
            raise UsageError(f"A trial of {length:g} minutes doesn't fit into {whole:g}. Give more --minutes.")
        return cls(minutes=round(length, 4))

    def __str__(self) -> str:
        return counted(self.epochs or 0, "epoch") if self.minutes is None else f"{self.minutes:g} minutes"


def total_minutes(options: TuneOptions) -> float | None:
    """The time for all trials; None where only their number ends the search."""
    if options.minutes is None and (options.trials is not None or options.trial_epochs is not None):
        return None
    return DEFAULT_MINUTES if options.minutes is None else options.minutes


@dataclass(frozen=True)
class TuneTrial:
    """One training of the search.

    Args:
        number: from 0, the plan as it is.
        state: what became of it.
        settings: what was tried, by the names of ``Tuned.parameters``.
        score: mean Dice over labels of the held-out cases, at the end; None where it did not come so far.
        steps: optimizer steps.
        minutes: wall time, the preparing of cases included.
        seed: of its random draws.
        repeats: the trial whose settings it tries again with another seed; None for settings of its own.
        reason: why it failed, as the code of an error.
    """

    number: int
    state: State
    settings: dict[str, Value]
    score: float | None = None
    steps: int = 0
    minutes: float = 0.0
    seed: int = 0
    repeats: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Args:
        folder: where its table, its picture and its trials lie.
        parameters: what was searched.
        trials: all so far.
        best: the number of the trial whose settings the bundle has now; 0 where the plan stays as it was.
        gain: mean score of these settings less that of the plan, over the seeds that were tried.
        spread: how far two trainings of the same settings lay apart, at most; None where none was repeated.
        written: the files of the bundle that this call changed.
        kept: the folder of what was there before; None where nothing was changed.
        left_out: what was not searched and why, in words.
        already: whether the search was complete before.
        failed: why it ended early, in a sentence; empty where nothing did.
    """

    folder: Path
    parameters: tuple[str, ...]
    trials: tuple[TuneTrial, ...] = field(repr=False)
    best: int
    gain: float
    spread: float | None
    written: tuple[str, ...] = ()
    kept: Path | None = None
    left_out: tuple[str, ...] = ()
    already: bool = False
    failed: str = ""
