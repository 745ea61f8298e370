"""Warnings about series that were read: their files violate the standard, or slices or points in time may be missing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.file import tags
from volseg.dicom.series.loading import LOOKS_LIKE_MASK
from volseg.dicom.series.mosaic import MOSAIC
from volseg.dicom.series.padding import AIR_HU, PADDING_LEFT, PADDING_TO_AIR
from volseg.dicom.series.repair import GAPS_FILLED, SPACING_EVENED, TILT_STRAIGHTENED
from volseg.dicom.series.series import MONOCHROME1
from volseg.dicom.series.splitting import NUMBERS_JUMP, RUN_CUT_SHORT
from volseg.dicom.series.stack import StackGeometry, places_of, same_orientation
from volseg.dicom.series.uptake import SUV

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from volseg.dicom.file.header import Header
    from volseg.dicom.series.series import Rejected, Series

NO_PREAMBLE = "no-preamble"
"""Files that don't open as PS3.10, 7.1 asks; what their bytes show says how they are coded."""
UIDS_OF_META_HEADER = "uids-of-meta-header"
"""Files whose data set has no SOPClassUID or SOPInstanceUID, so that those of the meta header stand in."""
SHARED_ACQUISITION = "acquisition-in-several-series"
"""Series that hold other slices of one acquisition, each under a SeriesInstanceUID of its own."""
EVENLY_THINNED = "evenly-thinned"
"""Series whose InstanceNumbers step by 2 or more from slice to slice, with the step: perhaps of every second or third
slice alone."""
SLICES_FAR_APART = "slices-far-apart"
"""CT whose slices lie far further apart than they are thick, with the percentage of the way that is in no slice."""
SEVERAL_PATIENTS = "several-patients"
"""Series whose SeriesInstanceUID images of other patients bear as well, with the number of patients."""

FAR_APART = 1.5
"""From this many thicknesses on. Contiguous slices lie 1 apart, overlapping ones less; some scanners round either by a
third. Protocols with 1 mm every 10 mm exist, and a person should know."""
ROUNDED = 0.99
"""Of a spacing that is told by rounded positions."""

CHANGES = {
    "copies-dropped": "Some files are copies of others; each image was taken once.",
    "duplicates-dropped": "Some images stand twice at one position with the same pixels; each was taken once.",
    MOSAIC: "The slices were cut out of mosaics, whose geometry stands in Siemens' private headers.",
    TILT_STRAIGHTENED: "The gantry was tilted; the slices were interpolated onto an orthogonal grid.",
    SPACING_EVENED: "The spacing changes from run to run; the slices were interpolated at even spacing.",
    MONOCHROME1: "Low values are meant to be displayed bright; the values are as stored.",
    PADDING_TO_AIR: f"What fills the slices where nothing was measured was set to air, {AIR_HU} HU.",
    PADDING_LEFT: "The header names values of tissue as padding; they were left as they are.",
    LOOKS_LIKE_MASK: "It holds two values and no other, as a mask does: volseg convert --masks-from makes labels of such series.",
    SUV: "The activity was converted to uptake by body weight, in g/ml.",
    GAPS_FILLED: "Slices are missing and were made up from those beside them, as --fill-gaps asks.",
}
"""What was done to a series, and what was seen in it, by its code."""
_SENTENCES = {
    NO_PREAMBLE: (
        "1 file lacks the preamble or the meta header of DICOM; how it is coded was told from its bytes.",
        "{} files lack the preamble or the meta header of DICOM; how they are coded was told from their bytes.",
    ),
    UIDS_OF_META_HEADER: (
        "1 file lacks the class or the identifier of its object; those of its meta header were taken.",
        "{} files lack the class or the identifier of their object; those of their meta headers were taken.",
    ),
    SHARED_ACQUISITION: (
        "1 other series holds more slices of the same acquisition; each stays an image of its own.",
        "{} other series hold more slices of the same acquisition; each stays an image of its own.",
    ),
    EVENLY_THINNED: (
        "",
        "Its images are numbered in steps of {0}: perhaps only one of every {0} slices is here. Export it again if so.",
    ),
    SLICES_FAR_APART: (
        "",
        "Its slices lie far apart for their thickness: {} % of the body between is in none. Export it again if it has more.",
    ),
    NUMBERS_JUMP: (
        "The numbers of its images jump once though no position is missing: some images of its series may be missing.",
        "The numbers of its images jump {} times though no position is missing: some images of its series may be missing.",
    ),
    SEVERAL_PATIENTS: (
        "",
        "Its series holds images of {} PatientIDs; each patient's were kept apart. Find out where they were mixed.",
    ),
    RUN_CUT_SHORT: (
        "The last point in time of this series is missing or incomplete, as after a scan that was stopped early.",
        "{} points in time of this series are missing or incomplete, as after a scan that was stopped early.",
    ),
}


def sentences(notes: Mapping[str, int]) -> tuple[str, ...]:
    """The sentences for a person, of notes by code with how many files or series each is about; nothing is private."""
    return tuple(
        one if one and notes[code] == 1 else several.format(notes[code])
        for code, (one, several) in _SENTENCES.items()
        if code in notes
    )


