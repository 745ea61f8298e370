"""Masks as DICOM objects, on the slices that their image was made from."""

from volseg.writers.dicom.writers import SegmentationWriter, StructureSetWriter

__all__ = ["SegmentationWriter", "StructureSetWriter"]
