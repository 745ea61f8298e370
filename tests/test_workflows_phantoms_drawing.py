"""True masks of phantoms on converted images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.errors import GeometryError
from volseg.volume import Volume, write_image
from volseg.workflows.phantoms.drawing import draw_masks
from volseg.workflows.phantoms.phantom import make_phantom
from volseg.workflows.phantoms.tissue import paint

if TYPE_CHECKING:
    from pathlib import Path


def test_an_image_that_moved_is_found_out(tmp_path: Path) -> None:
    """Were convert to misplace a series, the demo must not draw a mask on it."""
    phantom = make_phantom("p", (0, 0), matrix=24)
    affine = phantom.grid.affine.copy()
    affine[0, 3] += 0.5
    write_image(
        tmp_path / "images" / "a.nii.gz", Volume(paint(phantom), type(phantom.grid)(phantom.grid.shape, affine))
    )
    with pytest.raises(GeometryError, match=r"0\.5 mm from the nearest phantom"):
        draw_masks(tmp_path / "images", tmp_path / "masks", [phantom])
