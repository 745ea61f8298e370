"""Masks as RT structure sets (PS3.3, A.19 and C.8.8.5 to 8): closed contours on the slices of their series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian

from volseg.dicom.labels.concepts import concept_of
from volseg.errors import InputError
from volseg.writers.dicom.contours import outlines
from volseg.writers.dicom.objects import (
    coded,
    content_digest,
    date_of,
    frame_reference,
    header_of,
    object_of,
    quietly,
    references,
    save,
    text,
    uid_of,
)
from volseg.writers.dicom.slices import labels_on

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.dicom import Series
    from volseg.labels import Label, LabelTable
    from volseg.writers.writer import Algorithm

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""What RTReferencedStudySequence calls a study; retired, and asked for all the same (PS3.3, C.8.8.5)."""
SERIES_NUMBER = 2000
"""Is added to the source's."""
DIGITS = 4
"""Behind the point of a coordinate in mm: contours run half a pixel away from all centres, so this moves none across."""
MAX_POINTS = 3_000_000
"""Of one object, some 90 MB. A hundred organs on 500 slices have half of it; a mask of noise has more."""
MAX_ON_SLICE = 1000
"""Contours of one structure on one slice; more are noise, and our own reader takes no more."""
_CONTOUR_DATA = Tag(0x30060050)


@quietly()
def write_structure_set(
    path: Path, planes: NDArray[Any], series: Series, table: LabelTable, algorithm: Algorithm
) -> None:
    """Write the outlines of labels on the slices of a series; a label that is on none is left out.

    A hole is a contour inside another: those of one structure on one slice are combined by exclusive or. Where no label
    was found, each is a structure without a contour.

    Args:
        path: where to.
        planes: (slices, rows, columns), as ``on_slices`` gives them.
        series: the source.
        table: names, colours and codes of the labels.
        algorithm: that made them.

    Raises:
        InputError: ``too-many-contours``; or the source's header can't be read again, or names no study.
        FileError: a file can't be read or written.
    """
    found = labels_on(planes)
    every = set().union(*found)
    labels = table.with_values(every).labels
    drawn = tuple(label for label in labels if label.index in every) or labels
    source = header_of(series)
    data = object_of(series, source, algorithm, "RTSTRUCT", STRUCTURE_SET, SERIES_NUMBER)
    data.OperatorsName, data.ApprovalStatus = "", "UNAPPROVED"
    data.StructureSetLabel = text(algorithm.name)[:16] or "volseg"
    data.StructureSetDate, data.StructureSetTime = date_of(source)
    data.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series, data)]
    contours = _Contours(series, planes, found)
    data.StructureSetROISequence = [_structure(label, data.FrameOfReferenceUID, algorithm) for label in drawn]
    data.ROIContourSequence = [contours.of(label) for label in drawn]
    data.RTROIObservationsSequence = [_observation(label) for label in drawn]
    digest = content_digest(data)
    data.SOPInstanceUID, data.SeriesInstanceUID = uid_of(digest, "instance"), uid_of(digest, "series")
    # A contour may take more than the 64 KiB that DS has room for where VRs are written (PS3.5, 7.1.2).
    save(path, data, ImplicitVRLittleEndian)


def _frame_of_reference(series: Series, data: Dataset) -> Dataset:
    """The study, the series and all images that the contours were drawn on."""
    one = Dataset()
    one.SeriesInstanceUID, one.ContourImageSequence = series.identity.series_uid, references(series)
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_COMPONENT, data.StudyInstanceUID
    study.RTReferencedSeriesSequence = [one]
    item = Dataset()
    item.FrameOfReferenceUID, item.RTReferencedStudySequence = data.FrameOfReferenceUID, [study]
    return item


def _structure(label: Label, frame_uid: str, algorithm: Algorithm) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ReferencedFrameOfReferenceUID = label.index, frame_uid
    item.ROIName, item.ROIGenerationAlgorithm = text(label.name) or f"label {label.index}", algorithm.type
    return item


def _observation(label: Label) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = label.index
    if label.code is not None:
        item.RTROIIdentificationCodeSequence = [coded(concept_of(label).type)]
    item.RTROIInterpretedType, item.ROIInterpreter = "", ""
    return item


class _Contours:
    """The contours of one object, counted."""

    def __init__(self, series: Series, planes: NDArray[Any], found: list[set[int]]) -> None:
        self._series, self._planes, self._found = series, planes, found
        self._points = 0
        self._sources: dict[int, Dataset] = {}

    def of(self, label: Label) -> Dataset:
        """The contours of a structure on all slices."""
        item = Dataset()
        item.ReferencedROINumber, item.ROIDisplayColor = label.index, list(label.rgb)
        contours = [
            self._contour(k, polygon)
            for k, on in enumerate(self._found)
            if label.index in on
            for polygon in self._outlines(self._planes[k] == label.index, label)
        ]
        if contours:
            item.ContourSequence = contours
        return item

    def _outlines(self, inside: NDArray[np.bool_], label: Label) -> list[NDArray[np.float64]]:
        polygons = outlines(inside)
        self._points += sum(map(len, polygons))
        if len(polygons) > MAX_ON_SLICE or self._points > MAX_POINTS:
            raise InputError(
                f"The mask is made of too many pieces for a structure set, {label.name} among them. Remove the small ones "
                "first, or leave --rtstruct out.",
                code="too-many-contours",
            )
        return polygons

    def _contour(self, k: int, polygon: NDArray[np.float64]) -> Dataset:
        geometry = self._series.geometry
        points_mm = geometry.positions_mm[k] + polygon * geometry.pixel_mm @ geometry.axes[:2]
        raw = "\\".join(f"{number:.{DIGITS}f}" for number in points_mm.ravel()).encode()
        raw += b" " * (len(raw) % 2)
        if k not in self._sources:
            self._sources[k] = frame_reference(self._series.slices[k])
        item = Dataset()
        item.ContourImageSequence = [self._sources[k]]
        item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(polygon)
        # As it is written: an object for each of a million numbers would take a gigabyte.
        item[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(raw), raw, 0, True, True)
        return item
