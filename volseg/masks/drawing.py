"""Drawing masks from label objects on the grids of converted images."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import atomic_path, write_bytes
from volseg.batch import choose_executor, run_cases
from volseg.dataset.dataset import count_labels
from volseg.dataset.pairing import TRAINING_IMAGES, TRAINING_LABELS
from volseg.dataset.sidecar import MAX_SIDECAR_BYTES, sidecar_path
from volseg.errors import FileError, InputError, VolsegError
from volseg.files import read_bounded
from volseg.kept import State, file_digest, state_of
from volseg.labels import LABELS_NAME, LabelTable
from volseg.masks.composition import Composition, Converted, Drawn
from volseg.masks.record import (
    DrawnLabel,
    MaskRecord,
    NamedNote,
    image_digest,
    mask_path,
    record_path,
    record_there,
)
from volseg.masks.regions import describe_regions, region_files, region_of
from volseg.outcomes import ALREADY_DONE, FileDigest, Made, Outcome, Status
from volseg.progress import SILENT, Progress
from volseg.volume import write_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from volseg.masks.assignment import Assignment, LabelPlan
    from volseg.pseudonyms import Naming

NO_FILE = FileDigest(0, "")
RULES = "2"
"""Of drawing; a change of them makes other masks, so that a later version doesn't take these for its own."""
_REFUSALS = {
    State.UNKNOWN: ("exists", "A mask of its image is there that somebody drew. Remove it to have it drawn anew."),
    State.EDITED_STALE: (
        "mask-changed", "Somebody has changed a mask of its image by hand. Remove it to have it drawn anew.",
    ),
    State.OTHER_METHOD: (
        "exists", "A mask of its image is there, drawn with other options. Give --overwrite to replace it.",
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Work:
    folder: Path
    converted: Converted
    objects: tuple[Drawn, ...]
    table: LabelTable
    made: Made
    overwrite: bool
    regions: Mapping[int, str]
    """Where masks of structures by themselves go, relative to the folder, by the numbers of the labels."""

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        return tuple(one.assignment for one in self.objects)


@dataclass(frozen=True)
class _Masked(Outcome):
    """The outcome of one mask, and those of the label objects where there is none."""

    objects: tuple[Outcome, ...] = field(default_factory=tuple)


def draw_masks(
    plan: LabelPlan,
    converted: Sequence[Converted],
    folder: Path,
    naming: Naming,
    *,
    overwrite: bool = False,
    regions: bool = False,
    jobs: int = 0,
    progress: Progress = SILENT,
) -> tuple[Outcome, ...]:
    """Draw the mask of every converted case that has label objects: ``labelsTr/<case>.nii.gz``, and a record beside.

    Its images go to ``imagesTr`` with their sidecars, once the mask is there. All label objects of a case are drawn
    into one mask, each on the slices of the series that it was drawn on: where structures overlap the smaller one wins. Where one object is refused, so is the mask, since
    structures would be missing from it. A mask that a person drew or changed is never replaced.

    Args:
        plan: what to draw.
        converted: the cases.
        folder: the data set.
        naming: of the data set.
        overwrite: replace masks of earlier runs that were drawn otherwise.
        regions: draw a mask of each structure by itself, too, as ``region_files`` names them.
        jobs: how many masks are drawn at once; 0 takes all cores.
        progress: told of each mask.

    Returns:
        The outcomes of the label objects that led to no mask; the others' are told by ``with_mask``.

    Raises:
        DiskFullError: no space is left on the disk.
    """
    work_items, outcomes = [], []
    for one in converted:
        objects = _objects_of(one, plan)
        if objects:
            made = _made(naming, one, objects)
            apart = region_files(plan.table, objects, one.case) if regions else {}
            work_items.append(_Work(folder, one, objects, plan.table, made, overwrite, apart))
    there = {number for one in converted for number in one.series}
    for number, assignments in sorted(plan.by_series.items()):
        if number not in there:
            message = "The series that it was drawn on was refused."
            outcomes.extend(_told(assignments, Status.SKIPPED, "labels-of-refused-series", message))
    masked: tuple[Outcome, ...] = ()
    if work_items:
        plan.table.describe(folder / TRAINING_LABELS / LABELS_NAME)
        describe_regions(folder, plan.table, {index for work in work_items for index in work.regions})
        sizes = (sum(one.voxel_bytes for one in work.converted.series.values()) for work in work_items)
        executor = choose_executor(jobs, sizes)
        masked = run_cases(
            _draw_one, work_items, name_of=_case_of, title="Drawing masks", executor=executor, progress=progress
        )
    for work, outcome in zip(work_items, masked, strict=True):
        if isinstance(outcome, _Masked):
            outcomes.extend(outcome.objects)
        elif outcome.status is not Status.DONE:  # the worker was killed, or something unforeseen ended the case
            outcomes.extend(_told(work.assignments, outcome.status, outcome.code, outcome.message))
    return tuple(outcomes)


def _case_of(work: _Work) -> str:
    return work.converted.case


def _objects_of(converted: Converted, plan: LabelPlan) -> tuple[Drawn, ...]:
    """The label objects of a case, each once, in the order of their names."""
    found: dict[str, Drawn] = {}
    for number in converted.series:
        for one in plan.by_series.get(number, ()):
            known = found.get(one.name)
            found[one.name] = Drawn(one, (*known.on, number)) if known else Drawn(one, (number,))
    return tuple(found[name] for name in sorted(found))


def _made(naming: Naming, converted: Converted, objects: Sequence[Drawn]) -> Made:
    """From what a mask is to be drawn: the files of the labels and the images, by these choices."""
    channels = (
        {number: f" {channel}" for channel, number in enumerate(converted.series)} if len(converted.made) > 1 else {}
    )
    files, choices = [], []
    for one in objects:
        assignment = one.assignment
        files += [f"{assignment.name} {file_digest(path)}" for path in assignment.label_object.files]
        on = "".join(channels.get(number, "") for number in one.on)
        some = [sorted(assignment.parts[number]) for number in one.on if assignment.parts]
        parts = f" {some}" if some else ""
        choices.append(f"{assignment.name} {sorted(assignment.chosen.items())} {assignment.matched_by}{on}{parts}")
    return Made(
        naming.digest("mask", *(made.input for made in converted.made), *files),
        naming.digest("mask", RULES, *(made.method for made in converted.made), *choices),
        {mask_path(Path(), converted.case).name: NO_FILE},
    )


def _told(assignments: Iterable[Assignment], status: Status, code: str, message: str) -> list[Outcome]:
    return [Outcome(one.name, status, code, message, private=one.label_object.name) for one in assignments]


def _draw_one(work: _Work) -> Outcome:
    case = work.converted.case
    there = _there(work)
    if there is not None:
        return there
    faults: dict[str, VolsegError] = {}
    composition = Composition(work.converted, work.assignments, work.table)
    for drawn in work.objects:
        try:
            composition.add(drawn)
        except (InputError, FileError) as error:
            faults[drawn.assignment.name] = error
    if not faults:
        try:
            return _write(work, composition)
        except InputError as error:
            faults = dict.fromkeys((one.name for one in work.assignments), error)
    objects = []
    for one in work.assignments:
        if one.name in faults:
            objects.append(Outcome.of_error(one.name, faults[one.name], private=one.label_object.name))
        else:
            message = "Not drawn, since another label object of its case was refused and structures would be missing."
            objects += _told([one], Status.SKIPPED, "labels-incomplete", message)
    return _Masked(case, Status.REFUSED, "labels-refused", objects=tuple(objects))


def _there(work: _Work) -> Outcome | None:
    """The outcome where a mask is there already that stays; what an earlier run drew otherwise is removed."""
    folder, case = work.folder, work.converted.case
    record = record_there(folder, case)
    mask = mask_path(Path(), case).as_posix()
    earlier = {} if record is None else {mask: record.made.files.get(Path(mask).name, NO_FILE), **record.regions}
    there = [name for name in earlier if (folder / name).exists()]
    wanted = replace(work.made, files=dict.fromkeys((mask, *work.regions.values(), *there), NO_FILE))
    state = state_of(replace(record.made, files=earlier) if record else None, wanted, folder)
    if state is State.ABSENT:
        return None
    if state in (State.CURRENT, State.EDITED):
        _to_training(work.converted, folder)
        return _Masked(case, Status.DONE, ALREADY_DONE)
    if state is State.STALE or (state is State.OTHER_METHOD and work.overwrite):
        for name in there:
            (folder / name).unlink()
        return None
    code, message = _REFUSALS[state]
    return _Masked(case, Status.REFUSED, code, objects=tuple(_told(work.assignments, Status.REFUSED, code, message)))


def _write(work: _Work, composition: Composition) -> Outcome:
    folder, case = work.folder, work.converted.case
    mask = composition.labels()
    counts = {index: count for index, count in count_labels(mask).items() if index}
    if not counts:
        raise InputError(
            "No voxel of the image lies inside a structure, so the mask would be empty.", code="empty-mask"
        )
    gone = sorted(set(composition.sizes_mm3) - counts.keys())
    notes = composition.notes + Counter({("structures-gone", index): 1 for index in gone})
    path = mask_path(folder, case)
    with ExitStack() as whole:
        partial = whole.enter_context(atomic_path(path))
        write_mask(partial, mask, work.converted.images[0])
        regions = {}
        for index, name in work.regions.items():
            region = whole.enter_context(atomic_path(folder / name))
            write_mask(region, region_of(index, work.converted, work.objects, work.table), work.converted.images[0])
            regions[name] = file_digest(region)
        record = MaskRecord(
            case,
            replace(work.made, files={path.name: file_digest(partial)}),
            tuple(DrawnLabel(index, work.table.name_of(index), count) for index, count in sorted(counts.items())),
            sum((Counter({one.label_object.kind: one.label_object.count}) for one in work.assignments), Counter()),
            composition.overlaps,
            tuple(sorted(composition.changes)),
            _named_notes(notes, work.table),
            image_digest(work.converted.made[0]),
            regions=regions,
        )
        # The record first: a mask without one counts as drawn by hand.
        record.write(record_path(folder, case))
    _to_training(work.converted, folder)
    return _Masked(case, Status.DONE, "done")


def _named_notes(notes: Counter[tuple[str, int]], table: LabelTable) -> tuple[NamedNote, ...]:
    found = []
    for code in sorted({code for code, _ in notes}):
        counts = {index: count for (name, index), count in notes.items() if name == code}
        found.append(NamedNote(code, sum(counts.values()), tuple(map(table.name_of, sorted(counts)))))
    return tuple(found)


def _to_training(converted: Converted, folder: Path) -> None:
    for image in converted.images:
        _move(image, folder / TRAINING_IMAGES / image.name)


def _move(image: Path, target: Path) -> None:
    """Move an image and its sidecar to those that have masks.

    The sidecar arrives first and leaves last, so that an image never lies without one, whenever a run is killed.
    """
    if image == target:
        return
    source, beside = sidecar_path(image), sidecar_path(target)
    try:
        if source.is_file():
            write_bytes(beside, read_bounded(source, MAX_SIDECAR_BYTES, "sidecar"))
        image.replace(target)
        source.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(
            f"{image} can't be moved to {TRAINING_IMAGES}: {error.strerror}.", code="cannot-write", path=image
        ) from error
