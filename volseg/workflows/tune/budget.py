"""What a search may use: time, or a number of trials."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.workflows.tune.options import DEFAULT_TRIALS, MOST_TRIALS, total_minutes
from volseg.workflows.tune.space import PATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.workflows.tune.options import Length, TuneOptions, TuneTrial
    from volseg.workflows.tune.space import Parameter


@dataclass(frozen=True)
class Budget:
    """What a search may use, and has used.

    Args:
        length: of each trial.
        total_minutes: for all trials; None where only their number ends the search.
        most: how many trials there may be.
        parameters: what is searched.
        started: ``time.monotonic()`` of when this call began.
        before_minutes: what the trials of earlier calls took.
    """

    length: Length
    total_minutes: float | None
    most: int
    parameters: Sequence[Parameter]
    started: float
    before_minutes: float

    @classmethod
    def of(
        cls,
        options: TuneOptions,
        length: Length,
        parameters: Sequence[Parameter],
        started: float,
        before: Sequence[TuneTrial],
    ) -> Budget:
        """What a person allows; arguments as above, and the trials of earlier calls."""
        by_time = length.minutes is not None
        return cls(
            length,
            total_minutes(options) if by_time else None,
            options.trials or (MOST_TRIALS if by_time else DEFAULT_TRIALS),
            parameters,
            started,
            sum(one.minutes for one in before),
        )

    @property
    def total(self) -> float:
        """Minutes, or trials where only their number ends the search."""
        return self.total_minutes or float(self.most)

    def used(self, trials: Sequence[TuneTrial]) -> float:
        """How much of the total is used up."""
        return float(len(trials)) if self.total_minutes is None else self._minutes

    @property
    def _minutes(self) -> float:
        return self.before_minutes + (time.monotonic() - self.started) / 60

    def room(self, trials: Sequence[TuneTrial]) -> float:
        """How many more trainings fit."""
        done = [one for one in trials if one.state != "unfinished"]
        by_number = float(self.most - len(done))
        if self.total_minutes is None or self.length.minutes is None:
            return by_number
        return min(by_number, (self.total_minutes - self._minutes) / (self.length.minutes + self._beside(done)))

    def _beside(self, done: Sequence[TuneTrial]) -> float:
        """The minutes that a trial takes beside its own, at most: cases are prepared once for each patch."""
        firsts, others, seen = list[float](), list[float](), set[object]()
        for one in done:
            patch = one.settings.get(PATCH)
            if one.state == "complete":
                (others if patch in seen else firsts).append(one.minutes - (self.length.minutes or 0.0))
            seen.add(patch)
        known = all(one.name != PATCH or seen.issuperset(one.choices) for one in self.parameters)
        return max(0.0, *(others if known and others else firsts), 0.0)
