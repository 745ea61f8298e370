"""Preview of a conversion: what it would do, without writing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from volseg.dicom import Rejected, Scan, Series, numbered, short_name
from volseg.dicom.choice.names import NameFault, case_names, header_text
from volseg.dicom.choice.patterns import parse_channels
from volseg.dicom.choice.selection import select
from volseg.dicom.file import tags
from volseg.dicom.file.archives import private_folder
from volseg.errors import InputError
from volseg.outcomes import Outcome, Status
from volseg.progress import SILENT, Progress
from volseg.pseudonyms import Naming
from volseg.verbs.convert.conversion import conversion_of, finished, images_there, planned
from volseg.verbs.convert.mask_series import ChosenMasks, take_masks
from volseg.verbs.convert.options import DEFAULTS, ConvertOptions
from volseg.verbs.convert.record import kinds_of, outdated
from volseg.verbs.convert.source import require_output, scan_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.dicom.labels.mask_series import NamedSeries


@dataclass(frozen=True)
class PreviewRow:
    """What would become of one series, or of one segmentation or structure set.

    Args:
        number: by which ``series`` of the options chooses it; 0 for what can't be chosen.
        case: the name it would get; without the hash where the output folder has no key yet.
        modality: ``CT``, ``MR`` or ``PT``; ``SEG`` or ``RTSTRUCT``.
        images: how many; of a label object, how many structures.
        grid: of the scanner, in words; empty where there is none.
        action: what would happen, in words.
        status: how it would end.
        source: where its files are, relative to the folder that was given; private.
        description: of the series, by which ``channels`` of the options finds it; private.
    """

    number: int
    case: str
    modality: str
    images: int
    grid: str
    action: str
    status: Status
    source: str
    description: str = ""


def preview(
    dicom_dir: Path, nifti_dir: Path, options: ConvertOptions = DEFAULTS, progress: Progress = SILENT
) -> tuple[tuple[PreviewRow, ...], Scan]:
    """What ``convert`` would do, without writing anything.

    Raises:
        UsageError: a path or option makes no sense.
        InputError: there is no DICOM under ``dicom_dir``.
        FileError: a file can't be read.
    """
    options.require_sense()
    with private_folder() as scratch:
        return _preview(dicom_dir, nifti_dir, options, progress, scratch)


def _preview(
    dicom_dir: Path, nifti_dir: Path, options: ConvertOptions, progress: Progress, scratch: Path
) -> tuple[tuple[PreviewRow, ...], Scan]:
    spacing_mm = options.spacing_mm
    require_output(nifti_dir, dicom_dir)
    naming = Naming.existing(nifti_dir)
    chosen_masks = take_masks(scan_source(dicom_dir, options, progress, scratch), options, naming, progress)
    found = select(chosen_masks.found, options, naming, chosen_masks.told)
    images = images_there(nifti_dir)
    rows = []
    if options.channels:
        return _channel_preview(found, nifti_dir, options, naming, chosen_masks)
    names = dict(zip(found.series, case_names(found.series, options.name), strict=True)) if options.name else {}
    for number, one in numbered(found):
        shown = naming.case(one.identity, one.modality) if naming else short_name(one)
        earlier: Outcome | None = None
        action = ""
        if isinstance(one, Rejected):
            earlier = Outcome(shown, one.status, one.code, one.message)
        elif isinstance(name := names.get(one, ""), NameFault):
            earlier = Outcome(shown, Status.REFUSED, name.code, name.message)
        else:
            conversion = conversion_of(one, naming, images, nifti_dir, options, spacing_mm, name) if naming else None
            shown = conversion.case if conversion else name or shown
            earlier = finished(conversion) if conversion and not options.overwrite else None
            try:
                action = planned(one, options)
            except InputError as error:
                earlier = earlier or Outcome.of_error(shown, error)
        rows.append(_series_row(number, one, shown, action, earlier))
    if found.label_files or chosen_masks.masks:
        label_rows, found = _label_rows(found, nifti_dir, options, naming, chosen_masks.masks)
        # A series that can't be the mask which it was chosen for says why on its own line.
        why = {(row.case, row.source): row for row in label_rows}
        own = [why.get((row.case, row.source), row) for row in rows]
        rows = [replace(row, action=one.action, status=one.status) for row, one in zip(rows, own, strict=True)]
        rows.extend(row for row in label_rows if row not in own)
    if naming:
        rows.extend(map(_outcome_row, outdated(found, {row.case for row in rows}, naming, nifti_dir)))
    return tuple(rows), found


def _channel_preview(
    found: Scan, nifti_dir: Path, options: ConvertOptions, naming: Naming | None, masks: ChosenMasks
) -> tuple[tuple[PreviewRow, ...], Scan]:
    from volseg.dicom.choice.channels import plan_channels

    plan = plan_channels(found, options, naming, masks.told)
    channels = parse_channels(options.channels)
    placed: dict[Series | Rejected, str] = {
        one: f"channel {channel.name} of {case.case}"
        for case in plan.cases
        for channel, one in zip(channels, case.series, strict=True)
    }
    why = {one.identity: one for one in plan.found.rejected}
    rows = [_outcome_row(one) for one in plan.outcomes]
    for number, one in numbered(found):
        left = why.get(one.identity, one)
        outcome = Outcome("", left.status, left.code, left.message) if isinstance(left, Rejected) else None
        rows.append(_series_row(number, one, short_name(one), placed.get(one, ""), None if one in placed else outcome))
    if not plan.found.label_files and not masks.masks:
        return tuple(rows), plan.found
    names = {one: case.case for case in plan.cases for one in case.series}
    cases = [case.series for case in plan.cases]
    label_rows, chosen = _label_rows(plan.found, nifti_dir, options, naming, masks.masks, names, cases)
    return (*rows, *label_rows), chosen


def _series_row(number: int, one: Series | Rejected, case: str, action: str, outcome: Outcome | None) -> PreviewRow:
    """A series, and what would become of it: ``outcome`` where there is nothing to make, else ``action``."""
    status = outcome.status if outcome else Status.DONE
    action = _told(outcome) if outcome else action
    if isinstance(one, Rejected):
        return PreviewRow(number, case, one.modality, one.count, "", action, status, one.source)
    description = header_text(one, tags.SERIES_DESCRIPTION)
    grid = one.grid.described
    return PreviewRow(number, case, one.modality, len(one.slices), grid, action, status, one.source, description)


def _outcome_row(one: Outcome) -> PreviewRow:
    return PreviewRow(0, one.case, "", 0, "", _told(one), one.status, one.private)


def _told(outcome: Outcome) -> str:
    if outcome.status is Status.DONE:
        return "already done"
    return f"{outcome.status} [{outcome.code}] {outcome.message}"


def _label_rows(
    found: Scan,
    nifti_dir: Path,
    options: ConvertOptions,
    naming: Naming | None,
    masks: Sequence[NamedSeries],
    names: Mapping[Series, str] = MappingProxyType({}),
    cases: Sequence[Sequence[Series]] = (),
) -> tuple[list[PreviewRow], Scan]:
    """What would become of the label objects, and the scan without them among what is skipped."""
    from volseg.dataset.editing import DatasetFile
    from volseg.masks import plan_labels

    plan = plan_labels(found, DatasetFile.read(nifti_dir).labels, options.choice, naming, cases=cases, masks=masks)
    rows: dict[PreviewRow, None] = dict.fromkeys(map(_outcome_row, plan.outcomes))
    for number, assignments in plan.by_series.items():
        series = found.series[number]
        case = names.get(series) or (naming.case(series.identity, series.modality) if naming else short_name(series))
        for one in assignments:
            drawn = ", ".join(sorted({plan.table.name_of(index) for index in one.chosen.values()}))
            action = f"drawn on {case}: {drawn}"
            kind, file = one.label_object.kind, one.label_object.name
            rows[PreviewRow(0, one.name, kind, len(one.chosen), "", action, Status.DONE, file)] = (
                None  # once for all channels
            )
    return list(rows), replace(found, skipped_kinds=kinds_of(found, plan))
