"""Models of too few steps are told as trials, by what is recorded of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from volseg.bundle.ensemble import Member
from volseg.bundle.folder import Bundle
from volseg.bundle.published import publish
from volseg.bundle.trials import trials_among, trials_of
from volseg.training.history import LEAST_STEPS, Epoch, Validation, write_history

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = {"weight": torch.zeros(2)}


def test_a_published_model_is_told_by_its_record(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)
    bundle.model_path.parent.mkdir()
    assert trials_of(bundle, bundle.model_path) == ()  # nobody knows of it
    publish(bundle, None, WEIGHTS, "fold_0", None, LEAST_STEPS - 1)
    (told,) = trials_of(bundle, bundle.model_path)
    assert f"{LEAST_STEPS - 1} steps only" in told
    bundle.model_path.write_bytes(b"another")
    assert trials_of(bundle, bundle.model_path) == ()
    publish(bundle, None, WEIGHTS, "fold_0", None, LEAST_STEPS)
    assert trials_of(bundle, bundle.model_path) == ()


def test_a_run_s_best_is_told_by_the_step_of_its_best_validation(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)
    run = bundle.runs / "fold_1"
    run.mkdir(parents=True)
    rows = [Epoch(n, 10 * n, n, 0.1, 1.0, Validation(score)) for n, score in ((1, 0.9), (2, 0.1), (3, 0.2))]
    write_history(run / "history.csv", rows, ())
    assert "10 steps only" in trials_of(bundle, run / "best.pt")[0]
    write_history(run / "history.csv", rows[1:], ())
    assert trials_of(bundle, run / "best.pt") == ()
    write_history(tmp_path / "history.csv", rows, ())
    assert trials_of(bundle, tmp_path / "best.pt") == ()  # no run of the bundle


def test_of_an_ensemble_each_trial_is_named() -> None:
    members = [Member(0, "", "", None, 500), Member(3, "", "", None, 1), Member(4, "", "", None, None)]
    (told,) = trials_among(members)
    assert told.startswith("Fold 3: ")
    assert "1 step only" in told
