"""Postprocess: clean the masks of a folder by the rules that a bundle may name."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal  # noqa: F401  with Many: the fields of RuleOptions are read in this module

import numpy as np

from volseg.atomic import exclusive
from volseg.batch import choose_executor, run_cases, voxel_bytes
from volseg.dataset.beside import labels_beside
from volseg.errors import GeometryError, InputError, OutputExistsError, UsageError, VolsegError
from volseg.files import read_bounded
from volseg.kept import ANEW, EDITED, State, file_digest, merged, require_replaceable, state_of
from volseg.labels import LABELS_NAME, MAX_LABELS_BYTES, LabelTable
from volseg.options import Many  # noqa: F401
from volseg.outcomes import ALREADY_DONE, FileDigest, Ledger, Made, Outcome, Provenance, Status
from volseg.postprocessing import Changes, PostprocessingRules, RuleOptions
from volseg.postprocessing.threshold import NO_PROBABILITIES
from volseg.progress import SILENT, Progress
from volseg.volume import (
    AXES_TURNED,
    Volume,
    axes_to_reverse,
    files_of,
    for_nifti,
    is_nifti,
    list_images,
    nifti_name,
    read_mask,
    stem_of,
    write_mask,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LEDGER_NAME = "postprocessing.json"
TURNED = (
    f"{AXES_TURNED}: NIfTI holds the oblique grid of this mask with two voxel axes reversed alone. Viewers that go by "
    "voxels want its image turned alike: write that as NIfTI with volseg too."
)


@dataclass(frozen=True, kw_only=True)
class PostprocessOptions(RuleOptions):
    """What to do with the masks, in the order of the options."""

    overwrite: bool = False
    """Replace masks that are there already and differ."""

    jobs: int = 0
    """How many masks are worked on at once; 0 takes all cores."""


DEFAULTS = PostprocessOptions()


NOTHING_CHANGED = Changes(())


@dataclass(frozen=True)
class CleanedMask(Outcome):
    """The outcome of a mask that was cleaned, with what was changed."""

    changes: Changes = NOTHING_CHANGED


@dataclass(frozen=True)
class _Work:
    path: Path
    out_dir: Path
    rules: PostprocessingRules
    overwrite: bool
    before: Made | None
    table: LabelTable
    """Names the labels; voxels that nobody judged by its ``ignore`` stay, and are background to the rules."""


def postprocess(
    masks: Path, out_dir: Path, options: PostprocessOptions = DEFAULTS, progress: Progress = SILENT
) -> Ledger:
    """Clean one mask, or all masks of a folder.

    Each result has the name of its mask, as ``.nii.gz``, and its header geometry byte for byte. ``labels.txt`` comes
    along. A result that is there already and is what would be written stays untouched; where its mask has changed it is
    made anew, unless somebody has edited it.

    Args:
        masks: a mask, or a folder of masks.
        out_dir: another folder, for the results and the ledger ``postprocessing.json``.
        options: what to do.
        progress: receives the progress.

    Returns:
        The ledger; what was changed stands in the outcomes of kind ``CleanedMask``.

    Raises:
        UsageError: the options ask for nothing, there is no mask, or ``out_dir`` is the masks' own folder.
        OutputExistsError: ``out_dir`` has another ``labels.txt``.
        FileError: ``out_dir`` can't be written.
    """
    if not options.asks_rules:
        raise UsageError(
            "Nothing was asked for, so the masks would stay as they are. "
            "Say what to do with --keep-largest, --fill-holes or another rule of volseg postprocess --help.",
            code="nothing-asked",
        )
    if options.threshold:
        raise UsageError(NO_PROBABILITIES, code="no-probabilities")
    folder, paths = _find(masks)
    table = table_beside(folder, options)
    rules = options.rules(table)
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir} is a file, and the results need a folder. Name another.", code="not-a-folder")
    if out_dir.resolve() == folder.resolve():
        raise UsageError(
            f"{out_dir} is the folder of the masks themselves, which stay as they are. Name another folder.",
            code="same-folder",
        )
    with exclusive(out_dir):
        _copy_labels(folder, out_dir, rules, overwrite=options.overwrite)
        found = Ledger.read(out_dir / LEDGER_NAME, CleanedMask)
        before = {outcome.case: outcome.made for outcome in found.outcomes} if found else {}
        counts = Counter(stem_of(path) for path in paths)
        outcomes = run_cases(
            functools.partial(_clean, twice=frozenset(name for name, count in counts.items() if count > 1)),
            [
                _Work(path, out_dir, rules, options.overwrite, before.get(stem_of(path)), table or LabelTable(()))
                for path in paths
            ],
            name_of=lambda work: stem_of(work.path),
            title="Cleaning masks",
            executor=choose_executor(options.jobs, (voxel_bytes([path]) for path in paths)),
            progress=progress,
        )
        _tell_unmet(rules, outcomes, table or LabelTable(()), progress)
        ledger = Ledger(outcomes, Provenance.of("postprocess", options))
        whole = merged(ledger, found, out_dir)
        whole.write(out_dir / LEDGER_NAME)
        _name_instances(rules, table or LabelTable(()), whole.outcomes, out_dir)
        return replace(ledger, done_before=whole.done_before)


def table_beside(folder: Path, options: PostprocessOptions) -> LabelTable | None:
    """What the labels are called, as a file beside the masks tells; a damaged one matters where labels are named."""
    try:
        return labels_beside(folder)
    except VolsegError as damaged:
        try:
            options.rules()
        except UsageError as error:
            if error.code == "no-label":
                raise damaged from None
        return None


def _clean(work: _Work, twice: frozenset[str]) -> Outcome:
    name = stem_of(work.path)
    if name in twice:
        raise InputError(
            f"Several masks are called {name}, and their results would be one file. Rename all but one.",
            code="name-twice",
        )
    volume = read_mask(work.path)
    ignore = work.table.ignore
    if ignore is None:
        mask, changes = work.rules.apply(volume.array, volume.grid)
    else:
        ignored = volume.array == ignore
        mask, changes = work.rules.apply(np.where(ignored, volume.array.dtype.type(0), volume.array), volume.grid)
        mask = np.where(ignored, volume.array, mask)
    warnings = tuple(f"label {work.table.told(label)} was removed whole." for label in changes.vanished)
    warnings += changes.left
    if not is_nifti(work.path) and axes_to_reverse(volume.grid):
        warnings += (TURNED,)
    output = work.out_dir / nifti_name(name)
    source = " ".join(str(file_digest(path)) for path in files_of(work.path))
    method = repr(work.rules) if ignore is None else repr((work.rules, ignore))
    made = Made(source, method, {output.name: FileDigest(0, "")})
    state = State.ABSENT if work.overwrite else state_of(work.before, made, work.out_dir)
    code = ALREADY_DONE
    if state is State.EDITED:
        warnings, made = (*warnings, EDITED), work.before or made
    else:
        # Whoever wrote what would be written, it is this result.
        if state is State.ABSENT or not _holds(output, Volume(mask, volume.grid)):
            require_replaceable(state)
            write_mask(output, mask, work.path)
            code = "done"
            warnings += (ANEW,) if state is State.STALE else ()
        made = replace(made, files={output.name: file_digest(output)})
    return CleanedMask(name, Status.DONE, code, str(changes), (output.name,), warnings, made=made, changes=changes)


def _holds(path: Path, mask: Volume) -> bool:
    """Whether a file is that mask, in its voxel order or as it is written on the grid of another format."""
    import numpy as np

    try:
        there = read_mask(path)
    except (InputError, GeometryError):
        return False
    return any(
        there.grid.difference(one.grid) is None and np.array_equal(there.array, one.array)
        for one in (mask, for_nifti(mask))
    )


def _find(masks: Path) -> tuple[Path, list[Path]]:
    """The folder of the masks, and the masks."""
    if not masks.exists():
        raise UsageError(f"{masks} does not exist.", code="missing-file")
    if not masks.is_dir():
        return masks.parent, [masks]
    paths = list_images(masks)
    if not paths:
        raise UsageError(
            f"{masks} holds no mask (.nii.gz, .nii, .nrrd, .mha, .mhd). Name the folder in which they lie.",
            code="no-masks",
        )
    return masks, paths


def _copy_labels(folder: Path, out_dir: Path, rules: PostprocessingRules, *, overwrite: bool) -> None:
    from volseg.atomic import write_bytes

    source, target = folder / LABELS_NAME, out_dir / LABELS_NAME
    if not source.exists():
        return
    content = read_bounded(source, MAX_LABELS_BYTES, "label description")
    if target.exists():
        if target.is_file() and read_bounded(target, MAX_LABELS_BYTES, "label description") == content:
            return
        if target.is_file() and _with_instances(source, target, rules):
            return
        if not overwrite:
            raise OutputExistsError(
                f"{target} is there already and names other labels. Name another folder, or add --overwrite.",
                path=target,
            )
    write_bytes(target, content)


def _with_instances(source: Path, target: Path, rules: PostprocessingRules) -> bool:
    """Whether the one names the labels of the other, and beside them instances as the rules would name them."""
    try:
        ours, theirs = LabelTable.read(source), LabelTable.read(target)
    except InputError:
        return False
    named = rules.named(ours, theirs.indices)
    return (named.indices, named.names) == (theirs.indices, theirs.names) and len(named) > len(ours)


def _name_instances(rules: PostprocessingRules, table: LabelTable, outcomes: Sequence[Outcome], out_dir: Path) -> None:
    """Name the instances of all masks in the folder in ``labels.txt``, beside the labels that it names already."""
    values = {change.label for one in outcomes if isinstance(one, CleanedMask) for change in one.changes.labels}
    named = rules.named(table, values)
    if named != table:
        named.describe(out_dir / LABELS_NAME)


def _tell_unmet(rules: PostprocessingRules, outcomes: Sequence[Outcome], table: LabelTable, progress: Progress) -> None:
    """Say which of the labels that were named are in no mask: most likely a typing error."""
    cleaned = [outcome for outcome in outcomes if isinstance(outcome, CleanedMask)]
    met = {change.label for outcome in cleaned for change in outcome.changes.labels}
    for label in sorted(rules.labels - met) if cleaned else ():
        progress.say(f"No mask has the label {table.told(label)}.")
