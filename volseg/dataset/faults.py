"""Everything that is wrong with a data set, found before anything is trained on it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.batch import choose_executor, run_cases, voxel_bytes
from volseg.dataset.advice import advise
from volseg.dataset.case import Case, Fault, summed_up
from volseg.dataset.dataset import Dataset, read_dataset
from volseg.dataset.examination import SAMPLED_VOXELS, CaseToExamine, Examined, examine
from volseg.dataset.findings import forget_old_findings
from volseg.errors import DataSetError
from volseg.progress import SILENT, Progress
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from volseg.dataset.findings import Findings
    from volseg.dataset.measures import CaseMeasures
    from volseg.outcomes import Outcome

__all__ = ["CaseContent", "Fault", "find_faults", "require_measured", "require_sound"]

MASKS_OFF_WHOLE = "mask-off-whole"
ALL_SAMPLED_VOXELS = 20_000_000
"""Intensities kept of a channel over all cases: 80 MB."""
HELD_COPIES = 3.5
"""What examining a case takes at most, in terms of its files' voxels: scaled integers become float64, and components
take four bytes a voxel. CT of 16 bits took 1.2."""


@dataclass(frozen=True)
class CaseContent:
    """What is in a sound case.

    Args:
        labels: those that occur in its mask.
        digest: of the voxels of image and mask; another one means another content under the same name.
    """

    labels: frozenset[int]
    digest: str


def find_faults(source: Path | Dataset, *, jobs: int = 0, progress: Progress = SILENT) -> tuple[Fault, ...]:
    """Find all faults of a data set: of its files' pairing, its headers and its voxels.

    Holds one case at a time in memory for each of ``jobs``.

    Args:
        source: a data set or its folder.
        jobs: how many cases are examined at once, each in a process of its own above 1; 0 means as many as pay.
        progress: receives the progress by case.

    Returns:
        The faults, those of the data set as a whole first, the others by case.

    Raises:
        UsageError: there is no data set.
    """
    if isinstance(source, Path):
        folder = source
        try:
            source = read_dataset(folder)
        except DataSetError as error:
            return (Fault.of_error(error, folder),)
    return _judge(source, _examine_all(source, source.cases, jobs=jobs, progress=progress, anew=True))


def _judge(dataset: Dataset, outcomes: Mapping[Case, Outcome]) -> tuple[Fault, ...]:
    examined = {case: one.found for case, one in outcomes.items() if isinstance(one, Examined)}
    found = [
        *dataset.faults,
        *(fault for one in examined.values() for fault in one.faults),
        # The worker was killed, or something unforeseen ended the case.
        *(Fault(one.code, case.name, one.message) for case, one in outcomes.items() if case not in examined),
        *_duplicates(examined),
        *_unused_labels(dataset, examined),
        *_masks_off_whole(examined),
        *_advice(dataset, examined),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda fault: (fault.case, not fault.is_error, fault.code)))


def require_sound(
    dataset: Dataset,
    *,
    whole_masks: bool = False,
    jobs: int = 0,
    progress: Progress = SILENT,
    anew: bool = False,
) -> dict[str, CaseContent]:
    """Refuse a data set that can't be trained on, by the rules of ``find_faults``.

    The voxels of cases without a mask are not read: nothing is learnt from them.

    Args:
        dataset: the data set.
        whole_masks: whether masks a hair off whole numbers are an error: the training would not round them.
        jobs: as in ``find_faults``.
        progress: receives the progress by case.
        anew: whether all files are read; a file that the file system says is that of before is not, else.

    Returns:
        What is in each case with a mask, by its name.

    Raises:
        DataSetError: the data set has errors, all of which the message lists, or no case with a mask.
    """
    found = _require_sound(dataset, whole_masks=whole_masks, jobs=jobs, progress=progress, anew=anew)
    return {name: CaseContent(frozenset(one.seen), f"{one.digest}{one.mask_digest}") for name, one in found.items()}


def require_measured(dataset: Dataset, *, jobs: int = 0, progress: Progress = SILENT) -> tuple[CaseMeasures, ...]:
    """Refuse what ``require_sound`` refuses; the measures of each training case, of the same reading.

    Args:
        dataset: the data set.
        jobs: as in ``find_faults``.
        progress: receives the progress by case.

    Raises:
        DataSetError: as ``require_sound`` does.
    """
    found = _require_sound(dataset, whole_masks=False, jobs=jobs, progress=progress)
    measures = (found[case.name].measures for case in dataset.training)
    return tuple(one for one in measures if one is not None)


def _require_sound(
    dataset: Dataset, *, whole_masks: bool, jobs: int, progress: Progress, anew: bool = False
) -> dict[str, Findings]:
    labelled = replace(dataset, test=())
    examined = _examine_all(labelled, labelled.cases, jobs=jobs, progress=progress, anew=anew)
    faults = [
        fault
        for fault in _judge(labelled, examined)
        if fault.is_error or (whole_masks and fault.code == MASKS_OFF_WHOLE)
    ]
    if faults:
        lines = [f"  {fault}" for fault in summed_up(faults)]
        count = counted(len(faults), "fault")
        raise DataSetError(f"{dataset.folder} has {count}; mend what each line says:", path=dataset.folder, lines=lines)
    if not dataset.training:
        raise DataSetError(
            f"{dataset.folder} has no case with a mask. Save masks as labelsTr/CASE.nii.gz, named as their images.",
            code="no-labels",
            path=dataset.folder,
        )
    return {case.name: outcome.found for case, outcome in examined.items() if isinstance(outcome, Examined)}


def _examine_all(
    dataset: Dataset, cases: Sequence[Case], *, jobs: int, progress: Progress, anew: bool
) -> dict[Case, Outcome]:
    # A power of two below, so that a case more changes it seldom and the others' findings are kept.
    share = ALL_SAMPLED_VOXELS // max(1, len(dataset.training))
    sampled = SAMPLED_VOXELS if share >= SAMPLED_VOXELS else 2 ** max(0, share.bit_length() - 1)
    work = [CaseToExamine(case, dataset.folder, dataset.labels, len(dataset.channels), sampled, anew) for case in cases]
    outcomes = run_cases(
        examine,
        work,
        name_of=lambda one: one.case.name,
        title="Checking",
        executor=choose_executor(jobs, (voxel_bytes(one.files) for one in work), held_copies=HELD_COPIES),
        progress=progress,
    )
    forget_old_findings()
    return dict(zip(cases, outcomes, strict=True))


def _duplicates(examined: Mapping[Case, Findings]) -> list[Fault]:
    by_digest: dict[str, list[str]] = defaultdict(list)
    for case, found in examined.items():
        if found.digest is not None:
            by_digest[found.digest].append(case.name)
    return [
        Fault("duplicate", name, f"its image has the same voxels as that of {names[0]}. Keep one of them.")
        for names in by_digest.values()
        for name in names[1:]
    ]


def _masks_off_whole(examined: Mapping[Case, Findings]) -> list[Fault]:
    off = {case.name: one.off_whole for case, one in examined.items() if one.off_whole is not None}
    if not off:
        return []
    name, value = next(iter(off.items()))
    masks = "1 mask holds" if len(off) == 1 else f"{len(off)} masks hold"
    message = (
        f"{masks} numbers a hair off whole ones, such as {value:.9g} in {name}. What volseg plan writes rounds them; "
        "what cuts them off takes one label for another. Save the masks as whole numbers to be safe everywhere."
    )
    return [Fault(MASKS_OFF_WHOLE, "", message, is_error=False)]


def _advice(dataset: Dataset, examined: Mapping[Case, Findings]) -> Iterator[Fault]:
    told = {case.name: one for case, one in examined.items() if one.seen}
    return advise(
        dataset, {name: one.seen for name, one in told.items()}, {name for name, one in told.items() if one.ct_like}
    )


def _unused_labels(dataset: Dataset, examined: Mapping[Case, Findings]) -> list[Fault]:
    if not dataset.training:
        return []
    seen = {index for found in examined.values() for index in found.seen}
    return [
        Fault("label-unused", "", f"the label {label.index}, {label.name}, occurs in no mask.", is_error=False)
        for label in dataset.labels.labels
        if label.index not in seen
    ]
