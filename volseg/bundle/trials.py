"""Models that were trained for too few steps to have learned anything, and are told as trials wherever they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.bundle.published import Published
from volseg.training.checkpoint import RunFolder
from volseg.training.history import read_history, steps_of_model, trial_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.bundle.ensemble import Member
    from volseg.bundle.folder import Bundle


def trials_of(bundle: Bundle, weights: Path) -> tuple[str, ...]:
    """That a model is a trial, by what its run or its publication recorded; empty where it is none, or nobody knows.

    Args:
        bundle: the bundle.
        weights: the published model, the best of one of its runs, or others, of which nothing is known.

    Raises:
        BundleError, InputError: a record is damaged.
        FileError: a file can't be read.
    """
    words = trial_words(_steps(bundle, weights.resolve()))
    return (words,) if words else ()


def trials_among(members: Sequence[Member]) -> tuple[str, ...]:
    """Which models of an ensemble are trials, a sentence each."""
    told = ((member.fold, trial_words(member.steps)) for member in members)
    return tuple(f"Fold {fold}: {words}" for fold, words in told if words)


def _steps(bundle: Bundle, weights: Path) -> int | None:
    if weights == bundle.model_path.resolve():
        record = Published.read(bundle)
        return None if record is None else record.steps_of(weights)
    history = RunFolder(weights.parent).history
    if weights.parent.parent != bundle.runs.resolve() or not history.is_file():
        return None
    return steps_of_model(read_history(history)[0])
