"""Masks as NIfTI: ``<case>.nii.gz`` with the header geometry of its image byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.volume import nifti_name, write_mask

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers.writer import MaskedImage


@dataclass(frozen=True)
class NiftiWriter:
    """Writes masks that viewers open on their images; see ``MaskWriter``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file, named as the case."""
        return (nifti_name(image.case),)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the mask; NIfTI has no place for the table, which ``labels.txt`` beside the masks holds."""
        del grid, table
        (name,) = self.names(image)
        write_mask(folder / name, mask, image.path)
        return (folder / name,)
