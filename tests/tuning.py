"""Searches whose trials train nothing: each is scored by a function of its train config and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.workflows.tune import results
from volseg.workflows.tune.space import Space
from volseg.workflows.tune.trial import Ended, TrialRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

    from volseg.bundle.folder import Bundle

    Score = Callable[[Mapping[str, object], int], float | Ended]


def score_by(monkeypatch: pytest.MonkeyPatch, score: Score) -> list[Mapping[str, object]]:
    """Score trials by a function of train config and seed; gives the configs that were tried, as they come."""
    tried: list[Mapping[str, object]] = []

    def train(_: TrialRunner, bundle: Bundle, seed: int, __: object) -> Ended:
        config = bundle.read_config("train")
        found = score(config, seed)
        tried.append(config)
        return found if isinstance(found, Ended) else Ended("complete", found, steps=4)

    monkeypatch.setattr(TrialRunner, "_train", train)
    monkeypatch.setattr(Space, "lacks_memory", lambda *_: "")  # nor reckons anything
    monkeypatch.setattr(results, "draw_search", lambda *_: None)
    return tried


def patch_of(config: Mapping[str, object]) -> tuple[int, ...]:
    """The patch that a train config validates by."""
    validate = config["validate"]
    assert isinstance(validate, dict)
    return tuple(validate["inferer"]["inferer"]["roi_size"])
