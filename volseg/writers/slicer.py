"""Masks as 3D Slicer's segmentations: ``slicer/<case>.seg.nrrd``, with names, colours and codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.labels.concepts import concept_of
from volseg.volume import SEGMENTATION_SUFFIX, write_segmentation

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers.writer import MaskedImage

FOLDER = "slicer"
"""Beside the masks these files would be taken for masks of other cases."""


@dataclass(frozen=True)
class SlicerWriter:
    """Writes masks that 3D Slicer opens as segmentations; see ``MaskWriter``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file."""
        return (f"{FOLDER}/{image.case}{SEGMENTATION_SUFFIX}",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the mask, with a segment for each label of the table, found or not."""
        path = folder / self.names(image)[0]
        concepts = {label.index: concept_of(label) for label in table.labels}
        write_segmentation(
            path, mask, grid, table, {index: (one.category, one.type) for index, one in concepts.items()}
        )
        return (path,)
