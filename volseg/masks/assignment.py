"""Assignment of label objects to series, and of their structures to labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from volseg.dicom import short_name
from volseg.dicom.labels.mask_series import assign_masks
from volseg.dicom.labels.matching import OTHER_FRAME, Matched, SeriesIndex, Unmatched, read_label_object, shares_frame
from volseg.errors import FileError, InputError
from volseg.kept import file_digest
from volseg.labels import Label
from volseg.nomenclature import LabelChoice, Nomenclature
from volseg.outcomes import Outcome, Status
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.dicom import Scan, Series
    from volseg.dicom.labels.label_object import LabelObject
    from volseg.dicom.labels.mask_series import NamedSeries
    from volseg.labels import LabelTable
    from volseg.pseudonyms import Naming


NOT_CHOSEN = Unmatched(
    Status.SKIPPED, "no-chosen-label", "None of its structures is among the labels that were chosen."
)


@dataclass(frozen=True, eq=False)
class Assignment:
    """A label object on a series.

    Args:
        name: the object's public name.
        label_object: the object.
        chosen: the label for each structure's number.
        matched_by: the code of what alone tells its series, where that is to be told; else empty.
        parts: as ``Matched.parts``.
    """

    name: str
    label_object: LabelObject
    chosen: Mapping[int, int]
    matched_by: str
    parts: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LabelPlan:
    """What is to be drawn.

    Args:
        table: one for the whole cohort.
        by_series: the label objects on each series, by its number among those of the scan, in the order of their names.
        outcomes: of the objects that are not drawn.
        passed_over: structures that are not drawn, counted by kind; those that nobody chose by name.
    """

    table: LabelTable
    by_series: Mapping[int, tuple[Assignment, ...]]
    outcomes: tuple[Outcome, ...]
    passed_over: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _Found:
    name: str
    label_object: LabelObject
    match: Matched


def plan_labels(
    found: Scan,
    known: LabelTable,
    choice: LabelChoice,
    naming: Naming | None,
    progress: Progress = SILENT,
    *,
    cases: Sequence[Sequence[Series]] = (),
    masks: Sequence[NamedSeries] = (),
) -> LabelPlan:
    """Read every label object's structures, find its series, and give all structures one table.

    Args:
        found: what a folder holds.
        known: the labels that the data set has already; they keep their numbers.
        choice: which structures become labels.
        naming: for the objects' names; None where there is no key yet, and then they are only numbered.
        progress: told of each label object.
        cases: the series that are the channels of a case, in order; an object on several of them is drawn once.
        masks: series that are masks.

    Raises:
        InputError: there are more names than numbers, with the code ``too-many-labels``.
    """
    outcomes: list[Outcome] = []
    passed_over: Counter[str] = Counter()
    number_of = {series: number for number, series in enumerate(found.series)}
    case_of = {number_of[series]: number_of[members[0]] for members in cases for series in members}
    index = SeriesIndex(found.series, found.rejected, case_of)
    matched: list[_Found] = []
    if not found.label_files:
        progress = SILENT
    with progress.task("Reading labels", len(found.label_files), "files") as task:
        for number, (header, file) in enumerate(found.label_files, start=1):
            task.advance()
            try:
                label_object = read_label_object(header, file)
            except (InputError, FileError) as error:
                shown = naming.file(file) if naming else f"file_{number}"
                outcomes.append(Outcome.of_error(shown, error, private=file))
                continue
            kind = label_object.kind
            name = naming.labels(kind, label_object.uid or file) if naming else f"{kind.lower()}_{number}"
            try:
                match = index.match(label_object)
            except (InputError, FileError) as error:
                outcomes.append(Outcome.of_error(name, error, private=file))
                continue
            if isinstance(match, Unmatched):
                outcomes.append(_unmatched(name, match, file))
                continue
            passed_over.update(label_object.passed_over)
            if not label_object.structures:
                outcomes.append(Outcome(name, Status.SKIPPED, "nothing-to-draw", _nothing(label_object), private=file))
            else:
                matched.append(_Found(name, label_object, match))
    matched = _without_copies(matched, outcomes)
    matched += _mask_series(found, masks, case_of, naming, outcomes)
    structures = [structure for one in matched for structure in one.label_object.structures]
    words = Nomenclature.of(
        (Label(1, structure.name, structure.colour, structure.code) for structure in structures), known, choice
    )
    by_series: dict[int, list[Assignment]] = defaultdict(list)
    for one in matched:
        indices = {structure.number: words.index_of(structure.name) for structure in one.label_object.structures}
        passed_over.update(
            f"structure {structure.name!r}, which is no label"
            for structure in one.label_object.structures
            if indices[structure.number] is None
        )
        assigned = [
            (number, Assignment(one.name, one.label_object, chosen, one.match.by, one.match.parts))
            for number in one.match.numbers
            if (chosen := _chosen(one, indices, number, found.series[number], passed_over))
        ]
        for number, assignment in assigned:
            by_series[number].append(assignment)
        if not any(indices.values()):
            outcomes.append(_unmatched(one.name, NOT_CHOSEN, one.label_object.name))
        elif not assigned:
            outcomes.append(_unmatched(one.name, OTHER_FRAME, one.label_object.name))
    return LabelPlan(
        words.table,
        {number: tuple(sorted(on, key=lambda one: one.name)) for number, on in by_series.items()},
        tuple(outcomes),
        passed_over,
    )


def _mask_series(
    found: Scan,
    masks: Sequence[NamedSeries],
    case_of: Mapping[int, int],
    naming: Naming | None,
    outcomes: list[Outcome],
) -> list[_Found]:
    series = [mask.series for mask in masks]
    own = {(one.identity, one.order) for one in series}
    others = [one for one in found.rejected if (one.identity, one.order) not in own]
    by_image, left = assign_masks(masks, found.series, others, case_of)
    for mask, why in left:
        one = mask.series
        name = naming.case(one.identity, one.modality) if naming else short_name(one)
        outcomes.append(_unmatched(name, why, one.source))
    matched = []
    for number, label_object in sorted(by_image.items()):
        uids = " ".join(sorted(one.identity.series_uid for one in label_object.series))
        name = naming.labels("masks", uids) if naming else f"masks_{number + 1}"
        matched.append(_Found(name, label_object, Matched((number,))))
    return matched


def _chosen(
    one: _Found, indices: Mapping[int, int | None], number: int, series: Series, passed_over: Counter[str]
) -> dict[int, int]:
    """The label for each structure's number, without those that are no label, or are not drawn on this series."""
    chosen = {}
    parts = one.match.parts.get(number)
    here = None if parts is None else {one.label_object.parts[place].structure for place in parts}
    for structure in one.label_object.structures:
        index = indices[structure.number]
        if index is None or (here is not None and here.isdisjoint({structure.number, 0})):
            continue
        if structure.frame_uid and not shares_frame(series, (structure.frame_uid,)):
            passed_over["structure in another frame of reference than the image"] += 1
        else:
            chosen[structure.number] = index
    return chosen


def _unmatched(name: str, why: Unmatched, file: str) -> Outcome:
    return Outcome(name, why.status, why.code, why.message, private=file)


def _nothing(label_object: LabelObject) -> str:
    counts = ", ".join(f"{count} x {kind}" for kind, count in sorted(label_object.passed_over.items()))
    return f"There is nothing to fill in it{f': {counts}' * bool(counts)}."


def _without_copies(found: Sequence[_Found], outcomes: list[Outcome]) -> list[_Found]:
    """Each object once, where files are copies of one another; two that differ under one identifier are refused."""
    by_name: dict[str, list[_Found]] = defaultdict(list)
    for one in found:
        by_name[one.name].append(one)
    kept = []
    for name, copies in by_name.items():
        if len(copies) == 1 or len({file_digest(one.label_object.header.path) for one in copies}) == 1:
            kept.append(copies[0])
            continue
        message = "Files with the same identifier hold different structures, so one of them is wrong. Keep one."
        files = ", ".join(one.label_object.name for one in copies)
        outcomes.append(Outcome(name, Status.REFUSED, "conflicting-copies", message, private=files))
    return kept
