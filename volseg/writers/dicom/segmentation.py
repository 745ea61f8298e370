"""Masks as segmentation objects (PS3.3, A.51 and C.8.20) on the slices of their series."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from volseg.atomic import write_error
from volseg.dicom.file import tags
from volseg.dicom.labels.colours import cielab_of
from volseg.dicom.labels.concepts import UNCODED, concept_of
from volseg.errors import FileError, InputError
from volseg.labels import LabelCode
from volseg.volume import PROBABILITY_ONE
from volseg.writers.dicom.objects import (
    NO_DATE,
    NO_TIME,
    add_loss,
    coded,
    content_digest,
    date_of,
    decimals,
    frame_reference,
    header_of,
    object_of,
    quietly,
    references,
    save,
    text,
    uid_of,
)
from volseg.writers.dicom.slices import bit_of, bits_on, labels_on, on_slices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.dicom import Series
    from volseg.dicom.series.stack import StackGeometry
    from volseg.grid import Grid
    from volseg.labels import Label, LabelTable
    from volseg.writers.writer import Algorithm, Probabilities

Kind: TypeAlias = Literal["BINARY", "LABELMAP", "OVERLAPPING", "FRACTIONAL"]
"""Of object; an overlapping one is binary, too, and its labels are bits: the lowest is label 1."""
BINARY, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
"""SOP classes (PS3.4, B.5)."""
SERIES_NUMBER = 1000
"""Is added to the source's."""
FRACTIONS = 255
"""The number that stands for the probability 1."""
MAX_PIXEL_BYTES = 2**32 - 2
"""Of an element whose length is told (PS3.5, 7.1.2)."""
BITS_AT_ONCE = 8
"""Frames of single bits follow each other without padding (PS3.5, 8.1.1); eight fill whole bytes, whatever their size."""
_SEGMENT, _PLACE = (0x0062000B, 0x0062000A, "Segment"), (0x00200032, 0x00209113, "Position")
"""Dimensions: the attribute, the functional group that it is in, a name."""
_ARTIFICIAL = LabelCode("123110", "DCM", "Artificial Intelligence")
_BACKGROUND = LabelCode("125040", "DCM", "Background")
_SOURCE = LabelCode("121322", "DCM", "Source image for image processing operation")
_DERIVED = LabelCode("113076", "DCM", "Segmentation")


@dataclass(frozen=True)
class Frame:
    """One frame.

    Args:
        k: of the slice that it lies on.
        number: of the segment that it shows; None where it shows all.
        value: of the mask that this segment has.
    """

    k: int
    number: int | None = None
    value: int = 0


@quietly()
def write_segmentation(
    path: Path, planes: NDArray[Any], series: Series, table: LabelTable, algorithm: Algorithm, kind: Kind
) -> None:
    """Write labels on the slices of a series.

    Every label of the table is a segment, whether it was found or not, so that a number means the same in each object.
    In a ``BINARY`` one they are counted from 1 in the table's order (PS3.3, C.8.20.2.4), with a frame for each slice that
    a label is on; a ``LABELMAP`` keeps the labels' own numbers, with a frame for each slice that has any.

    Args:
        path: where to.
        planes: (slices, rows, columns), as ``on_slices`` gives them.
        series: the source.
        table: names, colours and codes of the labels.
        algorithm: that made them.
        kind: of object, which tells how labels are numbered in ``planes``.

    Raises:
        InputError: the source's header can't be read again, or names no study.
        FileError: a file can't be read or written.
    """
    found = bits_on(planes) if kind == "OVERLAPPING" else labels_on(planes)
    labels = table.with_values(set().union(*found)).labels
    data = _described(series, algorithm, labels, kind)
    if kind == "LABELMAP":
        frames = [Frame(k) for k, on in enumerate(found) if on] or [Frame(0)]
        pixels = planes[[frame.k for frame in frames]].astype(f"<u{data.BitsAllocated // 8}").tobytes()
    else:
        frames = list(_segment_frames(found, labels))
        pixels = _bits(planes, frames, kind)
    _identify(data, series.geometry, frames, pixels)
    _add_frames(data, series, frames)
    data.add_new("PixelData", "OB" if data.BitsAllocated <= 8 else "OW", pixels + b"\0" * (len(pixels) % 2))
    save(path, data, ExplicitVRLittleEndian)


