"""True masks of phantoms on the grids of their converted images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import GeometryError
from volseg.volume import list_images, nifti_name, read_header, stem_of, write_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.grid import Grid
    from volseg.workflows.phantoms.phantom import Phantom

PLACE_TOLERANCE_MM = 0.05
"""Each phantom is scanned at a place of its own, drawn from tens of mm; NIfTI's float32 keeps it to 1e-4 mm."""


def draw_masks(images: Path, masks: Path, phantoms: Sequence[Phantom]) -> None:
    """Draw the true mask of each image in a folder onto its own grid; masks that are there stay.

    Raises:
        GeometryError: an image lies where no phantom was scanned.
    """
    for image in list_images(images):
        place = masks / nifti_name(stem_of(image))
        if not place.exists():
            grid = read_header(image).grid
            write_mask(place, _phantom_at(grid, phantoms).mask(grid), image)


def _phantom_at(grid: Grid, phantoms: Sequence[Phantom]) -> Phantom:
    """The phantom that was scanned where this image lies: whatever the spacing, its first corner is the scan's."""
    corner = (-0.5, -0.5, -0.5)
    here = grid.to_world(corner)
    apart_mm = [float(np.linalg.norm(phantom.grid.to_world(corner) - here)) for phantom in phantoms]
    nearest = int(np.argmin(apart_mm))
    if apart_mm[nearest] > PLACE_TOLERANCE_MM:
        raise GeometryError(
            f"An image lies {apart_mm[nearest]:.3g} mm from the nearest phantom, so it moved on the way."
        )
    return phantoms[nearest]
