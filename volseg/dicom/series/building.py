"""From images to verified series: grouped, split into volumes where they hold several, ordered."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.file import tags
from volseg.dicom.file.files import CLASSIC_IMAGES, ENHANCED_IMAGES, is_localizer
from volseg.dicom.series.forms import Axes, Part, by_form, by_frame_form, by_orientation, series_number, without_copies
from volseg.dicom.series.gathering import gather_slices
from volseg.dicom.series.mosaic import MOSAIC
from volseg.dicom.series.part_names import Told, all_unlike, names_of
from volseg.dicom.series.repair import DEFAULT_REPAIRS, GAPS_FILLED, Repairs
from volseg.dicom.series.sameness import Marked
from volseg.dicom.series.series import LOCALIZER, MONOCHROME1, NAMED_FILES, Rejected, Series, put_aside
from volseg.dicom.series.siblings import Expected, Sibling, expected_of, lack_of, lacking_mm
from volseg.dicom.series.splitting import (
    RUN_CUT_SHORT,
    SeriesNumbers,
    SplitFault,
    Volume,
    agreeing,
    mixed,
    points_in_time_lost,
    split_volumes,
)
from volseg.dicom.series.stack import MIN_SLICES, StackFault, StackGeometry, places_of
from volseg.outcomes import Status
from volseg.pseudonyms import Identity
from volseg.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from volseg.dicom.file.header import Header

_REMEDIES = {
    "missing-slice": "Export the series again, with all its slices, or have them filled in by --fill-gaps of volseg convert.",
    "uneven-spacing": "Ask for a reconstruction with even spacing.",
    "gantry-tilt": "Ask for a reconstruction without tilt.",
    "shifted-slices": "Export the series again; if it stays so, it is no volume.",
    "several-images-at-one-position": "Export each of its volumes as a series of its own.",
    "missing-part": "Export the series again, with all its files.",
    "unequal-volumes": "Export the series again, with all its images.",
    "images-missing": "Export the series again, with all its images.",
    "incomplete-volume": "Export the series again, with all its images. Where the scan was stopped early, there is nothing "
    "to do: the volumes that are whole are converted.",
}


def build_series(
    images: Sequence[tuple[Header, str]], repairs: Repairs = DEFAULT_REPAIRS, *, localizers: bool = False
) -> list[Series | Rejected]:
    """Group images into series, split those that hold several volumes, order and verify each.

    Args:
        images: header and private name of every CT, MR and PET image, in any order.
        repairs: which faults of geometry are put right.
        localizers: whether images that call themselves localizers make volumes too; else each that they would make is
            skipped, with the code ``localizer``.

    Returns:
        One entry for each volume, or for each series that is none, ordered by study and series number.
    """
    by_uid: dict[tuple[str, str], list[tuple[Header, str]]] = defaultdict(list)
    for header, name in images:
        by_uid[header.uid(tags.STUDY_INSTANCE_UID), header.uid(tags.SERIES_INSTANCE_UID)].append((header, name))
    gathered: list[Rejected | _Images] = []
    scouts: set[int] = set()
    previous_study, order = "", 0
    for (study, _), members in sorted(by_uid.items(), key=lambda item: _series_rank(item[0], item[1])):
        order = order + 1 if study == previous_study else 1
        previous_study = study
        # Apart also where they share a series, so that an option changes no name and no number of another volume.
        plain = [member for member in members if not is_localizer(member[0])]
        others = [member for member in members if is_localizer(member[0])]
        gathered.extend(_gather_one(plain, order, repairs) if plain else ())
        found = _gather_one(others, order, repairs, LOCALIZER if plain else "") if others else []
        gathered.extend(found)
        scouts |= {id(one) for one in found}
    whole = [one for one in gathered if isinstance(one, _Images)]
    expected: dict[int, Expected] = {}
    for same in _by_series(whole, lambda one: id(one) in scouts):
        expected |= {id(group): found for group, found in _expected(same)}
    numbers: dict[int, SeriesNumbers] = {}
    for same in _by_series(whole, lambda _: False):
        of_all = SeriesNumbers.of(image for one in same for image in one.part.slices)
        numbers |= {id(one): of_all for one in same}
    built: list[Series | Rejected] = []
    unasked = "It calls itself a localizer, which --localizers asks for."
    for one in gathered:
        made = [one] if isinstance(one, Rejected) else one.volumes(expected, numbers[id(one)])
        aside = id(one) in scouts and not localizers
        built.extend(put_aside(each, LOCALIZER, unasked) if aside else each for each in made)
    return built


def _by_series(images: Iterable[_Images], apart: Callable[[_Images], bool]) -> Iterable[list[_Images]]:
    """Images under one SeriesInstanceUID each, whatever their study."""
    found: dict[tuple[str, str, bool], list[_Images]] = defaultdict(list)
    for one in images:
        identity = one.builder.identity
        found["" if identity.series_uid else identity.study_uid, identity.series_uid, apart(one)].append(one)
    return found.values()


def _series_rank(uids: tuple[str, str], members: list[tuple[Header, str]]) -> tuple[str, float, str]:
    numbers = [header.number(tags.SERIES_NUMBER) for header, _ in members]
    known = [number for number in numbers if number is not None]
    return uids[0], min(known, default=np.inf), uids[1]


def _gather_one(
    members: list[tuple[Header, str]], order: int, repairs: Repairs, part: str = ""
) -> list[Rejected | _Images]:
    """All images under one SeriesInstanceUID, by form and orientation, their names beginning with ``part``."""
    members = sorted(members, key=lambda member: member[1])
    first = members[0][0]
    identity = Identity("", first.uid(tags.STUDY_INSTANCE_UID), first.uid(tags.SERIES_INSTANCE_UID))
    gathered: list[Rejected | _Images] = []
    for label, group in by_form(members):
        name = "_".join(filter(None, (part, label)))
        own = replace(identity, patient_id=_patient_id(group[0][0]), part=name)
        builder = _Builder(own, _modality(group[0][0]), order, _source(group), repairs)
        gathered.extend(builder.gather(group))
    return gathered


def _patient_id(header: Header) -> str:
    """PatientID with its issuer."""
    return "\\".join(filter(None, (header.text(tags.PATIENT_ID), header.text(tags.ISSUER_OF_PATIENT_ID))))


@dataclass(frozen=True)
class _Builder:
    identity: Identity
    modality: str
    order: int
    source: str
    repairs: Repairs

    def gather(self, group: list[tuple[Header, str]]) -> list[Rejected | _Images]:
        """The images of one form, by orientation."""
        gathered = gather_slices(group)
        slices = gathered.slices
        if gathered.fault is not None:
            return [self.rejected(Part(()), (gathered.fault,), count=len(group), files=gathered.bad)]
        changes = (MOSAIC,) if any(image.tile is not None for image in slices) else ()
        whole = without_copies(Part(slices, changes=changes))
        if isinstance(whole, StackFault):
            return [self.rejected(Part(()), (whole,), count=len(group))]
        return [
            _Images(self, part, axes, apart.label)
            for apart in by_frame_form(whole)
            for part, axes in by_orientation(apart)
        ]

    def volume(self, part: Part, axes: Axes, notes: Mapping[str, int]) -> Series | Rejected:
        """The volume that images make, one at each position."""
        positions = np.array([image.position_mm for image in part.slices])
        along = np.argsort(positions @ axes[2], kind="stable")
        if len(along) < MIN_SLICES:
            return self.too_few(part, len(along))
        slices = tuple(part.slices[place] for place in along)
        header = slices[0].header
        row_mm, column_mm = header.numbers(tags.PIXEL_SPACING)[:2]  # between rows first (PS3.3, 10.7.1.3)
        geometry = StackGeometry(axes, positions[along], (column_mm, row_mm), slices[0].size)
        repaired, faults = self.repairs.of(geometry, geometry.faults())
        if faults:
            return self.rejected(part, faults)
        inverted = any(one.header.text(tags.PHOTOMETRIC_INTERPRETATION) == "MONOCHROME1" for one in slices)
        changes = (*part.changes, *repaired, *([MONOCHROME1] if inverted else []))
        return Series(self._named(part), self.modality, self.order, slices, geometry, self.source, changes, notes)

    def _named(self, part: Part) -> Identity:
        patient_id = _patient_id(part.slices[0].header) if part.slices else self.identity.patient_id
        return replace(
            self.identity, patient_id=patient_id, part="_".join(filter(None, (self.identity.part, part.label)))
        )

    def rejected(
        self, part: Part, faults: tuple[StackFault, ...], *, count: int | None = None, files: Sequence[str] = ()
    ) -> Rejected:
        """Images that make no volume."""
        return Rejected(
            self._named(part),
            self.modality,
            self.order,
            Status.REFUSED,
            faults,
            _REMEDIES.get(faults[0].code, ""),
            len(part.slices) if count is None else count,
            listed(files, NAMED_FILES) or self.source,
        )

    def too_few(self, part: Part, places: int) -> Rejected:
        """Images at fewer positions than a volume has."""
        code = "one-position" if places == 1 else "too-few-slices"
        where = "one position" if places == 1 else f"{places} positions"
        images = f"{counted(len(part.slices), 'image')} at {where} {'makes' if len(part.slices) == 1 else 'make'}"
        sentence = f"{images} no volume; it takes {MIN_SLICES} positions."
        return replace(self.rejected(part, (StackFault(code, sentence),)), status=Status.SKIPPED)


_BY_NUMBERS = (
    "No position is missing, but by the InstanceNumbers images of this series are, and those left may be of several "
    "volumes."
)


@dataclass(frozen=True, eq=False)
class _Images:
    """Images of one form and orientation.

    Args:
        builder: makes their volumes.
        part: the images.
        axes: of their orientation.
        stack: the stack of frames that they are of.
    """

    builder: _Builder
    part: Part
    axes: Axes
    stack: str

    @cached_property
    def marked(self) -> Marked:
        """What tells their volumes apart."""
        return Marked(self.part.slices)

    @cached_property
    def groups(self) -> list[tuple[int, ...]]:
        """Those that agree in all that the slices of a volume must agree in."""
        return agreeing(self.marked)

    def siblings(self) -> list[Sibling]:
        """The groups, as ``expected_of`` takes them."""
        header, size = self.part.slices[0].header, self.part.slices[0].size
        spacing = tuple(round(step, 4) for step in header.numbers(tags.PIXEL_SPACING))
        form = (self.stack, series_number(header), size, spacing)
        positions = np.array([image.position_mm for image in self.part.slices])
        return [Sibling(form, self.axes, positions[list(group)]) for group in self.groups]

    def volumes(self, expected: Mapping[int, Expected], series: SeriesNumbers) -> list[Series | Rejected]:
        """The volumes among them."""
        shown = {place for group in self.groups for place in expected[id(group)].places.tolist()}
        if len(self.groups) == len(self.part.slices) and len(shown) >= MIN_SLICES:
            # Once, not for each image: nobody could tell which volume it lacks slices of.
            sentence = all_unlike(self.marked)
            return [self.builder.rejected(self.part, (StackFault("incomplete-volume", sentence),))]
        found: list[tuple[Volume, Expected]] = []
        faults: dict[int, SplitFault] = {}
        place_of: dict[int, int] = {}
        for group in self.groups:
            places = expected[id(group)]
            place_of |= zip(group, places.places.tolist(), strict=True)
            try:
                volumes = split_volumes(group, self.marked, places, series, parts=len(self.groups))
            except SplitFault as error:
                volumes = [Volume(group)]
                faults[id(volumes[0])] = error
            found += [(volume, places) for volume in volumes]
        alone = [volume for volume, _ in found]
        are_mixed = mixed(alone, self.marked, place_of, series)
        built: list[tuple[str, Series | Rejected]] = []
        told = Told(alone, self.marked)
        names = names_of(alone, self.marked)
        for number, (volume, places) in enumerate(found):
            name = names[number]
            part = self.part.parted([self.part.slices[member] for member in volume.members], name)
            part = replace(part, changes=(*self.part.changes, *volume.changes))
            fault = faults.get(id(volume))
            made = None if fault else self._volume(part, told, number, places)
            if isinstance(made, Series) and are_mixed[number]:
                fault = SplitFault("images-missing", _BY_NUMBERS)
            if fault:
                made = self.builder.rejected(part, (StackFault(fault.code, fault.sentence),))
            assert made is not None, "what has no fault was made"
            built.append((name, made))
        lost = points_in_time_lost(alone, self.marked)
        noted = [
            (name, replace(one, notes={RUN_CUT_SHORT: lost, **one.notes}) if lost and isinstance(one, Series) else one)
            for name, one in built
        ]
        return [one for _, one in sorted(noted, key=lambda named: named[0])]

    def _volume(self, part: Part, told: Told, number: int, expected: Expected) -> Series | Rejected:
        volume = told.volumes[number]
        distances = np.array([image.position_mm for image in part.slices]) @ self.axes[2]
        there = int(places_of(distances).max()) + 1
        if len(expected.required_mm) < MIN_SLICES:
            return self.builder.too_few(part, there)
        lacking = [] if volume.is_stretch else lacking_mm(distances, list(expected.required_mm.values()))
        if not lacking:
            return self.builder.volume(part, self.axes, volume.notes)
        # A gap inside may be filled, as in any volume; what lacks at an end may not.
        if distances.min() < lacking[0] and lacking[-1] < distances.max():
            filled = self.builder.volume(part, self.axes, volume.notes)
            if isinstance(filled, Series) and GAPS_FILLED in filled.changes:
                return filled
        what = told.of(number)
        sentence = lack_of(what, lacking, len(expected.required_mm))
        return self.builder.rejected(part, (StackFault("incomplete-volume", sentence),))


def _expected(several: Sequence[_Images]) -> list[tuple[tuple[int, ...], Expected]]:
    """The groups of images under one SeriesInstanceUID, and the positions that their volumes must have."""
    groups = [group for one in several for group in one.groups]
    return list(zip(groups, expected_of([sibling for one in several for sibling in one.siblings()]), strict=True))


def _modality(header: Header) -> str:
    sop_class = header.uid(tags.SOP_CLASS_UID)
    return CLASSIC_IMAGES.get(sop_class) or ENHANCED_IMAGES[sop_class]


def _source(group: Sequence[tuple[Header, str]]) -> str:
    """The folder of a group, or its file where it is but one."""
    names = [name for _, name in group]
    return names[0] if len(names) == 1 else (os.path.commonpath(names) or ".")
