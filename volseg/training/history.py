"""A run's history: a CSV for programs, a curve for people."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.atomic import atomic_path, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEGEND_CHARACTERS = 32
"""A longer name of a label would leave no room for the curve."""
FIXED_COLUMNS = ("epoch", "step", "minutes", "learning_rate", "loss", "validation")


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
    """One epoch, or a part of it where the run was stopped inside it and went on later.

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

    def to_plain(self) -> dict[str, object]:
        """Numbers and lists only, as a checkpoint holds it."""
        found = None if self.validation is None else [self.validation.score, *self.validation.per_label]
        return {
            "epoch": self.epoch,
            "step": self.step,
            "minutes": self.minutes,
            "learning_rate": self.learning_rate,
            "loss": self.loss,
            "validation": found,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, object]) -> Epoch:
        """Read what ``to_plain`` gave."""
        found = plain["validation"]
        values = [float(value) for value in found] if isinstance(found, list) else []
        validation = Validation(values[0], tuple(values[1:])) if values else None
        return cls(
            epoch=int(str(plain["epoch"])),
            step=int(str(plain["step"])),
            minutes=float(str(plain["minutes"])),
            learning_rate=float(str(plain["learning_rate"])),
            loss=float(str(plain["loss"])),
            validation=validation,
        )


def write_csv(path: Path, history: Sequence[Epoch], labels: Sequence[str]) -> None:
    """Write one row for each epoch; what was not measured stays empty.

    Raises:
        FileError: the file can't be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIXED_COLUMNS, *(f"dice_{label}" for label in labels)])
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


def draw_curve(path: Path, history: Sequence[Epoch], labels: Sequence[str]) -> None:
    """Draw loss and validation over wall time as PNG.

    Raises:
        FileError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.subplots()
    minutes = [row.minutes for row in history]
    left.plot(minutes, [row.loss for row in history], color="0.55", label="loss")
    left.set(xlabel="minutes", ylabel="training loss")
    validated = [row for row in history if row.validation is not None and math.isfinite(row.validation.score)]
    if validated:
        right = left.twinx()
        times = [row.minutes for row in validated]
        validations = [row.validation for row in validated if row.validation is not None]
        right.plot(times, [found.score for found in validations], color="black", linewidth=2, label="mean Dice")
        for number, label in enumerate(labels[:10]):
            values = [found.per_label[number] if number < len(found.per_label) else math.nan for found in validations]
            right.plot(times, values, linewidth=1, label=_in_legend(label))
        right.set(ylabel="validation Dice", ylim=(0, 1))
        right.legend(loc="lower right", fontsize="small")
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _in_legend(label: str) -> str:
    """The name as matplotlib shows it: a dollar sign would start a formula, an underscore in front hide it."""
    short = label if len(label) <= LEGEND_CHARACTERS else f"{label[: LEGEND_CHARACTERS - 3]}..."
    return (f" {short}" if short.startswith("_") else short).replace("$", r"\$")
