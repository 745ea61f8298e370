"""A picture of a case: three planes with the mask over them, as a radiologist looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.atomic import atomic_path
from volseg.errors import GeometryError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.volume import Volume

CT_WINDOW_HU = (-160.0, 240.0)
"""The usual window for soft tissue."""
OPACITY = 0.45


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
    """Draw the axial, coronal and sagittal plane through the smallest label, as PNG.

    The patient's right is at the left of the picture and the front or the head is up. The mask is filled, the
    reference outlined.

    Args:
        path: where to; ``.png``.
        image: (i, j, k).
        mask: labels on the same grid.
        labels: their names and colours.
        reference: labels to compare with, on the same grid.
        window: the image's values that are shown as black and white.
        title: a line above.

    Raises:
        GeometryError: the grids differ.
        FileError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    for other in (mask, reference):
        apart = other.grid.difference(image.grid) if other is not None else None
        if apart is not None:
            raise GeometryError(f"A mask lies on another grid than its image: {apart}.")
    voxels, steps_mm = _upright(image.array, image.grid)
    filled, _ = _upright(mask.array, image.grid)
    outlined = _upright(reference.array, image.grid)[0] if reference is not None else None
    middle = _middle(filled if outlined is None else outlined)

    extents_mm = np.array(voxels.shape) * steps_mm
    widths = [extents_mm[0], extents_mm[0], extents_mm[1]]
    heights = [extents_mm[1], extents_mm[2], extents_mm[2]]
    width = 11.0
    figure = Figure(figsize=(width, width * max(heights) / sum(widths) + 0.9), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, width_ratios=widths)
    for axis, (panel, name) in enumerate(zip(axes, ("sagittal", "coronal", "axial")[::-1], strict=True)):
        across, up = ((0, 1), (0, 2), (1, 2))[axis]
        normal = 3 - across - up
        frame = (-0.5, voxels.shape[across] - 0.5, -0.5, voxels.shape[up] - 0.5)
        panel.imshow(
            _plane(voxels, normal, middle), cmap="gray", vmin=window[0], vmax=window[1],
            origin="lower", extent=frame, aspect=steps_mm[up] / steps_mm[across], interpolation="bilinear",
        )  # fmt: skip
        panel.imshow(
            _coloured(_plane(filled, normal, middle), labels),
            origin="lower", extent=frame, aspect=steps_mm[up] / steps_mm[across], interpolation="nearest",
        )  # fmt: skip
        if outlined is not None:
            plane = _plane(outlined, normal, middle)
            for label in labels.labels:
                if (plane == label.index).any():
                    colour = [[channel / 255 for channel in label.rgb]]
                    panel.contour(plane == label.index, levels=[0.5], colors=colour, linewidths=1.2)
        if across == 0:
            panel.invert_xaxis()  # the patient's right to the left
        panel.set_title(name, color="white", fontsize=10)
        panel.set_axis_off()
    swatches = [Patch(color=[channel / 255 for channel in label.rgb], label=label.name) for label in labels.labels]
    figure.legend(
        handles=swatches, loc="outside lower center", ncols=min(8, max(1, len(swatches))),
        frameon=False, labelcolor="white", fontsize=9,
    )  # fmt: skip
    if title:
        figure.suptitle(title, color="white", fontsize=10, parse_math=False)
    with atomic_path(path) as partial:
        # Neither the time nor the version, so that the same case gives the same bytes.
        figure.savefig(partial, dpi=110, format="png", metadata={"Software": None})


def _upright(array: NDArray[np.generic], grid: Grid) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The array with its axes to the patient's right, front and head, as near as flips and swaps bring them."""
    from nibabel.orientations import apply_orientation, io_orientation

    orientation = io_orientation(grid.affine)
    steps_mm = np.empty(3)
    steps_mm[orientation[:, 0].astype(int)] = grid.spacing_mm
    return np.asarray(apply_orientation(array, orientation)), steps_mm


def _middle(mask: NDArray[np.generic]) -> tuple[int, ...]:
    """The middle of the rarest label, or of the volume when the mask is empty."""
    counts = np.bincount(mask[mask != 0].ravel())
    if not counts.any():
        return tuple(n // 2 for n in mask.shape)
    rarest = int(np.argmin(np.where(counts, counts, np.iinfo(np.int64).max)))
    return tuple(round(float(value)) for value in np.argwhere(mask == rarest).mean(axis=0))


def _plane(array: NDArray[np.generic], normal: int, at: tuple[int, ...]) -> NDArray[np.generic]:
    plane: NDArray[np.generic] = np.take(array, at[normal], axis=normal).T
    return plane


def _coloured(plane: NDArray[np.generic], labels: LabelTable) -> NDArray[np.float64]:
    """(rows, columns, 4) each label's colour, clear where there is none."""
    colours = np.zeros((*plane.shape, 4))
    for label in labels.labels:
        colours[plane == label.index] = (*(channel / 255 for channel in label.rgb), OPACITY)
    return colours
