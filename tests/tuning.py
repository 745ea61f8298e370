"""Searches whose trials train nothing: each is scored by a function of its train config and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.workflows.tune import results
from volseg.workflows.tune.space import Space
from volseg.workflows.tune.trial import Ended, TrialRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pytest

    from volseg.workflows.tune.space import Configs
    from volseg.workflows.tune.study import Trial

    Score = Callable[[Mapping[str, object], int], float | Ended]


def score_by(monkeypatch: pytest.MonkeyPatch, score: Score) -> list[Mapping[str, object]]:
    """Score trials by a function of train config and seed; gives the configs that were tried, as they come."""
    tried: list[Mapping[str, object]] = []

    def run(_: TrialRunner, __: Path, configs: Configs, seed: int, ___: Trial, *, may_prune: bool) -> Ended:
        del may_prune
        found = score(configs.train, seed)
        tried.append(configs.train)
        return found if isinstance(found, Ended) else Ended("complete", found, steps=4)

    monkeypatch.setattr(TrialRunner, "run", run)
    plainly(monkeypatch)
    return tried


def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reckon a trial's memory nor draw a picture."""
    monkeypatch.setattr(Space, "lacks_memory", lambda *_: "")
    monkeypatch.setattr(results, "draw_search", lambda *_: None)


def patch_of(config: Mapping[str, object]) -> tuple[int, ...]:
    """The patch that a train config validates by."""
    validate = config["validate"]
    assert isinstance(validate, dict)
    return tuple(validate["inferer"]["inferer"]["roi_size"])
