"""The writers of DICOM objects; what they need is imported when they write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from volseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.dicom import Series
    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers.writer import MaskedImage

NO_SOURCE = (
    "A DICOM segmentation or structure set lies in the patient's study and refers to the images that it was made from, "
    "and these are no DICOM. Give the folder of DICOM itself, or leave --dicom-seg and --rtstruct out."
)


@dataclass(frozen=True)
class SegmentationWriter:
    """Writes segmentation objects; see ``MaskWriter`` and ``segmentation.write_segmentation``."""

    kind: Literal["BINARY", "LABELMAP"] = "BINARY"

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file, named as the case and the kind.

        Raises:
            InputError: the image was not made from DICOM.
        """
        _source(image)
        return (f"{image.case}.{'seg' if self.kind == 'BINARY' else 'labelmap'}.dcm",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write a mask on the slices of its series."""
        from volseg.writers.dicom.segmentation import write_segmentation

        series, planes = _on_source(mask, grid, image)
        (name,) = self.names(image)
        write_segmentation(folder / name, planes, series, table, image.algorithm, self.kind)
        return (folder / name,)


@dataclass(frozen=True)
class StructureSetWriter:
    """Writes RT structure sets; see ``MaskWriter`` and ``structure_set.write_structure_set``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file, named as the case.

        Raises:
            InputError: the image was not made from DICOM.
        """
        _source(image)
        return (f"{image.case}.rtstruct.dcm",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the outlines of a mask on the slices of its series."""
        from volseg.writers.dicom.structure_set import write_structure_set

        series, planes = _on_source(mask, grid, image)
        (name,) = self.names(image)
        write_structure_set(folder / name, planes, series, table, image.algorithm)
        return (folder / name,)


def _source(image: MaskedImage) -> Series:
    """The series that an image was made from.

    Raises:
        InputError: there is none, with the code ``no-dicom-source``.
    """
    if image.series is None:
        raise InputError(NO_SOURCE, code="no-dicom-source")
    return image.series


def _on_source(mask: NDArray[Any], grid: Grid, image: MaskedImage) -> tuple[Series, NDArray[Any]]:
    """The series that an image was made from, and the mask on its slices."""
    from volseg.writers.dicom.slices import on_slices

    series = _source(image)
    return series, on_slices(mask, grid, series.geometry)
