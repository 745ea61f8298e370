"""Everything that is wrong with a data set, found before anything is trained on it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from xxhash import xxh3_128

from volseg.batch import choose_executor, run_cases, voxel_bytes
from volseg.dataset.advice import advise, looks_like_ct
from volseg.dataset.case import Case, Fault, summed_up
from volseg.dataset.dataset import Dataset, count_labels, read_dataset
from volseg.dataset.findings import Findings, FindingsPlace, forget_old_findings
from volseg.dataset.measures import CaseMeasures, ChannelMeasures, measure_case, measure_channels
from volseg.errors import DataSetError, VolsegError
from volseg.grid import CORNER_TOLERANCE_MM
from volseg.labels import BACKGROUND
from volseg.outcomes import Outcome, Status
from volseg.progress import SILENT, Progress
from volseg.volume import ImageHeader, as_mask, read_header, read_volume
from volseg.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from volseg.labels import LabelTable

__all__ = ["CaseContent", "Fault", "find_faults", "require_measured", "require_sound"]

MASKS_OFF_WHOLE = "mask-off-whole"
NAMED_LABELS = 20
"""A line names this many labels and counts the others."""
SAMPLED_VOXELS = 20_000
"""Foreground voxels kept of each channel of a case, at most; percentiles of a cohort need no more."""
ALL_SAMPLED_VOXELS = 20_000_000
"""And of a channel over all cases: 80 MB."""
HELD_COPIES = 3.5
"""What examining a case takes at most, in terms of its files' voxels: scaled integers become float64, and components
take four bytes a voxel. CT of 16 bits took 1.2."""


@dataclass(frozen=True)
class _CaseToExamine:
    """One case to examine; picklable, since it may go to a worker."""

    case: Case
    folder: Path
    labels: LabelTable
    channels: int
    sampled: int = SAMPLED_VOXELS
    """Intensities kept of each channel."""
    anew: bool = False
    """Whether its files are read, also where the file system says that they did not change."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Image and mask."""
        return (*self.case.images, *([self.case.label] if self.case.label else []))


@dataclass(frozen=True)
class _Examined(Outcome):
    """What one case told."""

    found: Findings = field(default_factory=Findings)


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
    examined = {case: one.found for case, one in outcomes.items() if isinstance(one, _Examined)}
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
    return {case.name: outcome.found for case, outcome in examined.items() if isinstance(outcome, _Examined)}


def _examine_all(
    dataset: Dataset, cases: Sequence[Case], *, jobs: int, progress: Progress, anew: bool
) -> dict[Case, Outcome]:
    # A power of two below, so that a case more changes it seldom and the others' findings are kept.
    share = ALL_SAMPLED_VOXELS // max(1, len(dataset.training))
    sampled = SAMPLED_VOXELS if share >= SAMPLED_VOXELS else 2 ** max(0, share.bit_length() - 1)
    work = [
        _CaseToExamine(case, dataset.folder, dataset.labels, len(dataset.channels), sampled, anew) for case in cases
    ]
    outcomes = run_cases(
        _examine,
        work,
        name_of=lambda one: one.case.name,
        title="Checking",
        executor=choose_executor(jobs, (voxel_bytes(one.files) for one in work), held_copies=HELD_COPIES),
        progress=progress,
    )
    forget_old_findings()
    return dict(zip(cases, outcomes, strict=True))


def _examine(one: _CaseToExamine) -> _Examined:
    names = [path.relative_to(one.folder).as_posix() for path in one.files]
    place = FindingsPlace.of(
        one.files, one.case.name, names, one.labels.indices, one.labels.ignore, one.channels, one.sampled,
        anew=one.anew,
    )  # fmt: skip
    found = place.read() if place else None
    if found is None:
        found = _find(one)
        if place and not any(fault.is_error for fault in found.faults):
            place.keep(found)
    return _Examined(case=one.case.name, status=Status.DONE, code="done", found=found)


def _find(one: _CaseToExamine) -> Findings:
    """Read a case once: its mask, then one image after the other."""
    faults: list[Fault] = []

    def report(code: str, message: str, *, is_error: bool = True) -> None:
        # The messages of lower floors name the whole path; here the data set's folder goes without saying.
        faults.append(Fault(code, one.case.name, message, is_error))

    headers: dict[Path, ImageHeader] = {}
    for path in one.case.images:
        try:
            headers[path] = read_header(path)
            _examine_forms(headers[path], path.relative_to(one.folder).as_posix(), report)
        except VolsegError as error:
            report(error.code, error.within(one.folder))
    first = next(iter(headers.values()), None)
    if headers:
        _examine_channels(one, list(headers.values()), report)
    mask: _ExaminedMask | None = None
    if one.case.label is not None:
        try:
            mask = _examine_mask(one, one.case.label, first, report)
        except VolsegError as error:
            report(error.code, error.within(one.folder))
    digest = xxh3_128()
    is_whole, ct_like = len(headers) == len(one.case.images), False
    measured: list[ChannelMeasures] = []
    for path in headers:
        try:
            array = read_volume(path).array
        except VolsegError as error:
            is_whole = False
            report(error.code, error.within(one.folder))
            continue
        ct_like = ct_like or looks_like_ct(array)
        _examine_image(array, path.relative_to(one.folder).as_posix(), digest, report)
        if mask and not any(fault.is_error for fault in faults):
            measured += measure_channels(array, mask.array, mask.foreground, one.sampled)
        del array  # before the next one is read
    is_sound = mask and first and not any(fault.is_error for fault in faults)
    return Findings(
        faults=tuple(faults),
        digest=digest.hexdigest() if is_whole else None,
        seen=mask.seen if mask else (),
        ct_like=ct_like,
        off_whole=mask.off_whole if mask else None,
        mask_digest=mask.digest if mask else None,
        measures=measure_case(one.case.name, first.grid, mask.array, measured, ct_like=ct_like)
        if is_sound and mask and first
        else None,
    )


