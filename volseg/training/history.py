"""A run's history: one row for each epoch, as a table that programs read."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.errors import InputError
from volseg.files import read_bounded
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FIXED_COLUMNS = ("epoch", "step", "minutes", "learning_rate", "loss", "validation")
LABEL_PREFIX = "dice_"
MAX_HISTORY_BYTES = 2**26
"""A hundred thousand epochs with fifty labels take 50 MB."""


LEAST_STEPS = 20
"""Weights of fewer optimizer steps are about where they were drawn: a model of them is a trial."""


@dataclass(frozen=True)
class Validation:
    """One validation.

    Args:
        score: the evaluator's key metric; the mean Dice in volseg's own bundles.
        per_label: Dice of each label above background, in order; empty where the evaluator gives none.
    """

    score: float
    per_label: tuple[float, ...] = ()


@dataclass(frozen=True)
class Epoch:
    """One epoch, or a part of it where a run ended inside it.

    Args:
        epoch: its number, from 1.
        step: optimizer steps so far.
        minutes: wall time so far.
        learning_rate: of its last step.
        loss: the mean over its steps.
        validation: what came after it, if it was validated.
    """

    epoch: int
    step: int
    minutes: float
    learning_rate: float
    loss: float
    validation: Validation | None = None


def best_epoch(history: Sequence[Epoch]) -> Epoch | None:
    """The epoch of the best validation, the first of equals; None without any."""
    scored = [(row.validation.score, row) for row in history if row.validation and math.isfinite(row.validation.score)]
    return max(scored, key=lambda found: found[0])[1] if scored else None


def steps_of_model(history: Sequence[Epoch]) -> int | None:
    """The optimizer steps of the model that a run gives: of its best validation, else of its end; None before any."""
    best = best_epoch(history) or (history[-1] if history else None)
    return None if best is None else best.step


def trial_words(steps: int | None) -> str:
    """That a model of so few steps is a trial; empty where it is none, or nobody knows."""
    if steps is None or steps >= LEAST_STEPS:
        return ""
    return (
        f"The model is a trial: it was trained for {counted(steps, 'step')} only, and its masks are about those of a "
        "network that learned nothing."
    )


def write_history(path: Path, history: Sequence[Epoch], labels: Sequence[str]) -> None:
    """Write a CSV with one row for each epoch; what was not measured stays empty.

    Raises:
        FileError: the file can't be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIXED_COLUMNS, *(f"{LABEL_PREFIX}{label}" for label in labels)])
    for row in history:
        validation = row.validation
        per_label = validation.per_label if validation is not None else ()
        writer.writerow(
            [
                row.epoch,
                row.step,
                f"{row.minutes:.3f}",
                f"{row.learning_rate:.3e}",
                f"{row.loss:.5f}",
                "" if validation is None else f"{validation.score:.5f}",
                *(f"{value:.5f}" for value in per_label),
                *[""] * (len(labels) - len(per_label)),
            ]
        )
    write_text(path, text.getvalue())


def read_history(path: Path) -> tuple[tuple[Epoch, ...], tuple[str, ...]]:
    """Read what ``write_history`` wrote, to the digits that it wrote.

    Returns:
        The rows, and the names of the labels.

    Raises:
        FileError: the file can't be read.
        InputError: it is no history.
    """
    raw = read_bounded(path, MAX_HISTORY_BYTES, "history of a run")
    try:
        (*header,), *rows = csv.reader(io.StringIO(raw.decode("utf-8"), newline=""))
        fixed, labels = tuple(header[: len(FIXED_COLUMNS)]), header[len(FIXED_COLUMNS) :]
        if fixed != FIXED_COLUMNS or any(len(row) != len(header) for row in rows):
            raise ValueError("other columns")
        return tuple(_read_row(row) for row in rows), tuple(label.removeprefix(LABEL_PREFIX) for label in labels)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is no history of a training run.", code="bad-history", path=path) from error


def _read_row(row: Sequence[str]) -> Epoch:
    epoch, step, minutes, rate, loss, score, *per_label = row
    found = Validation(float(score), tuple(float(dice) for dice in per_label if dice)) if score else None
    return Epoch(int(epoch), int(step), float(minutes), float(rate), float(loss), found)
