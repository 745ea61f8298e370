"""Overlays: three planes of an image with its mask, in radiological orientation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from volseg.atomic import atomic_path
from volseg.errors import GeometryError
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import Label, LabelTable
    from volseg.volume import Volume

CT_WINDOW_HU = (-160.0, 240.0)
"""The usual window for soft tissue."""
OPACITY = 0.45
PLANES = (("axial", 0, 1), ("coronal", 0, 2), ("sagittal", 1, 2))
"""Each plane's name, and the axes of (right, front, head) that run across and up in it."""
MAX_INCHES = 40.0
"""Of the height: a thin column of many slices would make more pixels than a picture can have."""
NAME_CHARACTERS = 40
"""A longer name is cut short in the legend."""
ENTRY_INCHES, CHARACTER_INCHES, LINE_INCHES = 0.5, 0.075, 0.2
"""What an entry of the legend takes beside its name, and about what a character and a line take."""
SHOWN_BEFORE = 0.1
"""What a label counts for in the choice of a plane when an earlier plane shows it."""


def write_overlay(
    path: Path,
    image: Volume,
    mask: Volume,
    labels: LabelTable,
    *,
    reference: Volume | None = None,
    window: tuple[float, float] = CT_WINDOW_HU,
    title: str = "",
) -> None:
    """Write an ``overlay_figure`` as PNG; the same case gives the same bytes.

    Raises:
        GeometryError: the grids differ.
        FileError: the file can't be written.
    """
    figure = overlay_figure(image, mask, labels, reference=reference, window=window, title=title)
    with atomic_path(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # of a name in a script that the font lacks
        figure.savefig(partial, dpi=110, format="png", metadata={"Software": None})


def overlay_figure(
    image: Volume,
    mask: Volume,
    labels: LabelTable,
    *,
    reference: Volume | None = None,
    window: tuple[float, float] = CT_WINDOW_HU,
    title: str = "",
) -> Figure:
    """Draw an axial, a coronal and a sagittal plane, chosen so that they show as many labels as can be.

    The patient's right is at the left of the picture and the front or the head is up, as letters at the margins say.
    The mask is filled, the reference outlined.

    Args:
        image: (i, j, k).
        mask: labels on the same grid.
        labels: their names and colours.
        reference: labels to compare with, on the same grid.
        window: the image's values that are shown as black and white.
        title: a line above.

    Raises:
        GeometryError: the grids differ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for other in (mask, reference):
        apart = other.grid.difference(image.grid) if other is not None else None
        if apart is not None:
            raise GeometryError(f"A mask lies on another grid than its image: {apart}.")
    voxels, steps_mm = _upright(image.array, image.grid)
    filled, _ = _upright(mask.array, image.grid)
    outlined = _upright(reference.array, image.grid)[0] if reference is not None else None
    at = _positions(filled if outlined is None else outlined, labels)

    extents_mm = np.array(voxels.shape) * steps_mm
    widths = [extents_mm[across] for _, across, _ in PLANES]
    height = max(extents_mm[up] for _, _, up in PLANES)
    width = 11.0
    figure = Figure(
        figsize=(width, min(MAX_INCHES, width * height / sum(widths) + 0.9)), facecolor="black", layout="constrained"
    )
    FigureCanvasAgg(figure)
    shown: set[int] = set()
    for panel, (name, across, up) in zip(figure.subplots(1, 3, width_ratios=widths), PLANES, strict=True):
        normal = 3 - across - up
        frame = (-0.5, voxels.shape[across] - 0.5, -0.5, voxels.shape[up] - 0.5)
        place = {"origin": "lower", "extent": frame, "aspect": steps_mm[up] / steps_mm[across]}
        plane = _plane(filled, normal, at)
        panel.imshow(
            _plane(voxels, normal, at), cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear", **place
        )
        panel.imshow(_coloured(plane, labels), interpolation="nearest", **place)
        shown.update(np.unique(plane).tolist())
        if outlined is not None:
            plane = _plane(outlined, normal, at)
            shown.update(np.unique(plane).tolist())
            for label in labels.labels:
                if (plane == label.index).any():
                    colour = [[channel / 255 for channel in label.rgb]]
                    panel.contour(plane == label.index, levels=[0.5], colors=colour, linewidths=1.2)
        if across == 0:
            panel.invert_xaxis()  # the patient's right to the left
        left, right = "RL" if across == 0 else "PA"
        bottom, top = "PA" if up == 1 else "IS"
        for letter, x, y in ((left, 0.02, 0.5), (right, 0.98, 0.5), (bottom, 0.5, 0.02), (top, 0.5, 0.98)):
            panel.text(
                x, y, letter, transform=panel.transAxes, color="white", fontsize=9,
                bbox={"facecolor": "black", "edgecolor": "none", "pad": 1},
                ha={0.02: "left", 0.98: "right"}.get(x, "center"), va={0.02: "bottom", 0.98: "top"}.get(y, "center"),
            )  # fmt: skip
        panel.set_title(name, color="white", fontsize=10)
        panel.set_axis_off()
    named = [label for label in labels.labels if label.index in shown]
    _add_legend(figure, named, width)
    if title:
        figure.suptitle(printable(title), color="white", fontsize=10, parse_math=False)
    return figure


def _add_legend(figure: Figure, labels: Sequence[Label], width: float) -> None:
    """Name labels below the planes, in as many columns as fit into ``width`` inches; the figure grows by the others."""
    from matplotlib.patches import Patch

    names = [printable(label.name) for label in labels]
    names = [name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 3]}..." for name in names]
    columns = max(1, min(8, int(width / (ENTRY_INCHES + CHARACTER_INCHES * max(map(len, names), default=1)))))
    beyond = max(0, -(-len(names) // columns) - 3)
    figure.set_figheight(figure.get_figheight() + LINE_INCHES * beyond)
    legend = figure.legend(
        handles=[Patch(color=[channel / 255 for channel in label.rgb], label=str(label.index)) for label in labels],
        loc="outside lower center", ncols=columns, frameon=False, labelcolor="white", fontsize=9,
    )  # fmt: skip
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)  # a name may hold a $
        text.set_text(name)


def _upright(array: NDArray[np.generic], grid: Grid) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The array with its axes to the patient's right, front and head, as near as flips and swaps bring them."""
    from nibabel.orientations import apply_orientation, io_orientation

    orientation = io_orientation(grid.affine)
    steps_mm = np.empty(3)
    steps_mm[orientation[:, 0].astype(int)] = grid.spacing_mm
    return np.asarray(apply_orientation(array, orientation)), steps_mm


def _positions(mask: NDArray[np.generic], labels: LabelTable) -> tuple[int, int, int]:
    """Where the sagittal, coronal and axial plane lie: where each shows most of the labels that none shows yet."""
    at = [n // 2 for n in mask.shape]
    indices = [label.index for label in labels.labels]
    weights = np.ones(len(indices))
    for _, across, up in PLANES:
        normal = 3 - across - up
        planes = np.moveaxis(mask, normal, 0)
        counts = np.array(
            [np.bincount(plane.ravel(), minlength=max(indices, default=0) + 1)[indices] for plane in planes]
        )
        parts = counts / np.maximum(counts.max(axis=0), 1)
        if counts.any():
            at[normal] = int(np.argmax(parts @ weights))
            weights = np.where(counts[at[normal]] > 0, SHOWN_BEFORE, weights)
    return at[0], at[1], at[2]


def _plane(array: NDArray[np.generic], normal: int, at: tuple[int, ...]) -> NDArray[np.generic]:
    plane: NDArray[np.generic] = np.take(array, at[normal], axis=normal).T
    return plane


def _coloured(plane: NDArray[np.generic], labels: LabelTable) -> NDArray[np.float64]:
    """(rows, columns, 4) each label's colour, clear where there is none."""
    colours = np.zeros((*plane.shape, 4))
    for label in labels.labels:
        colours[plane == label.index] = (*(channel / 255 for channel in label.rgb), OPACITY)
    return colours
