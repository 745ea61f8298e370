"""Convert a folder of DICOM to NIfTI images, with a sidecar each, a ``dataset.json`` and a ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.batch import available_cores, run_cases
from volseg.dataset.pairing import TEST_IMAGES, TRAINING_IMAGES
from volseg.dicom import Naming, Rejected, Repairs, Scan, Series, SliceFault, acquisition_facts, load, scan, tags
from volseg.dicom.files import LABEL_KINDS
from volseg.dicom.repair import GAPS_FILLED, SPACING_EVENED, STRAIGHTENINGS, TILT_STRAIGHTENED
from volseg.errors import FileError, InputError, UsageError, VolsegError
from volseg.nomenclature import LabelChoice
from volseg.outcomes import Ledger, Outcome, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.volume import NIFTI_SUFFIXES, list_images, stem_of, write_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.annotations import Converted, LabelPlan
    from volseg.dataset.editing import DatasetFile
    from volseg.dataset.sidecar import Sidecar
    from volseg.grid import Grid

LEDGER_FILE = "conversion.json"
NATIVE = "native"
SMALL_BYTES = 2**25
"""Of pixels altogether: below this, starting workers takes longer than they save."""
MAX_TARGET_VOXELS = 2**31
"""A whole body of 700 x 700 x 2000 voxels is half of this; headers that lie about the gaps ask for far more."""
MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 100.0
"""Bounds for a target spacing: beyond them a slip of the finger is likelier than a wish."""

_CHANGES = {
    "copies-dropped": "Some files are copies of others; each image was taken once.",
    "duplicates-dropped": "Some images stand twice at one position with the same pixels; each was taken once.",
    TILT_STRAIGHTENED: "The gantry was tilted; the slices were interpolated onto an orthogonal grid.",
    SPACING_EVENED: "The spacing changes from run to run; the slices were interpolated at even spacing.",
    GAPS_FILLED: "Slices are missing and were made up from those beside them, as --fill-gaps asks.",
}
"""What was put right, and what a person has to know of it."""
_STRAIGHTENED = "straightened by the positions of the slices"
_AS_SCANNED = "the scanner's grid"
_HEAD = frozenset({"HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "SINUS", "IAC", "JAW", "HEADNECK"})


@dataclass(frozen=True)
class ConvertOptions:
    """How DICOM becomes NIfTI."""

    spacing: tuple[float | Literal["native"], ...] = (1.0,)
    """Voxel spacing of the images in mm: one number for all axes, or three. "native" keeps the scanner's grid."""

    interpolation: Literal["linear", "bspline"] = "linear"
    """How voxels are interpolated where the spacing changes: linear, or 3rd-order B-spline."""

    localizers: bool = False
    """Convert scouts and localizers too; they are passed over otherwise."""

    refuse_tilt: bool = False
    """Refuse series of a tilted gantry instead of straightening them."""

    fill_gaps: bool = False
    """Fill in missing slices from those beside them instead of refusing the series; nobody has scanned what is there."""

    labels: str = ""
    """Which structures of segmentations and structure sets become labels, and what they are called, such as
    "Liver=liver,LIVER_1; Spleen=spleen", or a file of such lines. By default all do, as they are spelled. Names of
    structures are the one free text that is kept of the DICOM files."""

    jobs: int = 0
    """How many series are converted at once; 0 takes all cores."""

    overwrite: bool = False
    """Convert again what an earlier run converted with other options or from other files."""

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """The target spacing along i, j and k; None for the scanner's own.

        Raises:
            UsageError: the spacing makes no sense.
        """
        if self.spacing == (NATIVE,):
            return None
        numbers = [step for step in self.spacing if not isinstance(step, str)]
        if len(numbers) != len(self.spacing) or len(numbers) not in (1, 3):
            raise UsageError(f'A spacing is "{NATIVE}", one number for all axes or three numbers, in mm.')
        if not all(MIN_SPACING_MM <= step <= MAX_SPACING_MM for step in numbers):
            raise UsageError(f"A spacing lies between {MIN_SPACING_MM:g} and {MAX_SPACING_MM:g} mm.")
        x, y, z = numbers * 3 if len(numbers) == 1 else numbers
        return float(x), float(y), float(z)

    @property
    def choice(self) -> LabelChoice:
        """The labels that are wanted; all where none is named.

        Raises:
            UsageError: they make no sense.
        """
        if "=" not in self.labels and ";" not in self.labels and Path(self.labels).is_file():
            return LabelChoice.read(Path(self.labels))
        return LabelChoice.parse(self.labels)


