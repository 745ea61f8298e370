"""What the trials of a search tell: the best settings, their gain, and how much of it may be chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.workflows.tune.options import TuneTrial

REPEATING_TRIALS = 6
"""From so many trainings on, two of them try the plan and the best again with another seed."""


@dataclass(frozen=True)
class Verdict:
    """What is known by now.

    Args:
        best: the trial whose settings win: its mean score over seeds is above the plan's, or it is the plan.
        plan_scores: of the plan, one for each seed.
        best_scores: of the winner.
        spread: how far two trainings of the same settings lay apart, at most; None where none was repeated.
    """

    best: int
    plan_scores: tuple[float, ...]
    best_scores: tuple[float, ...]
    spread: float | None

    @property
    def gain(self) -> float:
        """Mean score of the winner less that of the plan."""
        return _mean(self.best_scores) - _mean(self.plan_scores)

    @classmethod
    def of(cls, trials: Sequence[TuneTrial]) -> Verdict | None:
        """By all trials so far; None before the plan itself was trained."""
        plan = scores_of(trials, 0)
        leader = leading(trials)
        if not plan or leader is None:
            return None
        others = scores_of(trials, leader)
        best, scores = (leader, others) if _mean(others) > _mean(plan) else (0, plan)
        repeated = [found for one in (0, leader) if len(found := scores_of(trials, one)) > 1]
        spread = max((max(found) - min(found) for found in repeated), default=None)
        return cls(best, plan, scores, spread)


def leading(trials: Sequence[TuneTrial]) -> int | None:
    """The trial with the best score of the first seed; None without any."""
    scored = [(one.score, -one.number) for one in trials if one.score is not None and one.repeats is None]
    return -max(scored)[1] if scored else None


def scores_of(trials: Sequence[TuneTrial], number: int) -> tuple[float, ...]:
    """The scores of a trial's settings, one for each seed."""
    return tuple(one.score for one in trials if one.score is not None and number in (one.number, one.repeats))


def to_repeat(trials: Sequence[TuneTrial]) -> list[int]:
    """The trials that are worth another seed: the plan, and what leads by now."""
    leader = leading(trials)
    tried = {one.repeats for one in trials}
    return [one for one in dict.fromkeys((0, leader)) if one is not None and one not in tried]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
