"""The interface between a training run and what writes its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from volseg.training.checkpoint import RunFolder, RunState
    from volseg.training.history import Epoch


@dataclass(frozen=True)
class RunView:
    """What a listener may know of the run.

    Args:
        folder: where its files lie; ``folder.record`` holds the provenance.
        labels: names of the labels above background, in the order of ``Validation.per_label``.
        history: the rows of earlier runs, where it goes on.
    """

    folder: RunFolder
    labels: tuple[str, ...]
    history: tuple[Epoch, ...] = ()


class Listener:
    """Hears what becomes of a training run. A child overrides what it listens to; an error in it ends the run."""

    def began(self, run: RunView) -> None:
        """Training begins, or goes on; always the first. ``run`` is kept for what follows."""
        self.run = run

    def timed(self, overrun_seconds: float, validated: int | None, enough_minutes: float) -> None:
        """The first step comes next: what the run would take beyond its minutes if each validation looked at all cases
        held out, at how many of them each will look instead (None for all), and with how many minutes at all."""

    def epoch(self, row: Epoch) -> None:
        """An epoch, or the part of it that the budget left, is over. ``row.validation`` is what came after it."""

    def improved(self, weights: Mapping[str, Tensor], score: float | None, steps: int) -> None:
        """A validation was the best so far; without any, the run is over and ``score`` is None. Weights on the CPU, after ``steps``."""

    def saved(self, state: RunState) -> None:
        """It is time to write what a later run goes on from: now and then, after an interrupt, at the end."""

    def ended(self, weights: Mapping[str, Tensor], *, complete: bool) -> None:
        """The budget is spent; ``saved`` follows. Weights of the last step, averaged where the bundle does so."""