def write_fractional(
    path: Path, probabilities: Probabilities, grid: Grid, series: Series, table: LabelTable, algorithm: Algorithm
) -> None:
    """Write probabilities of labels on the slices of a series, each pixel that of the voxel whose centre is nearest.

    Segments are the labels that have probabilities, counted from 1 in the table's order. A frame holds 255 steps (PS3.3, C.8.20.2.3) of a label on one slice; slices on
    which all of them are 0 are left out. The memory holds one label at a time.

    Args:
        path: where to.
        probabilities: of the labels.
        grid: on which they lie.
        series: the source.
        table: names, colours and codes of the labels.
        algorithm: that made them.

    Raises:
        InputError: as ``write_segmentation``, or more frames than an object holds.
        FileError: a file can't be read or written.
    """
    labels = tuple(label for label in table.labels if label.index in probabilities.labels)
    data = _described(series, algorithm, labels, "FRACTIONAL")
    steps = np.rint(np.arange(PROBABILITY_ONE + 1) * (FRACTIONS / PROBABILITY_ONE)).astype(np.uint8)
    frames: list[Frame] = []
    digest = hashlib.sha256()
    try:
        with tempfile.TemporaryFile(dir=path.parent) as pixels:
            for number, label in enumerate(labels, 1):
                planes = on_slices(steps[probabilities.of(label.index)], grid, series.geometry)
                for k, plane in enumerate(planes):
                    if plane.any():
                        frames.append(Frame(k, number, label.index))
                        digest.update(plane)
                        pixels.write(plane)
            if not frames:
                frames = [Frame(0, number, label.index) for number, label in enumerate(labels, 1)]
                pixels.write(bytes(len(frames) * data.Rows * data.Columns))
            if pixels.tell() > MAX_PIXEL_BYTES:
                raise InputError(
                    "The probabilities of so many labels on so many slices don't fit into one DICOM object. Name some "
                    "with --labels, or leave --dicom-fractional out.",
                    code="too-large",
                )
            _identify(data, series.geometry, frames, digest.digest())
            _add_frames(data, series, frames)
            save(path, data, ExplicitVRLittleEndian, pixels)
    except OSError as error:
        raise error if isinstance(error, FileError) else write_error(path, error) from error


def _described(series: Series, algorithm: Algorithm, labels: tuple[Label, ...], kind: Kind) -> Dataset:
    """All but the frames."""
    source = header_of(series)
    is_map = kind == "LABELMAP"
    data = object_of(series, source, algorithm, "SEG", LABEL_MAP if is_map else BINARY, SERIES_NUMBER)
    date, time = date_of(source)
    data.ContentDate, data.ContentTime = date or NO_DATE, time or NO_TIME
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.ContentLabel, data.ContentDescription, data.ContentCreatorName = "SEGMENTATION", "", ""
    add_loss(source, data)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.Columns, data.Rows = series.geometry.size
    highest = max((label.index for label in labels), default=1)
    stored = (8 if highest <= 255 else 16) if is_map else 8 if kind == "FRACTIONAL" else 1
    data.BitsAllocated = data.BitsStored = stored
    data.HighBit = stored - 1
    data.SegmentationType = "BINARY" if kind == "OVERLAPPING" else kind
    data.SegmentsOverlap = "YES" if kind == "OVERLAPPING" else "NO"
    if kind == "FRACTIONAL":
        data.SegmentsOverlap = "UNDEFINED"  # two may be probable in one voxel
        data.SegmentationFractionalType, data.MaximumFractionalValue = "PROBABILITY", FRACTIONS
    numbered = [(label, label.index if is_map else number) for number, label in enumerate(labels, 1)]
    segments = [_segment(label, number, algorithm) for label, number in numbered]
    if is_map:
        data.PixelPaddingValue = 0
        segments.insert(0, _background(algorithm))
    data.SegmentSequence = segments
    one = Dataset()
    one.SeriesInstanceUID, one.ReferencedInstanceSequence = series.identity.series_uid, references(series)
    data.ReferencedSeriesSequence = [one]
    return data


def _segment_frames(found: list[set[int]], labels: tuple[Label, ...]) -> Iterator[Frame]:
    """For each label the slices that it is on; where there is no label at all, one frame of each, which is empty."""
    is_empty = not any(found)
    for number, label in enumerate(labels, 1):
        for k, on in enumerate(found):
            if label.index in on or (is_empty and k == 0):
                yield Frame(k, number, label.index)


def _bits(planes: NDArray[Any], frames: list[Frame], kind: Kind) -> bytes:
    """Frames of single bits, one after the other, the lowest bit first (PS3.5, 8.1.1 and D.2)."""

    def shown(frame: Frame) -> NDArray[np.bool_]:
        plane = planes[frame.k]
        shown: NDArray[np.bool_] = (plane & bit_of(frame.value) != 0) if kind == "OVERLAPPING" else plane == frame.value
        return shown.ravel()

    parts = (frames[first : first + BITS_AT_ONCE] for first in range(0, len(frames), BITS_AT_ONCE))
    return b"".join(
        np.packbits(np.concatenate([shown(frame) for frame in part]), bitorder="little").tobytes() for part in parts
    )


