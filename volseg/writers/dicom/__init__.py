"""Masks as DICOM objects, on the slices that their image was made from."""

from volseg.writers.dicom.writers import NO_SOURCE, FractionalWriter, SegmentationWriter, StructureSetWriter

__all__ = ["NO_SOURCE", "FractionalWriter", "SegmentationWriter", "StructureSetWriter"]
