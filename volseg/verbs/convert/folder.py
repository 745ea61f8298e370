"""The conversion of a whole folder."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import exclusive, remove_partials, require_no_links
from volseg.dataset.pairing import CONVERSION_JSON, REGIONS, TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS
from volseg.dicom import Scan
from volseg.dicom.choice.channels import ChannelPlan, plan_channels
from volseg.dicom.choice.names import NAME_WARNING, NameFault, case_names, header_text, require_linkage, write_linkage
from volseg.dicom.choice.patterns import parse_channels
from volseg.dicom.choice.selection import AS_MASK, NOT_CHOSEN, chosen, select
from volseg.dicom.file import tags
from volseg.dicom.file.archives import private_folder
from volseg.errors import DiskFullError, InputError
from volseg.outcomes import ALREADY_DONE, Ledger, Outcome, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.pseudonyms import NAMES, Naming
from volseg.verbs.convert.channels import conversions_of
from volseg.verbs.convert.conversion import (
    Conversion,
    conversion_of,
    images_there,
    run_conversions,
    taken,
)
from volseg.verbs.convert.mask_series import take_masks
from volseg.verbs.convert.options import DEFAULTS, ConvertOptions
from volseg.verbs.convert.record import kinds_of, outdated, record, with_mask_of
from volseg.verbs.convert.source import require_output, scan_source
from volseg.volume import split_channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from volseg.dicom.labels.mask_series import NamedSeries
    from volseg.masks import Converted


def convert(
    dicom_dir: Path, nifti_dir: Path, options: ConvertOptions = DEFAULTS, progress: Progress = SILENT
) -> Ledger:
    """Convert every series under a folder of DICOM to NIfTI.

    Images go to ``imagesTs/<case>.nii.gz`` with a sidecar ``<case>.json`` beside each; ``dataset.json`` lists them,
    and ``conversion.json`` tells what became of every series. Series that an earlier run finished with the same
    options stay as they are.

    An image whose series has segmentations or structure sets goes to ``imagesTr``, and what they show to
    ``labelsTr/<case>.nii.gz`` on its grid; one table for all names the labels.

    Args:
        dicom_dir: searched with all its folders and the zip and tar archives in them; file names don't matter. An
            archive may stand in its place.
        nifti_dir: made where it is absent. A key of case names that lies in it goes before the person's.
        options: how.
        progress: told of each file and series.

    Interrupted, it leaves whole images and a ledger of them, and the next call goes on.

    Returns:
        One outcome for each volume, series or file that was refused or skipped, sorted by case. Their ``private``
        names the files and is for stderr alone.

    Raises:
        UsageError: a path or option makes no sense; ``among-dicom`` where ``nifti_dir`` holds the DICOM files.
        InputError: there is no DICOM under ``dicom_dir``, or ``nifti_dir`` has a key or ``dataset.json`` that can't
            be read.
        FileError: a file can't be read or written.
    """
    options.require_sense()
    require_output(nifti_dir, dicom_dir)
    with private_folder() as scratch, exclusive(nifti_dir):
        folders = [TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS, REGIONS]
        require_no_links(nifti_dir, folders)
        folders += [f"{REGIONS}/{place.name}" for place in sorted((nifti_dir / REGIONS).glob("*"))]
        require_no_links(nifti_dir, folders)
        for folder in ("", *folders):
            remove_partials(nifti_dir / folder)
        return _convert(dicom_dir, nifti_dir, options, progress, scratch)


def _convert(dicom_dir: Path, nifti_dir: Path, options: ConvertOptions, progress: Progress, scratch: Path) -> Ledger:
    from volseg.dataset.editing import DatasetFile

    choice = options.choice
    linkage = None if options.linkage is None else Path(options.linkage)
    if linkage is not None:
        require_linkage(linkage, nifti_dir, overwrite=options.overwrite)
    if options.name:
        progress.say(NAME_WARNING)
    dataset = DatasetFile.read(nifti_dir)
    found = scan_source(dicom_dir, options, progress, scratch)
    named = Naming.existing(nifti_dir)
    chosen_masks = take_masks(found, options, named, progress)
    found, masks = select(chosen_masks.found, options, named, chosen_masks.told), chosen_masks.masks
    naming = Naming.of_folder(nifti_dir)
    before = Ledger.read(nifti_dir / CONVERSION_JSON)
    naming.require_names_of(before, nifti_dir)
    if options.channels:
        plan_of_channels = plan_channels(found, options, naming, chosen_masks.told)
        found = plan_of_channels.found
        dataset = dataset.with_channels([channel.name for channel in parse_channels(options.channels)])
        everything, nameless = _channel_conversions(plan_of_channels, naming, nifti_dir, options)
    else:
        dataset.require_one_channel()
        everything, nameless = _conversions(found, naming, nifti_dir, options)
    outcomes = [*chosen(found).outcomes(naming), *nameless, *_converted_before(masks, naming, nifti_dir)]
    outcomes += outdated(found, {one.case for one in everything.values()}, naming, nifti_dir)
    aside = {naming.case(one.identity, one.modality) for one in found.rejected if one.code == NOT_CHOSEN}
    keep = partial(record, nifti_dir=nifti_dir, before=before, origin=naming.origin(dicom_dir), aside=aside)
    kinds = chosen(found).skipped_kinds
    provenance = Provenance.of("convert", replace(options, labels=str(choice)), checksums={NAMES: naming.mark})
    try:
        run_conversions(tuple(everything.values()), options.jobs, progress, outcomes.append)
        if options.channels:
            outcomes = _whole_cases(outcomes, everything)
        if found.label_files or masks:
            from volseg.masks import draw_masks, plan_labels

            cases = _cases(everything.values(), channels=bool(options.channels))
            channels = [[one.series for one in members] for members in cases.values()]
            plan = plan_labels(found, dataset.labels, choice, naming, progress, cases=channels, masks=masks)
            if plan.by_series:
                # Before any mask is drawn: a number in a mask must never stand for something else later.
                dataset = dataset.with_labels(plan.table)
            converted = _converted(found, cases, outcomes)
            refused = draw_masks(
                plan,
                converted,
                nifti_dir,
                naming,
                overwrite=options.overwrite,
                regions=options.regions,
                jobs=options.jobs,
                progress=progress,
            )
            outcomes += [*plan.outcomes, *refused]
            kinds = kinds_of(chosen(found), plan)
    except (KeyboardInterrupt, DiskFullError):
        if options.channels:
            outcomes = _without_parts(outcomes, everything)
        with suppress(DiskFullError):  # there may be room for the small files still
            keep(Ledger(tuple(outcomes), provenance, kinds), dataset)
        raise
    outcomes = sorted((with_mask_of(outcome, nifti_dir) for outcome in outcomes), key=lambda outcome: outcome.case)
    ledger = keep(Ledger(tuple(outcomes), provenance, kinds), dataset)
    if linkage is not None:
        there = {outcome.case for outcome in ledger.outcomes if outcome.status is Status.DONE}
        rows = (
            (one.case, one.patient, header_text(one.series, tags.PATIENT_ID))
            for one in everything.values()
            if one.case in there
        )
        write_linkage(linkage, rows)
    return ledger


def _conversions(
    found: Scan, naming: Naming, nifti_dir: Path, options: ConvertOptions
) -> tuple[dict[int, Conversion], list[Outcome]]:
    """What there is to convert, by the number of the series, and the outcomes of those that get no name."""
    images = images_there(nifti_dir)
    names = case_names(found.series, options.name) if options.name else [""] * len(found.series)
    conversions, outcomes = {}, []
    for number, (series, name) in enumerate(zip(found.series, names, strict=True)):
        if isinstance(name, NameFault):
            case = naming.case(series.identity, series.modality)
            outcomes.append(Outcome(case, Status.REFUSED, name.code, name.message, private=series.source))
            continue
        conversion = conversion_of(series, naming, images, nifti_dir, options, options.spacing_mm, name)
        clash = taken(conversion) if name else None
        if clash is None:
            conversions[number] = conversion
        else:
            case = naming.case(series.identity, series.modality)
            outcomes.append(replace(clash, case=case))
    return conversions, outcomes


def _channel_conversions(
    plan: ChannelPlan, naming: Naming, nifti_dir: Path, options: ConvertOptions
) -> tuple[dict[int, Conversion], list[Outcome]]:
    """The channels of every case, and the outcomes of the cases that get none."""
    images = images_there(nifti_dir)
    conversions: list[Conversion] = []
    outcomes = list(plan.outcomes)
    for case in plan.cases:
        private = case.series[0].source
        try:
            made = conversions_of(case, naming, images, nifti_dir, options)
        except InputError as error:
            outcomes.append(Outcome.of_error(case.case, error, private=private))
            continue
        clash = next(filter(None, map(taken, made)), None)
        if clash is None:
            conversions.extend(made)
        else:
            outcomes.append(replace(clash, case=f"study_{naming.study(case.series[0].identity)}", private=private))
    return dict(enumerate(conversions)), outcomes


def _converted_before(masks: Sequence[NamedSeries], naming: Naming, nifti_dir: Path) -> list[Outcome]:
    """Masks that an earlier run took for images, which lie there still."""
    there = images_there(nifti_dir) if masks else {}
    message = "It is a mask now, and an earlier run converted it as an image. Remove that image and its sidecar."
    cases = {naming.case(mask.series.identity, mask.series.modality): mask.series for mask in masks}
    return [
        Outcome(case, Status.REFUSED, AS_MASK, message, private=series.source)
        for case, series in cases.items()
        if case in there
    ]


def _cases(conversions: Iterable[Conversion], *, channels: bool) -> dict[str, list[Conversion]]:
    """The conversions of each case: one, or its channels in order."""
    cases: dict[str, list[Conversion]] = defaultdict(list)
    for conversion in conversions:
        cases[split_channel(conversion.case)[0] if channels else conversion.case].append(conversion)
    return cases


def _converted(
    found: Scan, cases: Mapping[str, Sequence[Conversion]], outcomes: Sequence[Outcome]
) -> tuple[Converted, ...]:
    """The cases that are done, for their masks."""
    from volseg.masks import Converted

    number_of = {series: number for number, series in enumerate(found.series)}
    done = {one.case: one.made for one in outcomes if one.status is Status.DONE and one.made is not None}
    return tuple(
        Converted(
            case,
            {number_of[one.series]: one.series for one in members},
            tuple(one.image for one in members),
            tuple(done[one.case] for one in members),
        )
        for case, members in cases.items()
        if all(one.case in done for one in members)
    )


def _without_parts(outcomes: Sequence[Outcome], conversions: Mapping[int, Conversion]) -> list[Outcome]:
    """The outcomes without those of cases that lack a channel yet; the next run goes on with these."""
    done = {one.case for one in outcomes if one.status is Status.DONE}
    everything = {conversion.case for conversion in conversions.values()}
    lacking = {split_channel(case)[0] for case in everything - done}
    return [one for one in outcomes if one.case not in everything or split_channel(one.case)[0] not in lacking]


def _whole_cases(outcomes: Sequence[Outcome], conversions: Mapping[int, Conversion]) -> list[Outcome]:
    """The outcomes; of a case that lacks a channel the others, made in this run, are taken away again."""
    from volseg.dataset.sidecar import sidecar_path

    by_case = {conversion.case: conversion for conversion in conversions.values()}
    lacking = {split_channel(one.case)[0] for one in outcomes if one.case in by_case and one.status is not Status.DONE}
    kept = []
    for one in outcomes:
        conversion = by_case.get(one.case)
        if conversion is not None and one.status is Status.DONE and split_channel(one.case)[0] in lacking:
            if one.code != ALREADY_DONE:
                conversion.image.unlink(missing_ok=True)
                sidecar_path(conversion.image).unlink(missing_ok=True)
            message = "Another channel of its case was refused or failed."
            kept.append(Outcome(one.case, Status.REFUSED, "channel-incomplete", message, private=one.private))
        else:
            kept.append(one)
    return kept
