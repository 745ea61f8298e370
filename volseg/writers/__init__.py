"""Writers of masks, each for one format.

A writer is registered by its format's name in ``WRITERS``; what segments images asks for it by that name.
"""

from typing import Literal

from volseg.writers import preview, probabilities, slicer, statistics
from volseg.writers.dicom import NO_SOURCE, FractionalWriter, SegmentationWriter, StructureSetWriter
from volseg.writers.nifti import NiftiWriter
from volseg.writers.preview import PreviewWriter
from volseg.writers.probabilities import ProbabilityWriter
from volseg.writers.slicer import SlicerWriter
from volseg.writers.statistics import StatisticsWriter
from volseg.writers.surface import SurfaceWriter
from volseg.writers.workspace import WorkspaceWriter
from volseg.writers.writer import Algorithm, MaskedImage, MaskWriter, Probabilities

__all__ = [
    "DICOM_FORMATS",
    "DICOM_FRACTIONAL",
    "DICOM_LABELMAP",
    "DICOM_SEG",
    "FOLDERS",
    "ITKSNAP",
    "NIFTI",
    "NO_SOURCE",
    "OF_PROBABILITIES",
    "PREVIEW",
    "PROBABILITIES",
    "RTSTRUCT",
    "SLICER",
    "STATISTICS",
    "SURFACES",
    "TOGETHER",
    "WRITERS",
    "Algorithm",
    "MaskWriter",
    "MaskedImage",
    "NiftiWriter",
    "Probabilities",
    "ProbabilityWriter",
    "writers_of",
]

NIFTI, SLICER, ITKSNAP, STATISTICS, PREVIEW = "nifti", "slicer", "itksnap", "statistics", "preview"
DICOM_SEG, DICOM_LABELMAP, DICOM_FRACTIONAL = "dicom-seg", "dicom-labelmap", "dicom-fractional"
RTSTRUCT = "rtstruct"
DICOM_FORMATS = frozenset({DICOM_SEG, DICOM_LABELMAP, DICOM_FRACTIONAL, RTSTRUCT})
"""What is written for images that were made from DICOM alone, and carries the patient's name."""
SURFACES: tuple[Literal["stl", "obj"], ...] = ("stl", "obj")
WRITERS: dict[str, MaskWriter] = {
    NIFTI: NiftiWriter(),
    SLICER: SlicerWriter(),
    ITKSNAP: WorkspaceWriter(),
    STATISTICS: StatisticsWriter(),
    PREVIEW: PreviewWriter(),
    **{name: SurfaceWriter(name) for name in SURFACES},
    DICOM_SEG: SegmentationWriter(),
    DICOM_LABELMAP: SegmentationWriter("LABELMAP"),
    DICOM_FRACTIONAL: FractionalWriter(),
    RTSTRUCT: StructureSetWriter(),
}
"""The writer of each format."""
TOGETHER: dict[str, MaskWriter] = {DICOM_SEG: SegmentationWriter("OVERLAPPING"), DICOM_FRACTIONAL: FractionalWriter()}
"""Formats that hold regions which overlap in one file, and the writer of these: a mask as ``together`` makes it."""
FOLDERS = (slicer.FOLDER, statistics.FOLDER, preview.FOLDER, probabilities.FOLDER, *SURFACES)
"""Where they write beside the masks."""


PROBABILITIES = probabilities.FOLDER
"""Where those of labels go."""
OF_PROBABILITIES = (ProbabilityWriter, FractionalWriter)
"""Write what the network alone tells, and no mask."""


def writers_of(formats: tuple[str, ...]) -> tuple[MaskWriter, ...]:
    """The writers of some formats, each once.

    Raises:
        UsageError: there is no writer for one of them.
    """
    from volseg.errors import UsageError

    unknown = [name for name in formats if name not in WRITERS]
    if unknown or not formats:
        raise UsageError(f"Masks are written as {', '.join(WRITERS)}, not as {', '.join(unknown) or 'nothing'}.")
    return tuple(WRITERS[name] for name in dict.fromkeys(formats))
