"""The writers of DICOM objects; what they need is imported when they write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.dicom import Series
    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers.dicom.segmentation import Kind
    from volseg.writers.writer import Algorithm, MaskedImage

NO_SOURCE = (
    "A DICOM segmentation or structure set lies in the patient's study and refers to the images that it was made from, "
    "and these are no DICOM. Give the folder of DICOM itself, or leave --dicom-seg and --rtstruct out."
)


class ObjectWriter(ABC):
    """Writes one object of each mask; see ``MaskWriter``."""

    @property
    @abstractmethod
    def ending(self) -> str:
        """What stands between the case's name and ``.dcm``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file.

        Raises:
            InputError: the image was not made from DICOM, or from images of several patients (``patients-differ``).
        """
        from volseg.writers.dicom.objects import require_one_patient

        require_one_patient(_source(image))
        return (f"{image.case}.{self.ending}.dcm",)

    @abstractmethod
    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the object."""


class DicomWriter(ObjectWriter):
    """Writes one object of each mask's labels, on the slices of its series."""

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the object."""
        from volseg.writers.dicom.slices import on_slices

        series = _source(image)
        path = folder / self.names(image)[0]
        self.save(path, on_slices(mask, grid, series.geometry), series, table, image.algorithm)
        return (path,)

    @abstractmethod
    def save(self, path: Path, planes: NDArray[Any], series: Series, table: LabelTable, algorithm: Algorithm) -> None:
        """Write labels (slices, rows, columns) as ``on_slices`` gives them."""


@dataclass(frozen=True)
class SegmentationWriter(DicomWriter):
    """Writes segmentation objects; see ``segmentation.write_segmentation``."""

    kind: Kind = "BINARY"

    @property
    def ending(self) -> str:
        """By the kind."""
        return "labelmap" if self.kind == "LABELMAP" else "seg"

    def save(self, path: Path, planes: NDArray[Any], series: Series, table: LabelTable, algorithm: Algorithm) -> None:
        """Write labels as segments."""
        from volseg.writers.dicom.segmentation import write_segmentation

        write_segmentation(path, planes, series, table, algorithm, self.kind)


@dataclass(frozen=True)
class FractionalWriter(ObjectWriter):
    """Writes segmentation objects of probabilities; see ``segmentation.write_fractional``."""

    ending = "fractional"

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the probabilities of the mask's labels."""
        from volseg.writers.dicom.segmentation import write_fractional

        del mask
        assert image.probabilities is not None, "they were asked for"
        path = folder / self.names(image)[0]
        write_fractional(path, image.probabilities, grid, _source(image), table, image.algorithm)
        return (path,)


@dataclass(frozen=True)
class StructureSetWriter(DicomWriter):
    """Writes RT structure sets; see ``structure_set.write_structure_set``."""

    ending = "rtstruct"

    def save(self, path: Path, planes: NDArray[Any], series: Series, table: LabelTable, algorithm: Algorithm) -> None:
        """Write the outlines of labels."""
        from volseg.writers.dicom.structure_set import write_structure_set

        write_structure_set(path, planes, series, table, algorithm)


def _source(image: MaskedImage) -> Series:
    """The series that an image was made from.

    Raises:
        InputError: there is none, with the code ``no-dicom-source``.
    """
    if image.series is None:
        raise InputError(NO_SOURCE, code="no-dicom-source")
    return image.series