DEFAULTS = ConvertOptions()


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
    outcomes = _rejections(found, naming)
    images = _images_there(nifti_dir)
    all_tasks = [_task(series, naming, images, nifti_dir, options, spacing_mm) for series in found.series]
    tasks = []
    for task in all_tasks:
        finished = None if options.overwrite else _finished(task)
        if finished is None:
            tasks.append(task)
        else:
            outcomes.append(finished)
    outcomes.extend(_run(tasks, options.jobs, progress))
    kinds = found.skipped_kinds
    if found.label_files:
        from volseg.annotations import draw_masks, plan_labels

        plan = plan_labels(found, dataset.labels, choice, naming)
        if plan.by_series:
            # Before any mask is drawn: a number in a mask must never stand for something else later.
            dataset = dataset.with_labels(plan.table)
        done = {outcome.case for outcome in outcomes if outcome.status is Status.DONE}
        converted = {number: _converted(task) for number, task in enumerate(all_tasks) if task.case in done}
        refused = draw_masks(
            plan, converted, nifti_dir, naming, overwrite=options.overwrite, jobs=options.jobs, progress=progress
        )
        outcomes += [*plan.outcomes, *refused]
        kinds = _kinds(found, plan)
    outcomes = sorted((_with_mask(outcome, nifti_dir) for outcome in outcomes), key=lambda outcome: outcome.case)
    ledger = Ledger(tuple(outcomes), Provenance.of("convert", replace(options, labels=str(choice))), kinds)
    _record(ledger, dataset, nifti_dir)
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
    images = _images_there(nifti_dir)
    rows = []
    everything: tuple[Series | Rejected, ...] = (*found.series, *found.rejected)
    for one in everything:
        shown = naming.case(one.identity, one.modality, one.order) if naming else _nameless(one)
        if isinstance(one, Rejected):
            row = PreviewRow(shown, one.modality, one.count, "", f"{one.status} [{one.code}] {one.message}", one.source)
        else:
            task = _task(one, naming, images, nifti_dir, options, spacing_mm) if naming else None
            shown = task.case if task else shown
            finished = _finished(task) if task and not options.overwrite else None
            action = f"{finished.status} [{finished.code}]" if finished else _planned(one, spacing_mm)
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
    return rows, replace(found, skipped_kinds=_kinds(found, plan))


def _kinds(found: Scan, plan: LabelPlan) -> dict[str, int]:
    """What was skipped, with the structures that were in place of the objects that hold them."""
    kinds = {kind: count for kind, count in found.skipped_kinds.items() if kind not in LABEL_KINDS}
    return kinds | dict(plan.passed_over)


def described(grid: Grid) -> str:
    """A grid in words: ``512 x 512 x 300 at 0.7 x 0.7 x 1 mm``."""
    sizes = " x ".join(map(str, grid.shape))
    return f"{sizes} at {' x '.join(f'{step:.4g}' for step in grid.spacing_mm)} mm"


def _scan(dicom_dir: Path, options: ConvertOptions, progress: Progress) -> Scan:
    repairs = Repairs(tilt=not options.refuse_tilt, gaps=options.fill_gaps)
    return scan(dicom_dir, progress, localizers=options.localizers, repairs=repairs)


@dataclass(frozen=True, eq=False)
class _Task:
    """One series on its way to a file; it travels to a worker process."""

    series: Series
    case: str
    image: Path
    patient: str
    study: str
    pseudonym: str
    fingerprint: str
    spacing_mm: tuple[float, float, float] | None
    interpolation: Literal["linear", "bspline"]
    decoders: int | None = None


def _images_there(nifti_dir: Path) -> dict[str, Path]:
    """The images of earlier runs by their name without the order of the series, which changes when a study grows."""
    # A person who has drawn a mask may have moved the image to the others with masks: that place goes first.
    folders = (nifti_dir / TEST_IMAGES, nifti_dir / TRAINING_IMAGES)
    return {_without_order(stem_of(path)): path for folder in folders for path in list_images(folder)}


def _without_order(case: str) -> str:
    modality, _, rest = case.partition("_")
    return f"{modality}_{rest.partition('_')[2]}"


