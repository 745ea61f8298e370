"""The one split of a bundle's data set, ``runs/folds.json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import exclusive
from volseg.bundle.own_runs import remember_made, require_own_runs
from volseg.dataset.folds import FOLDS, Split
from volseg.errors import DataSetError
from volseg.training.checkpoint import RunFolder
from volseg.training.record import RunRecord
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from volseg.bundle.folder import Bundle
    from volseg.dataset.dataset import Dataset
    from volseg.dataset.faults import CaseContent
    from volseg.progress import Progress
    from volseg.verbs.train.options import TrainOptions

RUN_PREFIX = "fold_"


def split_path(bundle: Bundle) -> Path:
    """``runs/folds.json``."""
    return bundle.runs / "folds.json"


def known_split(bundle: Bundle, options: TrainOptions) -> Split | None:
    """The split that is imported, or the bundle's own; None where the data set is to be split anew.

    Raises:
        FileError: a file can't be read.
        InputError: a file holds no split.
        DataSetError: folds were trained with another one.
        BundleError: the bundle's own was not made here.
    """
    path = split_path(bundle) if options.folds is None else Path(options.folds)
    if options.folds is None:
        if options.splits_anew or not path.exists():
            return None
        require_own_runs(bundle, [path], adopt=options.adopt_runs)
    split = Split.read(path)
    _require_agreement(bundle, split, options)
    return split


def settle_split(
    bundle: Bundle,
    known: Split | None,
    dataset: Dataset,
    contents: Mapping[str, CaseContent],
    options: TrainOptions,
    progress: Progress,
) -> Split:
    """The split to train by; what the data set gained or lost since it was made is said.

    Raises:
        DataSetError: an imported split doesn't fit the data set, or folds were trained with another one.
    """
    if known is None:
        split = Split.of(dataset.training, {name: content.labels for name, content in contents.items()})
        _require_agreement(bundle, split, options)
        if options.cv and 1 < len(split.folds) < FOLDS:
            progress.say(
                f"{len(split.folds)} folds instead of {FOLDS}: the data set has cases with masks of so many patients "
                "(one whose patient is not known counts as another)."
            )
        return split
    if options.folds is not None:
        known.require_fitting(dataset.training)
    names = {case.name for case in dataset.training}
    for these, what in (
        (names - known.cases, "to the data set after it was split: no fold trains on {} or holds {} out"),
        (known.cases - names, "out of the data set after it was split: the folds go on without {}"),
    ):
        if these:
            came = what.replace("{}", "it" if len(these) == 1 else "them")
            progress.say(f"{counted(len(these), 'case')} came {came} ({min(these)} for one). --fresh --cv splits anew.")
    parted = known.parted(dataset.training)
    if parted:
        progress.say(
            f"The folds part cases of one patient ({', '.join(sorted(parted)[:3])}), so that validation scores are too "
            "good. --fresh --cv splits anew."
        )
    return known


def tell_older_data(
    bundle: Bundle, contents: Mapping[str, CaseContent], pending: Collection[str], progress: Progress
) -> None:
    """Say which folds that are done were trained on other voxels than the cases have now: scores of both don't add up.

    Raises:
        DataSetError: a fold's record can't be read.
    """
    digests = {name: content.digest for name, content in contents.items()}
    for folder in sorted(bundle.runs.glob(f"{RUN_PREFIX}*")):
        record = RunFolder(folder).record
        if folder.name in pending or not record.is_file():
            continue
        changed = RunRecord.read(record).changed(digests)
        if changed:
            progress.say(
                f"{counted(len(changed), 'case')} changed after {folder.name} was trained ({changed[0]} for one), so its "
                "scores are of other data. --fresh --cv trains all folds on the same."
            )


def write_split(bundle: Bundle, split: Split, options: TrainOptions, progress: Progress) -> None:
    """Write the split where it is new; where all folds start over, remove what was trained by another one.

    Raises:
        FileError: a file can't be written.
    """
    path = split_path(bundle)
    if options.splits_anew:
        for folder in bundle.runs.glob(f"{RUN_PREFIX}*"):
            with exclusive(folder):
                RunFolder(folder).remove()
    if options.splits_anew or not path.exists() or Split.read(path) != split:
        split.write(path)
    remember_made(path, progress)


def _require_agreement(bundle: Bundle, split: Split, options: TrainOptions) -> None:
    """Refuse a split that a fold which goes on, or is done, was not trained by.

    Raises:
        DataSetError: there is such a fold.
    """
    if options.splits_anew:
        return
    for folder in sorted(bundle.runs.glob(f"{RUN_PREFIX}*")):
        number = folder.name.removeprefix(RUN_PREFIX)
        run = RunFolder(folder)
        if not number.isdecimal() or not run.is_begun or (options.fresh and int(number) == options.one_fold):
            continue
        held_out = set(split.folds[int(number)]) if int(number) < len(split.folds) else set()
        cases = RunRecord.read(run.record).cases
        if not held_out.issuperset(cases.validation) or held_out.intersection(cases.training):
            raise DataSetError(
                f"{folder.name} of {bundle.root} was trained by another split than this, so that some cases would be "
                "held out twice and others never. Train all folds by one split with --fresh --cv.",
                code="folds-differ",
            )
