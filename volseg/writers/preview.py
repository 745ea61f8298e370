"""Previews: ``previews/<case>.png``, three planes of an image with its mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.pictures.overlay import CT_WINDOW_HU, write_overlay
from volseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers.writer import MaskedImage

FOLDER = "previews"
STEP = 3
"""Every third voxel along each axis is enough."""
AIR_HU = -200.0
"""Where nobody tells, an image with values below this is taken for CT: MR and PET have none."""
SHARES = (1.0, 99.5)
"""Percentiles that are shown as black and white, where it is no CT."""


@dataclass(frozen=True)
class PreviewWriter:
    """Writes a picture of each case; see ``MaskWriter``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file."""
        return (f"{FOLDER}/{image.case}.png",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Draw the planes that show most labels; of several channels the first is drawn."""
        path = folder / self.names(image)[0]
        write_overlay(path, image.volume, Volume(mask, grid), table, window=window_of(image), title=image.case)
        return (path,)


def window_of(image: MaskedImage) -> tuple[float, float]:
    """The values of an image that are shown as black and white."""
    values = image.volume.array[::STEP, ::STEP, ::STEP]
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, SHARES).tolist() if len(values) else (0.0, 1.0)
    if image.modality == "CT" or (image.modality is None and low < AIR_HU):
        return CT_WINDOW_HU
    return low, max(high, low + np.finfo(np.float32).eps * max(1.0, abs(low)))
