"""What fits into a search, reckoned by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from volseg.workflows.tune import TuneOptions, budget
from volseg.workflows.tune.budget import Budget
from volseg.workflows.tune.options import Length

if TYPE_CHECKING:
    import pytest

PATCHES: Any = (SimpleNamespace(name="patch", choices=("small", "large")),)


def trials(*minutes_and_patches: tuple[float, str]) -> Any:
    return [
        SimpleNamespace(minutes=minutes, state="complete", settings={"patch": patch})
        for minutes, patch in minutes_and_patches
    ]


def test_as_many_trials_fit_as_their_minutes_and_what_they_take_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: 160.0))
    done = trials((3.0, "small"), (2.5, "small"))
    found = Budget.of(TuneOptions(minutes=20), Length(minutes=2.0), PATCHES, 100.0, done)
    assert (found.total, found.used(done)) == (20, 6.5)
    assert found.room(done) == 13.5 / 3  # another patch may come, for which cases are prepared anew
    assert found.room(trials((3.0, "small"), (4.0, "large"), (2.5, "small"))) == 13.5 / 2.5
    assert found.room(trials((1.9, "small"))) == 13.5 / 2


def test_trials_that_are_counted_take_no_time() -> None:
    found = Budget.of(TuneOptions(trials=5, trial_epochs=3), Length(epochs=3), PATCHES, 0.0, ())
    assert (found.total, found.used(trials((9.0, "small"))), found.room(trials((9.0, "small")))) == (5, 1, 4)