def _task(
    series: Series,
    naming: Naming,
    images: Mapping[str, Path],
    nifti_dir: Path,
    options: ConvertOptions,
    spacing_mm: tuple[float, float, float] | None,
) -> _Task:
    identity = series.identity
    case = naming.case(identity, series.modality, series.order)
    image = images.get(_without_order(case)) or nifti_dir / TEST_IMAGES / f"{case}{NIFTI_SUFFIXES[0]}"
    files = (f"{one.header.uid(tags.SOP_INSTANCE_UID) or one.name}\n{one.header.file_size}" for one in series.slices)
    how = (repr(spacing_mm), options.interpolation if spacing_mm else "", *series.changes)
    return _Task(
        series,
        stem_of(image),
        image,
        naming.patient(identity),
        naming.study(identity),
        naming.series(identity),
        naming.digest(*how, *files),
        spacing_mm,
        options.interpolation,
    )


def _run(tasks: Sequence[_Task], jobs: int, progress: Progress) -> tuple[Outcome, ...]:
    if not tasks:
        return ()
    jobs = min(jobs if jobs > 0 else available_cores(), len(tasks))
    if sum(_pixel_bytes(task.series) for task in tasks) < SMALL_BYTES:
        jobs = 1
    if jobs > 1:
        tasks = [replace(task, decoders=max(1, available_cores() // jobs)) for task in tasks]
    return run_cases(
        _convert_one, tasks, name_of=lambda task: task.case, title="converting", jobs=jobs, progress=progress
    )


def _converted(task: _Task) -> Converted:
    from volseg.annotations import Converted

    return Converted(task.series, task.case, task.image, task.fingerprint)


def _with_mask(outcome: Outcome, nifti_dir: Path) -> Outcome:
    """The outcome of an image, with what is to be said of its mask where volseg drew one."""
    if outcome.status is not Status.DONE:
        return outcome
    from volseg.annotations import with_mask

    return with_mask(outcome, nifti_dir)


def _pixel_bytes(series: Series) -> int:
    columns, rows, count = series.grid.shape
    return 2 * columns * rows * count


def _convert_one(task: _Task) -> Outcome:
    series = task.series
    try:
        target = _target(series, task.spacing_mm)
        volume = load(series, jobs=task.decoders)
        source = volume.grid
        resampled = target.difference(source) is not None
        if resampled:
            from volseg.resample import resample

            volume = resample(volume, target, interpolation=task.interpolation)
        write_image(task.image, volume)
        sidecar = _sidecar(task, source, volume.grid, resampled=resampled)
        sidecar.write(_sidecar_path(task.image))
    except SliceFault as error:
        return Outcome.of_error(task.case, error, private=error.name)
    except InputError as error:
        return Outcome.of_error(task.case, error, private=series.source)
    return replace(_outcome(sidecar, task.image), private=series.source)


def _target(series: Series, spacing_mm: tuple[float, float, float] | None) -> Grid:
    """The grid of the image to write.

    Raises:
        InputError: it would have more voxels than any scanner's.
    """
    if spacing_mm is None:
        return series.grid
    voxels = math.prod(
        length * old / new
        for length, old, new in zip(series.grid.shape, series.grid.spacing_mm, spacing_mm, strict=True)
    )
    if voxels > MAX_TARGET_VOXELS:
        raise InputError(
            f"At this spacing the series would have {voxels:.2g} voxels. Choose a wider one, or native.",
            code="too-large",
        )
    return series.grid.with_spacing(spacing_mm)


def _sidecar(task: _Task, source: Grid, target: Grid, *, resampled: bool) -> Sidecar:
    from volseg.dataset.sidecar import Sidecar

    return Sidecar(
        case=task.case,
        modality=task.series.modality,
        patient=task.patient,
        study=task.study,
        series=task.pseudonym,
        source_grid=source,
        target_grid=target,
        resampled=resampled or task.series.is_straightened,
        changes=task.series.changes,
        acquisition=acquisition_facts(task.series),
        fingerprint=task.fingerprint,
    )


def _sidecar_path(image: Path) -> Path:
    from volseg.dataset.sidecar import sidecar_path

    return sidecar_path(image)


def _outcome(sidecar: Sidecar, image: Path) -> Outcome:
    """What a finished series' outcome says; all of it stands in the sidecar, so that a later run says the same."""
    warnings = [sentence for change, sentence in _CHANGES.items() if change in sidecar.changes]
    if sidecar.acquisition.get("burned_in_annotation") == "YES":
        warnings.append("The header says that text is burned into the pixels, which may name the patient.")
    if sidecar.acquisition.get("body_part") in _HEAD:
        warnings.append("This is a head: a face can be rebuilt from it.")
    outputs = tuple(f"{path.parent.name}/{path.name}" for path in (image, _sidecar_path(image)))
    message = _resampling(sidecar.source_grid, sidecar.target_grid, sidecar.changes)
    return Outcome(sidecar.case, Status.DONE, "done", message, outputs, tuple(warnings))


def _resampling(source: Grid, target: Grid, changes: Sequence[str]) -> str:
    straightened = bool(STRAIGHTENINGS & set(changes))
    if target.difference(source) is None:
        return f"{described(source)}, {_STRAIGHTENED if straightened else _AS_SCANNED}."
    return f"Resampled from {described(source)}{f', {_STRAIGHTENED},' * straightened} to {described(target)}."


def _planned(series: Series, spacing_mm: tuple[float, float, float] | None) -> str:
    try:
        return _resampling(series.grid, _target(series, spacing_mm), series.changes)
    except InputError as error:
        return f"{Status.REFUSED} [{error.code}] {error.message}"


def _finished(task: _Task) -> Outcome | None:
    """The outcome of a series that an earlier run finished; None where there is work to do."""
    sidecar_file = task.image.with_name(f"{task.case}.json")
    if not task.image.is_file() or not sidecar_file.is_file():
        return None
    from volseg.dataset.sidecar import read_sidecar

    try:
        sidecar = read_sidecar(sidecar_file)
    except VolsegError as error:
        return Outcome.of_error(task.case, error, private=task.series.source)
    if sidecar.fingerprint == task.fingerprint:
        return replace(_outcome(sidecar, task.image), code="already-done", private=task.series.source)
    message = (
        "An image of this series is there, made with other options or from other files. Give --overwrite to replace "
        "it, or another output folder."
    )
    return Outcome(task.case, Status.REFUSED, "exists", message, private=task.series.source)


def _rejections(found: Scan, naming: Naming) -> list[Outcome]:
    outcomes = []
    for one in found.rejected:
        case = naming.case(one.identity, one.modality, one.order)
        outcomes.append(Outcome(case, one.status, one.code, one.message, private=one.source))
    for bad in found.bad_files:
        outcomes.append(Outcome.of_error(naming.file(bad.name), bad.error, private=bad.name))
    return outcomes


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


def _record(ledger: Ledger, dataset: DatasetFile, nifti_dir: Path) -> None:
    """Write ``dataset.json`` and the ledger; done work of earlier runs stays in both."""
    current = {outcome.case for outcome in ledger.outcomes}
    # What was done before reads as done, so that a second run changes no byte.
    kept = [replace(outcome, code="done") if outcome.code == "already-done" else outcome for outcome in ledger.outcomes]
    modalities = set()
    unlabelled, labelled = [], []
    from volseg.annotations import mask_record

    for folder in (TEST_IMAGES, TRAINING_IMAGES):
        for sidecar_file in sorted((nifti_dir / folder).glob("*.json")):
            image = sidecar_file.with_name(f"{sidecar_file.stem}{NIFTI_SUFFIXES[0]}")
            sidecar = _sidecar_of(image, sidecar_file)
            if sidecar is None:
                continue
            modalities.add(sidecar.modality)
            if folder == TEST_IMAGES:
                unlabelled.append(image.name)
            elif mask_record(nifti_dir, sidecar.case) is not None:
                labelled.append(image.name)
            if sidecar.case not in current:
                kept.append(_with_mask(_outcome(sidecar, image), nifti_dir))
    replace(ledger, outcomes=tuple(sorted(kept, key=lambda outcome: outcome.case))).write(nifti_dir / LEDGER_FILE)
    if unlabelled or labelled:
        dataset.with_images(unlabelled, labelled, modalities)


def _sidecar_of(image: Path, sidecar_file: Path) -> Sidecar | None:
    """The sidecar of an image that is there; None for other JSON files and for those of another's making."""
    from volseg.dataset.sidecar import read_sidecar

    if not image.is_file():
        return None
    try:
        sidecar = read_sidecar(sidecar_file)
    except InputError:
        return None
    return sidecar if sidecar.case == sidecar_file.stem else None