class _Report(Protocol):
    def __call__(self, code: str, message: str, *, is_error: bool = True) -> None: ...


def _examine_forms(header: ImageHeader, name: str, report: _Report) -> None:
    if header.oddity:
        report(
            "read-otherwise",
            f"{name}: {header.oddity}, and MONAI, which trains, would take it in another way. Save it with three axes, "
            "or four with the channels last, in millimetres.",
        )
    if header.forms_apart_mm > CORNER_TOLERANCE_MM:
        report(
            "two-placements",
            f"the sform and the qform of {name} place it {header.forms_apart_mm:.3g} mm apart, and viewers differ in "
            "which they follow; volseg follows the sform.",
            is_error=False,
        )


def _examine_image(array: NDArray[np.generic], name: str, digest: xxh3_128, report: _Report) -> None:
    """Look at each voxel of an image (i, j, k) or (i, j, k, channel), a slice at a time."""
    wrong = 0
    channels = array[..., np.newaxis] if array.ndim == 3 else array
    digest.update(repr(array.shape[:3]).encode())
    for channel in range(channels.shape[3]):
        low, high = np.inf, -np.inf
        for k in range(channels.shape[2]):
            slab = channels[:, :, k, channel]
            # As float32, so that a copy stored as another type is known; NIfTI runs i fastest, hence the transpose.
            with np.errstate(over="ignore"):
                single = np.ascontiguousarray(slab.T, dtype=np.float32)
            digest.update(single.data)
            if slab.dtype.kind == "f":
                finite = np.isfinite(single).T  # what training reads: 1e39 is infinite there
                wrong += slab.size - int(np.count_nonzero(finite))
                slab = slab[finite]
            if slab.size:
                low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        if low == high:
            where = f"channel {channel} of {name}" if channels.shape[3] > 1 else name
            report("constant-image", f"{where} has the same value, {low:g}, in every voxel.", is_error=False)
    if wrong:
        voxels = "1 voxel that is" if wrong == 1 else f"{wrong} voxels that are"
        report(
            "not-finite",
            f"{name} has {voxels} not a number or infinite. Replace them, with the background's value say.",
        )


def _examine_channels(one: _CaseToExamine, headers: Sequence[ImageHeader], report: _Report) -> None:
    count = sum(header.channels for header in headers)
    if len(headers) == len(one.case.images) and count != one.channels:
        report(
            "channel-count",
            f"the image has {count} {'channel' if count == 1 else 'channels'}, and the data set declares "
            f"{one.channels}. Add what is missing, or declare the channels in dataset.json.",
        )
    for path, header in zip(one.case.images[1:], headers[1:], strict=False):
        apart = headers[0].grid.difference(header.grid)
        if apart is not None:
            report(
                "channel-grids-differ",
                f"{one.case.images[0].name} and {path.name} lie on different grids: {apart}. "
                "Resample them onto one grid.",
            )


@dataclass(frozen=True, eq=False)
class _ExaminedMask:
    """What a mask told.

    Args:
        array: (i, j, k) of whole numbers, background where voxels are to be ignored.
        foreground: how many voxels are not 0.
        seen: the labels above the background that occur.
        off_whole: a number that is a hair off the whole one that it is read as.
        digest: of the voxels.
    """

    array: NDArray[np.generic]
    foreground: int
    seen: tuple[int, ...]
    off_whole: float | None
    digest: str


def _examine_mask(one: _CaseToExamine, path: Path, image: ImageHeader | None, report: _Report) -> _ExaminedMask:
    """Look at a mask's grid and labels."""
    name = path.relative_to(one.folder).as_posix()
    header = read_header(path)
    _examine_forms(header, name, report)
    if image is not None:
        apart = image.grid.difference(header.grid)
        if apart is not None:
            report(
                "grids-differ",
                f"image and mask lie on different grids: {apart}. Draw the mask on this image, "
                "or resample it onto the image's grid with the nearest neighbour.",
            )
    stored = read_volume(path)
    mask = as_mask(stored, path).array
    counts = count_labels(mask)
    off_whole = None
    if stored.array.dtype.kind == "f":
        off = stored.array.astype(np.float32, copy=False) != mask  # float32 is what MONAI trains on
        off_whole = float(stored.array[off][0]) if off.any() else None
    seen = tuple(index for index in counts if index not in (BACKGROUND, one.labels.ignore))
    if not seen:
        beside = " and voxels to ignore" if one.labels.ignore in counts else ""
        report("empty-mask", f"{name} has background{beside} only. Draw the structures, or remove the mask.")
    unknown = [index for index in seen if index not in one.labels.indices]
    if unknown and len(one.labels):
        shown = listed([f"{index} ({counted(counts[index], 'voxel')})" for index in unknown], NAMED_LABELS)
        known = listed([str(index) for index in one.labels.indices], NAMED_LABELS)
        report(
            "label-outside-table",
            f"{name} has the labels {shown}, and dataset.json names {known}. Name them there, or correct the mask.",
        )
    foreground = sum(counts[index] for index in seen)
    digest = xxh3_128(np.ascontiguousarray(mask.T).data).hexdigest()
    if one.labels.ignore is not None:
        mask = np.where(mask == one.labels.ignore, mask.dtype.type(BACKGROUND), mask)
    return _ExaminedMask(mask, foreground, seen, off_whole, digest)


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
