"""A search as a table and as a picture."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.pictures.search import SearchAxis, SearchPoint, draw_search
from volseg.workflows.tune.record import PICTURE, TABLE
from volseg.workflows.tune.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.workflows.tune.options import TuneTrial, Value
    from volseg.workflows.tune.space import Parameter


def write_table(folder: Path, trials: Sequence[TuneTrial], parameters: Sequence[Parameter]) -> None:
    """Write a row for each trial.

    Raises:
        FileError: the file can't be written.
    """
    text, names = io.StringIO(), [one.name for one in parameters]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "score", "steps", "minutes", "seed", "repeats", "reason", *names])
    for one in trials:
        score = "" if one.score is None else f"{one.score:.5f}"
        again = "" if one.repeats is None else one.repeats
        facts = [one.number, one.state, score, one.steps, f"{one.minutes:.3f}", one.seed, again, one.reason]
        writer.writerow([*facts, *(shown(one.settings[name]) for name in names)])
    write_text(folder / TABLE, text.getvalue())


def draw(folder: Path, trials: Sequence[TuneTrial], parameters: Sequence[Parameter]) -> None:
    """Draw the scores, once the plan has one.

    Raises:
        FileError: the file can't be written.
    """
    verdict = Verdict.of(trials)
    if verdict is None:
        return
    points = [
        SearchPoint(one.number, one.score, tuple(one.settings.values()), one.repeats is not None)
        for one in trials
        if one.score is not None
    ]
    ended = [one.number for one in trials if one.state in ("pruned", "failed")]
    axes = [SearchAxis(one.name, one.choices, one.low, one.high) for one in parameters]
    draw_search(folder / PICTURE, points, axes, verdict.best, ended)


def shown(value: Value) -> str:
    """A setting in words."""
    return value if isinstance(value, str) else f"{value:.3g}"
