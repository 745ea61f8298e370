"""What training may be asked for, and what it comes to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.errors import UsageError
from volseg.options import PathOption

if TYPE_CHECKING:
    from volseg.training.history import Epoch

DEFAULT_SEED = 0
PUBLISHING_FOLD = 0
"""Its model becomes models/model.pt, and so does that of all cases; another fold's only where there was none."""
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train."""

    data: PathOption | None = None
    """The data set, instead of the one that the bundle names."""

    fold: int = PUBLISHING_FOLD
    """The fold of five that is held out, 0 to 4."""

    cv: bool = False
    """Train all five folds, one after the other, and sum them up."""

    all_cases: bool = False
    """Hold out no case."""

    minutes: float | None = None
    """Stop after so many minutes of wall time, resumed runs included; the schedule is fitted to it."""

    epochs: int | None = None
    """Stop after so many epochs instead of the plan's."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""

    fresh: bool = False
    """Start over, and remove what an earlier run of this fold left."""

    seed: int = DEFAULT_SEED
    """Of all random draws."""

    @property
    def folds(self) -> tuple[int | None, ...]:
        """The folds to train, one after the other; None holds out no case."""
        if self.cv:
            return tuple(range(FOLDS))
        return (None,) if self.all_cases else (self.fold,)

    def require_sense(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: options exclude each other, or a number is out of range.
        """
        if self.cv and self.all_cases:
            raise UsageError("--cv holds out every case once and --all-cases none. Choose one of them.")
        if self.minutes is not None and self.epochs is not None:
            raise UsageError("--minutes and --epochs both say how long to train. Choose one of them.")
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise UsageError("--minutes must be above 0.")
        if self.epochs is not None and self.epochs < 1:
            raise UsageError("--epochs must be at least 1.")
        if not 0 <= self.fold < FOLDS:
            raise UsageError(f"There is no fold {self.fold}: the folds are 0 to {FOLDS - 1}.")


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
    """

    name: str
    folder: Path
    history: tuple[Epoch, ...]
    labels: tuple[str, ...]
    complete: bool
    already: bool
    training: int
    validation: int

    @property
    def best(self) -> Epoch | None:
        """The epoch of the best validation; None without any."""
        scores = {row: row.validation.score for row in self.history if row.validation is not None}
        return max((row for row in scores if math.isfinite(scores[row])), key=scores.__getitem__, default=None)
