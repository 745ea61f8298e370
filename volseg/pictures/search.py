"""A search as a picture: the score of each trial, the best so far, and each parameter against the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volseg.atomic import atomic_path
from volseg.pictures.curve import in_legend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLUMNS = 3
PANEL_INCHES = (3.6, 2.9)
TOP_INCHES = 3.4
MARGIN_SHARE = 0.12
"""Of the range of scores that is shown, above and below it."""
LEAST_RANGE = 0.01
"""Of scores: a smaller one is mostly chance, and would look like much."""
BEST, REPEATED, PLAN = "C3", "C1", "C0"


@dataclass(frozen=True)
class SearchPoint:
    """A trial that has a score.

    Args:
        number: of the trial.
        score: mean Dice.
        values: of each parameter, in their order.
        repeats: whether it tries settings again that were tried before.
    """

    number: int
    score: float
    values: tuple[float | str, ...]
    repeats: bool = False


@dataclass(frozen=True)
class SearchAxis:
    """A parameter.

    Args:
        name: its title.
        choices: all values, in their order; none where it is any number between ``low`` and ``high``.
    """

    name: str
    choices: tuple[float | str, ...] = ()
    low: float = 0.0
    high: float = 0.0


def draw_search(
    path: Path, points: Sequence[SearchPoint], parameters: Sequence[SearchAxis], best: int, ended: Sequence[int]
) -> None:
    """Draw a search as PNG; the same trials give the same bytes.

    Args:
        path: where to; ``.png``.
        points: the trials that have a score, in their order; the first is the plan.
        parameters: what was searched; numbers between two are drawn by their logarithm.
        best: the number of the trial that wins.
        ended: the numbers of the trials that were pruned or failed.

    Raises:
        FileError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(parameters) // COLUMNS)
    columns = min(COLUMNS, max(2, len(parameters)))
    size = PANEL_INCHES[0] * columns, TOP_INCHES + PANEL_INCHES[1] * rows
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=(TOP_INCHES, max(1.0, PANEL_INCHES[1] * rows)))
    top, below = parts
    axes = top.subplots()
    scores = [one.score for one in points]
    middle, wide = (max(scores) + min(scores)) / 2, max(LEAST_RANGE, max(scores) - min(scores))
    limits = middle - (0.5 + MARGIN_SHARE) * wide, middle + (0.5 + MARGIN_SHARE) * wide
    axes.set(xlabel="trial", ylabel="mean Dice of held-out cases", ylim=limits, title="Score of each trial")
    firsts = [one for one in points if not one.repeats]
    leaders = [max(one.score for one in firsts[: place + 1]) for place in range(len(firsts))]
    axes.step([one.number for one in firsts], leaders, where="post", color="0.6", label="best so far")
    if ended:
        axes.plot(list(ended), [limits[0]] * len(ended), "x", color="0.5", label="pruned or failed", clip_on=False)
    _scatter(axes, [one.number for one in points], points, best)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels = below.subplots(max(1, rows), columns, squeeze=False).ravel()
    for place, parameter in enumerate(parameters):
        _against(panels[place], parameter, [one.values[place] for one in points], points, best)
        panels[place].set(ylim=limits, ylabel="mean Dice" if place % columns == 0 else "")
    for panel in panels[len(parameters) :]:
        panel.remove()
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _against(
    axes: Any, parameter: SearchAxis, values: Sequence[float | str], points: Sequence[SearchPoint], best: int
) -> None:
    """One parameter against the score."""
    if parameter.choices:
        names = [one if isinstance(one, str) else f"{one:g}" for one in parameter.choices]
        axes.set_xticks(range(len(names)), [in_legend(one) for one in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
        places = [float(parameter.choices.index(value)) for value in values]
    else:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        axes.set_xscale("log")
        axes.set_xlim(parameter.low / 1.1, parameter.high * 1.1)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        places = [float(value) for value in values]
    axes.set_title(in_legend(parameter.name))
    _scatter(axes, places, points, best)
    axes.tick_params(axis="x", labelsize="small")
    axes.grid(axis="y", alpha=0.3)


def _scatter(axes: Any, places: Sequence[float], points: Sequence[SearchPoint], best: int) -> None:
    """The trials, those that matter most in colours of their own."""
    kinds = {
        "a trial": ("o", "0.35", 5, [not one.repeats and one.number not in (0, best) for one in points]),
        "again, another seed": ("o", REPEATED, 5, [one.repeats for one in points]),
        "the plan": ("D", PLAN, 7, [one.number == 0 for one in points]),
        "the best": ("*", BEST, 13, [one.number == best and best != 0 for one in points]),
    }
    for label, (marker, color, size, chosen) in kinds.items():
        shown = [(place, one.score) for place, one, is_one in zip(places, points, chosen, strict=True) if is_one]
        if shown:
            axes.plot(*zip(*shown, strict=True), marker, color=color, markersize=size, label=label)
