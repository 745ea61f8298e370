"""The conversion of a whole folder, and its preview."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from volseg.dicom import Naming, Rejected, Repairs, Scan, Series, scan
from volseg.errors import FileError, UsageError
from volseg.outcomes import Ledger, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.verbs.convert.options import DEFAULTS, ConvertOptions
from volseg.verbs.convert.record import kinds_of, record, rejections, with_mask_of
from volseg.verbs.convert.sentences import described
from volseg.verbs.convert.task import converted_of, finished, images_there, planned, run_tasks, task_of


@dataclass(frozen=True)
class PreviewRow:
    """What would become of one series, or of one segmentation or structure set.

    Args:
        case: the name it would get; without the hash where the output folder has no key yet.
        modality: ``CT``, ``MR`` or ``PT``; ``SEG`` or ``RTSTRUCT``.
        images: how many; of a label object, how many structures.
        grid: of the scanner, in words; empty where there is none.
        action: what would happen, in words.
        source: where its files are, relative to the folder that was given; private.
    """

    case: str
    modality: str
    images: int
    grid: str
    action: str
    source: str


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
        dicom_dir: searched with all its folders; file names don't matter.
        nifti_dir: made where it is absent. It keeps the key of the case names.
        options: how.
        progress: told of each file and series.

    Returns:
        One outcome for each volume, series or file that was refused or skipped, sorted by case. Their ``private``
        names the files and is for stderr alone.

    Raises:
        UsageError: a path or option makes no sense.
        InputError: there is no DICOM under ``dicom_dir``, or ``nifti_dir`` has a key or ``dataset.json`` that can't
            be read.
        FileError: a file can't be read or written.
    """
    from volseg.dataset.editing import DatasetFile

    spacing_mm = options.spacing_mm
    _require_output(nifti_dir)
    choice = options.choice
    dataset = DatasetFile.read(nifti_dir)
    found = _scan(dicom_dir, options, progress)
    naming = _naming(nifti_dir)
    outcomes = rejections(found, naming)
    images = images_there(nifti_dir)
    all_tasks = [task_of(series, naming, images, nifti_dir, options, spacing_mm) for series in found.series]
    tasks = []
    for task in all_tasks:
        earlier = None if options.overwrite else finished(task)
        if earlier is None:
            tasks.append(task)
        else:
            outcomes.append(earlier)
    outcomes.extend(run_tasks(tasks, options.jobs, progress))
    kinds = found.skipped_kinds
    if found.label_files:
        from volseg.annotations import draw_masks, plan_labels

        plan = plan_labels(found, dataset.labels, choice, naming)
        if plan.by_series:
            # Before any mask is drawn: a number in a mask must never stand for something else later.
            dataset = dataset.with_labels(plan.table)
        done = {outcome.case for outcome in outcomes if outcome.status is Status.DONE}
        converted = {number: converted_of(task) for number, task in enumerate(all_tasks) if task.case in done}
        refused = draw_masks(
            plan, converted, nifti_dir, naming, overwrite=options.overwrite, jobs=options.jobs, progress=progress
        )
        outcomes += [*plan.outcomes, *refused]
        kinds = kinds_of(found, plan)
    outcomes = sorted((with_mask_of(outcome, nifti_dir) for outcome in outcomes), key=lambda outcome: outcome.case)
    ledger = Ledger(tuple(outcomes), Provenance.of("convert", replace(options, labels=str(choice))), kinds)
    record(ledger, dataset, nifti_dir)
    return ledger


def preview(
    dicom_dir: Path, nifti_dir: Path, options: ConvertOptions = DEFAULTS, progress: Progress = SILENT
) -> tuple[tuple[PreviewRow, ...], Scan]:
    """What ``convert`` would do, without writing anything.

    Raises:
        UsageError: a path or option makes no sense.
        InputError: there is no DICOM under ``dicom_dir``.
        FileError: a file can't be read.
    """
    spacing_mm = options.spacing_mm
    _require_output(nifti_dir)
    found = _scan(dicom_dir, options, progress)
    naming = Naming.existing(nifti_dir)
    images = images_there(nifti_dir)
    rows = []
    everything: tuple[Series | Rejected, ...] = (*found.series, *found.rejected)
    for one in everything:
        shown = naming.case(one.identity, one.modality, one.order) if naming else _nameless(one)
        if isinstance(one, Rejected):
            row = PreviewRow(shown, one.modality, one.count, "", f"{one.status} [{one.code}] {one.message}", one.source)
        else:
            task = task_of(one, naming, images, nifti_dir, options, spacing_mm) if naming else None
            shown = task.case if task else shown
            earlier = finished(task) if task and not options.overwrite else None
            action = f"{earlier.status} [{earlier.code}]" if earlier else planned(one, spacing_mm, suv=options.suv)
            row = PreviewRow(shown, one.modality, len(one.slices), described(one.grid), action, one.source)
        rows.append(row)
    if found.label_files:
        label_rows, found = _label_rows(found, nifti_dir, options, naming)
        rows.extend(label_rows)
    return tuple(sorted(rows, key=lambda row: row.case)), found


def _label_rows(
    found: Scan, nifti_dir: Path, options: ConvertOptions, naming: Naming | None
) -> tuple[list[PreviewRow], Scan]:
    """What would become of the label objects, and the scan without them among what is skipped."""
    from volseg.annotations import plan_labels
    from volseg.dataset.editing import DatasetFile

    plan = plan_labels(found, DatasetFile.read(nifti_dir).labels, options.choice, naming)
    rows = [
        PreviewRow(one.case, "", 0, "", f"{one.status} [{one.code}] {one.message}", one.private)
        for one in plan.outcomes
    ]
    for number, assignments in plan.by_series.items():
        series = found.series[number]
        case = naming.case(series.identity, series.modality, series.order) if naming else _nameless(series)
        for one in assignments:
            names = ", ".join(sorted({plan.table.name_of(index) for index in one.chosen.values()}))
            action = f"drawn on {case}: {names}"
            rows.append(PreviewRow(one.name, one.labels.kind, len(one.chosen), "", action, one.labels.name))
    return rows, replace(found, skipped_kinds=kinds_of(found, plan))


def _scan(dicom_dir: Path, options: ConvertOptions, progress: Progress) -> Scan:
    repairs = Repairs(tilt=not options.refuse_tilt, gaps=options.fill_gaps)
    return scan(dicom_dir, progress, localizers=options.localizers, repairs=repairs)


def _nameless(one: Series | Rejected) -> str:
    return "_".join(filter(None, (one.modality.lower(), f"{one.order:02d}", one.identity.part)))


def _require_output(nifti_dir: Path) -> None:
    if nifti_dir.exists() and not nifti_dir.is_dir():
        raise UsageError(f"{nifti_dir} is a file. Give a folder for the NIfTI images.", code="not-a-folder")


def _naming(nifti_dir: Path) -> Naming:
    from volseg.atomic import write_error

    try:
        return Naming.of_folder(nifti_dir)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise write_error(nifti_dir, error) from error
