"""The spread of a figure over cases: a box and a point for each case, label by label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.atomic import atomic_path
from volseg.pictures.curve import in_legend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

INCHES = (2.0, 4.5)
LABEL_INCHES = 0.7
"""The picture grows by so much for each label."""
MEDIAN = {"color": "black", "linewidth": 2.5}
"""matplotlib's own is the colour of the second label's points."""
JITTER = 0.15
"""Points lie so far beside the middle of their box at most."""


def draw_spread(path: Path, values: Mapping[str, Sequence[float]], axis: str) -> None:
    """Draw a box and strip for each label as PNG; the same values give the same bytes.

    Args:
        path: where to; ``.png``.
        values: of each case, by the label's name.
        axis: what they are.

    Raises:
        FileError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES[0] + LABEL_INCHES * len(values), INCHES[1]), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    random = np.random.default_rng(0)
    for place, found in enumerate(values.values()):
        if found:
            axes.boxplot([list(found)], positions=[place], widths=0.5, showfliers=False, medianprops=MEDIAN)
            beside = place + random.uniform(-JITTER, JITTER, len(found))
            axes.plot(beside, list(found), ".", color=f"C{place % 10}", markersize=4, alpha=0.8, zorder=4)
    axes.set_xticks(range(len(values)), [in_legend(name) for name in values], rotation=45, ha="right")
    axes.set(ylabel=axis, xlim=(-0.7, len(values) - 0.3))
    axes.grid(axis="y", alpha=0.3)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