def _segment(label: Label, number: int, algorithm: Algorithm) -> Dataset:
    """The description of a segment (PS3.3, C.8.20.4)."""
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = number, text(label.name) or f"label {label.index}"
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = algorithm.type, text(algorithm.name)
    concept = concept_of(label)
    if label.code is None:
        item.SegmentDescription = UNCODED
    item.SegmentedPropertyCategoryCodeSequence = [coded(concept.category)]
    item.SegmentedPropertyTypeCodeSequence = [coded(concept.type)]
    item.RecommendedDisplayCIELabValue = cielab_of(label.rgb)
    identified = Dataset()
    identified.AlgorithmFamilyCodeSequence = [coded(_ARTIFICIAL)]
    identified.AlgorithmName, identified.AlgorithmVersion = text(algorithm.name), text(algorithm.version)
    item.SegmentationAlgorithmIdentificationSequence = [identified]
    return item


def _background(algorithm: Algorithm) -> Dataset:
    """What a label map calls the value of no segment (PS3.3, C.8.20.2)."""
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel, item.SegmentAlgorithmType = 0, "Background", algorithm.type
    item.SegmentAlgorithmName = "Background"
    background = coded(_BACKGROUND)
    item.SegmentedPropertyCategoryCodeSequence = item.SegmentedPropertyTypeCodeSequence = [background]
    item.RecommendedDisplayCIELabValue = cielab_of((0, 0, 0))
    return item


def _add_frames(data: Dataset, series: Series, frames: list[Frame]) -> None:
    """The functional groups (PS3.3, C.7.6.16) and dimensions (C.7.6.17)."""
    geometry = series.geometry
    dimensions = [_PLACE] if frames[0].number is None else [_SEGMENT, _PLACE]
    data.DimensionIndexSequence = []
    for pointer, functional, name in dimensions:
        dimension = Dataset()
        dimension.DimensionIndexPointer, dimension.FunctionalGroupPointer = pointer, functional
        dimension.DimensionDescriptionLabel = name
        dimension.DimensionOrganizationUID = data.DimensionOrganizationSequence[0].DimensionOrganizationUID
        data.DimensionIndexSequence.append(dimension)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = decimals(geometry.axes[:2].ravel())
    measures.PixelSpacing = decimals(geometry.pixel_mm[::-1])  # between rows first (PS3.3, 10.7.1.3)
    thickness = series.slices[0].header.number(tags.SLICE_THICKNESS)
    gaps_mm = geometry.gaps_mm
    measures.SliceThickness = decimals([thickness if thickness and thickness > 0 else float(np.median(gaps_mm))])
    if not series.is_straightened:
        measures.SpacingBetweenSlices = decimals([geometry.spacing_mm])
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    used = sorted({frame.k for frame in frames})
    place_of = {k: place for place, k in enumerate(used, 1)}
    positions, derivations = {}, {}
    for k in used:  # those of several segments on one slice are the same
        positions[k], derivations[k] = Dataset(), _derivation(series, k)
        positions[k].ImagePositionPatient = decimals(geometry.positions_mm[k])
    groups = []
    for frame in frames:
        group, content, segment = Dataset(), Dataset(), Dataset()
        content.DimensionIndexValues = [*([] if frame.number is None else [frame.number]), place_of[frame.k]]
        group.FrameContentSequence = [content]
        group.PlanePositionSequence, group.DerivationImageSequence = [positions[frame.k]], [derivations[frame.k]]
        if frame.number is not None:
            segment.ReferencedSegmentNumber = frame.number
            group.SegmentIdentificationSequence = [segment]
        groups.append(group)
    data.NumberOfFrames, data.PerFrameFunctionalGroupsSequence = len(groups), groups


def _derivation(series: Series, k: int) -> Dataset:
    """The slice that a frame was made from."""
    image = series.slices[k]
    source = frame_reference(image)
    source.PurposeOfReferenceCodeSequence = [coded(_SOURCE)]
    source.SpatialLocationsPreserved = "YES" if image.tile is None else "NO"  # a mosaic's pixels lie elsewhere
    item = Dataset()
    item.SourceImageSequence = [source]
    item.DerivationCodeSequence = [coded(_DERIVED)]
    return item


def _identify(data: Dataset, geometry: StackGeometry, frames: list[Frame], pixels: bytes) -> None:
    """Give the object, before its frames are added, UIDs that follow from its content."""
    places = np.concatenate((geometry.axes.ravel(), geometry.positions_mm.ravel(), geometry.pixel_mm))
    digest = content_digest(data, repr(frames).encode(), places.tobytes(), pixels)
    data.SOPInstanceUID, data.SeriesInstanceUID = uid_of(digest, "instance"), uid_of(digest, "series")
    organization = Dataset()
    organization.DimensionOrganizationUID = uid_of(digest, "dimensions")
    data.DimensionOrganizationSequence = [organization]
