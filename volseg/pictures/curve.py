"""The curve of a training: loss and validation over time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from volseg.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Points = Sequence[tuple[float, float]]
    """(minutes, value)."""

INCHES = (9.0, 5.0)
AXIS_INCHES = 0.85
"""For the numbers of an axis and its name."""
GAP_INCHES = 0.25
COLUMN_INCHES = 1.8
"""The picture grows by so much for each column of the legend after the first."""
LEGEND_CHARACTERS = 24
"""A longer name of a label would leave no room for the curve."""
LEGEND_ROWS = 27
"""As many fit beside the curve at its height; more labels make more columns."""
LINE_STYLES = ("-", "--", ":")
"""matplotlib has ten colours that one tells apart; each further ten labels get another style."""


def draw_curve(path: Path, loss: Points, score: Points, labels: Mapping[str, Points]) -> None:
    """Draw training loss and validation Dice over minutes as PNG; the same points give the same bytes.

    Args:
        path: where to; ``.png``.
        loss: the mean of each epoch.
        score: the mean Dice of each validation; not a number where it had nothing to score.
        labels: the Dice of each label, by its name.

    Raises:
        FileError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = -(-(len(labels) + 2) // LEGEND_ROWS)
    size = INCHES[0] + COLUMN_INCHES * (columns - 1), INCHES[1]
    figure = Figure(figsize=size, dpi=110)
    canvas = FigureCanvasAgg(figure)
    left = figure.subplots()
    lines = left.plot(*_axes(loss), color="0.55", label="training loss", **_marked(loss))
    left.set(xlabel="minutes", ylabel="training loss", xlim=(0, None), ylim=(min(0, left.get_ylim()[0]), None))
    left.ticklabel_format(axis="y", scilimits=(-3, 3))  # no number is too long for its margin
    validated = [point for point in score if math.isfinite(point[1])]
    if validated:
        right = left.twinx()
        right.set(ylabel="validation Dice", ylim=(-0.02, 1.02))
        for number, (name, points) in enumerate(labels.items()):
            style = LINE_STYLES[number // 10 % len(LINE_STYLES)]
            color = f"C{number % 10}"
            lines += right.plot(
                *_axes(points), linewidth=1, linestyle=style, color=color, label=in_legend(name), **_marked(points)
            )
        mean = right.plot(*_axes(validated), color="black", linewidth=2, label="mean Dice", **_marked(validated))
        lines[1:1] = mean
    legend = figure.legend(handles=lines, loc="upper right", fontsize="small", frameon=False, ncols=columns)
    # By hand, since matplotlib's own layout takes longer than all the drawing, and this is drawn at each save of a run.
    legend_inches = legend.get_window_extent(canvas.get_renderer()).width / figure.dpi
    right_inches = legend_inches + (AXIS_INCHES if validated else GAP_INCHES)
    figure.subplots_adjust(AXIS_INCHES / size[0], 0.55 / size[1], 1 - right_inches / size[0], 1 - GAP_INCHES / size[1])
    with atomic_path(path) as partial:
        canvas.print_png(partial, metadata={"Software": None})


def _axes(points: Points) -> tuple[list[float], list[float]]:
    return [minutes for minutes, _ in points], [value for _, value in points]


def _marked(points: Points) -> dict[str, Any]:
    """Markers where points are few: a line through a single one is invisible."""
    return {"marker": "o", "markersize": 4} if len(points) <= 20 else {}


def in_legend(label: str) -> str:
    """A label as matplotlib shows it: a dollar sign would start a formula, an underscore in front hide it."""
    short = label if len(label) <= LEGEND_CHARACTERS else f"{label[: LEGEND_CHARACTERS - 3]}..."
    return (f" {short}" if short.startswith("_") else short).replace("$", r"\$")
