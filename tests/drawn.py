"""Segmentations and structure sets for series that the tests make; by highdicom and pydicom, not by volseg."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from tests.dicom_traps.stack import Stack, decimal, save

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
Edit = Callable[[Dataset], None]


@dataclass(frozen=True)
class Roi:
    """A structure: its contours, each (points, 3) LPS mm."""

    name: str
    contours: Sequence[np.ndarray]
    colour: tuple[int, int, int] | None = (10, 200, 30)
    kind: str = "CLOSED_PLANAR"
    edit: Edit | None = None


def circle(stack: Stack, k: int, centre: tuple[float, float], radius_mm: float, points: int = 72) -> np.ndarray:
    """(points, 3) LPS of a circle on a slice, about a place in mm along its row and column from its first pixel."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return on_slice(stack, k, np.column_stack((np.cos(angles), np.sin(angles))) * radius_mm + centre)


def on_slice(stack: Stack, k: int, points_mm: np.ndarray) -> np.ndarray:
    """(points, 3) LPS of places in mm along the row and the column of a slice from its first pixel."""
    return stack.positions_mm[k] + np.asarray(points_mm, float) @ stack.axes[:2]


def read_images(folder: Path) -> list[Dataset]:
    """The images under a folder, by their InstanceNumber."""
    found = [pydicom.dcmread(path) for path in folder.rglob("*") if path.is_file()]
    return sorted((ds for ds in found if "PixelSpacing" in ds), key=lambda ds: int(ds.InstanceNumber))


def item(**values: object) -> Dataset:
    """A sequence's item."""
    data = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wrong on purpose
        for name, value in values.items():
            setattr(data, name, value)
    return data


def structure_set(
    path: Path,
    images: Sequence[Dataset],
    rois: Iterable[Roi],
    *,
    edit: Edit | None = None,
    contour_images: bool = False,
) -> Path:
    """Write an RTSTRUCT on a series."""
    first = images[0]
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = RTSTRUCT, generate_uid(entropy_srcs=[str(path)])
    data.Modality, data.PatientID, data.PatientName = "RTSTRUCT", first.PatientID, "Doe^Jane"
    data.StudyInstanceUID, data.SeriesInstanceUID = first.StudyInstanceUID, generate_uid(entropy_srcs=["rs", str(path)])
    data.StructureSetLabel = "SECRETLABEL"
    series = item(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[
            item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID) for ds in images
        ],
    )
    study = item(ReferencedSOPInstanceUID=first.StudyInstanceUID, RTReferencedSeriesSequence=[series])
    data.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    ]
    data.StructureSetROISequence, data.ROIContourSequence, data.RTROIObservationsSequence = [], [], []
    for number, roi in enumerate(rois, start=1):
        data.StructureSetROISequence.append(
            item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
                ROIName=roi.name,
                ROIDescription="SECRETDESCRIPTION",
            )
        )
        contours = []
        for contour in roi.contours:
            points = np.asarray(contour, float)
            one = item(
                ContourGeometricType=roi.kind,
                NumberOfContourPoints=len(points),
                ContourData=[decimal(round(float(number), 4)) for number in points.ravel()],
            )
            if contour_images:
                one.ContourImageSequence = [item(ReferencedSOPInstanceUID=first.SOPInstanceUID)]
            contours.append(one)
        drawn = item(ReferencedROINumber=number, ContourSequence=contours)
        if roi.colour:
            drawn.ROIDisplayColor = list(roi.colour)
        if roi.edit:
            roi.edit(drawn)
        data.ROIContourSequence.append(drawn)
        data.RTROIObservationsSequence.append(
            item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="ORGAN", ROIInterpreter="")
        )
    if edit:
        edit(data)
    return save(path, data)


@dataclass(frozen=True)
class Segment:
    """What a segmentation says of a segment."""

    name: str
    code: Any = field(default_factory=lambda: codes.SCT.Liver)
    colour: tuple[int, int, int] | None = None


def segmentation(
    path: Path,
    images: Sequence[Dataset],
    pixels: np.ndarray,
    segments: Sequence[str | Segment],
    kind: str = "BINARY",
    *,
    edit: Edit | None = None,
    **options: Any,
) -> Path:
    """Write a SEG of highdicom's making.

    Args:
        path: where to.
        images: its source images.
        pixels: (frames, rows, columns) or (frames, rows, columns, segments), or a highdicom volume.
        segments: their names.
        kind: of segmentation.
        edit: a change before it is written.
        options: of highdicom.
    """
    import highdicom as hd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ds in images:
            for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
                if name not in ds:
                    setattr(ds, name, "")
        described = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=segment.name,
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=segment.code,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
                display_color=hd.color.CIELabColor.from_rgb(*segment.colour) if segment.colour else None,
            )
            for number, segment in enumerate((Segment(s) if isinstance(s, str) else s for s in segments), start=1)
        ]
        made = hd.seg.Segmentation(
            source_images=list(images),
            pixel_array=pixels.copy(),  # which highdicom scales in place
            segmentation_type=hd.seg.SegmentationTypeValues[kind],
            segment_descriptions=described,
            series_instance_uid=generate_uid(entropy_srcs=["series", str(path)]),
            series_number=90,
            sop_instance_uid=generate_uid(entropy_srcs=["image", str(path)]),
            instance_number=1,
            manufacturer="SECRETMAKER",
            manufacturer_model_name="SECRETMODEL",
            software_versions="1",
            device_serial_number="1",
            content_description="SECRETDESCRIPTION",
            **options,
        )
        if edit:
            edit(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path)
    return path
