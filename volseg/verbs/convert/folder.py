"""The conversion of a whole folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from volseg.dicom import Naming
from volseg.dicom.archives import private_folder
from volseg.errors import FileError
from volseg.outcomes import Ledger, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.verbs.convert.options import DEFAULTS, ConvertOptions
from volseg.verbs.convert.record import kinds_of, record, rejections, with_mask_of
from volseg.verbs.convert.selection import chosen, select
from volseg.verbs.convert.source import require_output, scan_source
from volseg.verbs.convert.task import converted_of, finished, images_there, run_tasks, task_of


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
    options.require_sense()
    with private_folder() as scratch:
        return _convert(dicom_dir, nifti_dir, options, progress, scratch)


def _convert(dicom_dir: Path, nifti_dir: Path, options: ConvertOptions, progress: Progress, scratch: Path) -> Ledger:
    from volseg.dataset.editing import DatasetFile

    spacing_mm, choice = options.spacing_mm, options.choice
    require_output(nifti_dir)
    dataset = DatasetFile.read(nifti_dir)
    found = scan_source(dicom_dir, options, progress, scratch)
    found = select(found, options, Naming.existing(nifti_dir))
    naming = _naming(nifti_dir)
    outcomes = rejections(chosen(found), naming)
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
    kinds = chosen(found).skipped_kinds
    if found.label_files:
        from volseg.masks import draw_masks, plan_labels

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
        kinds = kinds_of(chosen(found), plan)
    outcomes = sorted((with_mask_of(outcome, nifti_dir) for outcome in outcomes), key=lambda outcome: outcome.case)
    ledger = Ledger(tuple(outcomes), Provenance.of("convert", replace(options, labels=str(choice))), kinds)
    record(ledger, dataset, nifti_dir)
    return ledger


def _naming(nifti_dir: Path) -> Naming:
    from volseg.atomic import write_error

    try:
        return Naming.of_folder(nifti_dir)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise write_error(nifti_dir, error) from error