def with_notes(built: Sequence[Series | Rejected], images: Iterable[tuple[Header, str]]) -> list[Series | Rejected]:
    """The same, each ``Series`` with its notes.

    Args:
        built: all series of a scan.
        images: header and name of every image that they were built from.
    """
    from volseg.dicom.series.series import Series

    volumes = [one for one in built if isinstance(one, Series)]
    shared = _shared_acquisitions(volumes)
    numbers: dict[str, set[int | None]] = defaultdict(set)
    for header, _ in images:
        numbers[header.uid(tags.SERIES_INSTANCE_UID)].add(header.integer(tags.INSTANCE_NUMBER))
    patients: dict[str, set[str]] = defaultdict(set)
    for one in built:
        patients[one.identity.series_uid].add(one.identity.patient_id)
    noted: list[Series | Rejected] = []
    for one in built:
        notes = {}
        if isinstance(one, Series):
            notes = dict(one.notes) | _of_files(one) | _of_spacing(one, numbers[one.identity.series_uid])
            others = len(shared[id(one)])
            if others:
                notes[SHARED_ACQUISITION] = others
            owners = len(patients[one.identity.series_uid])
            if owners > 1 and one.identity.series_uid:
                notes[SEVERAL_PATIENTS] = owners
        noted.append(replace(one, notes=notes) if isinstance(one, Series) and notes else one)
    return noted


def _of_files(series: Series) -> dict[str, int]:
    headers = {image.header.path: image.header for image in series.slices}.values()
    counts = {
        NO_PREAMBLE: sum(not one.has_preamble or tags.TRANSFER_SYNTAX_UID not in one.values for one in headers),
        UIDS_OF_META_HEADER: sum(one.uids_of_meta_header for one in headers),
    }
    return {code: count for code, count in counts.items() if count}


def _of_spacing(series: Series, numbers: set[int | None]) -> dict[str, int]:
    """What tells that slices were perhaps left out all along.

    Args:
        series: a volume.
        numbers: the InstanceNumbers of all images of its SeriesInstanceUID.
    """
    found = {}
    own = [image.header.integer(tags.INSTANCE_NUMBER) for image in series.slices]
    known = [number for number in own if number is not None]
    steps = {after - before for before, after in pairwise(known)}
    if len(known) == len(own) and len(steps) == 1:
        step = abs(steps.pop())
        others = {number for number in numbers - set(known) if number is not None}
        if step >= 2 and not any(min(known) < number < max(known) for number in others):
            found[EVENLY_THINNED] = step
    thicknesses = [image.header.number(tags.SLICE_THICKNESS) or 0.0 for image in series.slices]
    if series.modality == "CT" and min(thicknesses) > 0:
        thick_mm = (np.array(thicknesses[1:]) + np.array(thicknesses[:-1])) / 2
        gaps_mm = series.geometry.gaps_mm
        if float(np.median(gaps_mm / thick_mm)) >= FAR_APART * ROUNDED:
            inside_mm = float(np.minimum(thick_mm, gaps_mm).sum())
            found[SLICES_FAR_APART] = round(100 * (1 - inside_mm / float(gaps_mm.sum())))
    return found


@dataclass(frozen=True)
class _Acquisition:
    """What slices of one acquisition have in common."""

    study: str
    modality: str
    frame_of_reference: str
    size: tuple[int, int]
    pixel_mm: tuple[float, ...]
    number: float | None
    uid: str


def _shared_acquisitions(volumes: Sequence[Series]) -> dict[int, set[str]]:
    """The SeriesInstanceUIDs of the series that hold other slices of the same acquisition, by the ``id`` of a volume.

    Two reconstructions of one acquisition are nothing odd: they show the same places. Series share an acquisition in
    pieces where they show different places, and either AcquisitionUID says that it is one (PS3.3, C.7.6.1.1), or, as
    few scanners write it, AcquisitionNumber is the same and the slices of both make one regular stack.
    """
    groups: dict[_Acquisition, list[Series]] = defaultdict(list)
    for series in volumes:
        acquisition = _acquisition_of(series)
        if acquisition is not None:
            groups[acquisition].append(series)
    found: dict[int, set[str]] = defaultdict(set)
    for acquisition, members in groups.items():
        for place, first in enumerate(members):
            for second in members[place + 1 :]:
                if first.identity.series_uid != second.identity.series_uid and _are_pieces(
                    first.geometry, second.geometry, regular=not acquisition.uid
                ):
                    found[id(first)].add(second.identity.series_uid)
                    found[id(second)].add(first.identity.series_uid)
    return found


def _acquisition_of(series: Series) -> _Acquisition | None:
    """The acquisition that all slices of a series state; None where they state none, or several."""
    headers = {image.header.path: image.header for image in series.slices}.values()
    numbers = {one.number(tags.ACQUISITION_NUMBER) for one in headers}
    uids = {one.uid(tags.ACQUISITION_UID) for one in headers}
    first = series.slices[0].header
    frame_of_reference = first.uid(tags.FRAME_OF_REFERENCE_UID)
    if len(numbers) > 1 or len(uids) > 1 or not frame_of_reference:
        return None
    (number,), (uid,) = numbers, uids
    if number is None and not uid:
        return None
    geometry = series.geometry
    pixel_mm = tuple(round(step, 4) for step in geometry.pixel_mm)
    study = series.identity.study_uid
    return _Acquisition(study, series.modality, frame_of_reference, geometry.size, pixel_mm, number, uid)


def _are_pieces(first: StackGeometry, second: StackGeometry, *, regular: bool) -> bool:
    """Whether two stacks show different places; with ``regular`` also, whether they make one regular stack."""
    if not same_orientation(first.axes, second.axes):
        return False
    positions = np.concatenate((first.positions_mm, second.positions_mm))
    distances = positions @ first.axes[2]
    if len(np.unique(places_of(distances))) < len(positions):
        return False
    if not regular:
        return True
    whole = StackGeometry(first.axes, positions[np.argsort(distances)], first.pixel_mm, first.size)
    return not whole.faults()
