"""What one case of a data set tells: its headers, each of its voxels, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from xxhash import xxh3_128

from volseg.dataset.advice import looks_like_ct
from volseg.dataset.beside import DIFFER, REMEDY, disagreement
from volseg.dataset.case import Case, Fault
from volseg.dataset.dataset import count_labels
from volseg.dataset.findings import Findings, FindingsPlace
from volseg.dataset.measures import ChannelMeasures, measure_case, measure_channels
from volseg.errors import VolsegError
from volseg.grid import CORNER_TOLERANCE_MM
from volseg.labels import BACKGROUND
from volseg.outcomes import Outcome, Status
from volseg.volume import ImageHeader, as_mask, is_segmentation, read_header, read_volume, segments_in
from volseg.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.labels import LabelTable

NAMED_LABELS = 20
"""A line names this many labels and counts the others."""
SAMPLED_VOXELS = 20_000
"""Foreground voxels kept of each channel of a case, at most; percentiles of a cohort need no more."""


@dataclass(frozen=True)
class CaseToExamine:
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
class Examined(Outcome):
    """What one case told."""

    found: Findings = field(default_factory=Findings)


def examine(one: CaseToExamine) -> Examined:
    """What a case tells: what was found before where its files did not change, else all of it read once."""
    names = [path.relative_to(one.folder).as_posix() for path in one.files]
    place = FindingsPlace.of(
        one.files, one.case.name, names, one.labels.indices, one.labels.ignore, one.channels, one.sampled,
        anew=one.anew or any(map(is_segmentation, one.files)),  # their names are not in what was found before
    )  # fmt: skip
    found = place.read() if place else None
    if found is None:
        found = _find(one)
        if place and not any(fault.is_error for fault in found.faults):
            place.keep(found)
    return Examined(case=one.case.name, status=Status.DONE, code="done", found=found)


def _find(one: CaseToExamine) -> Findings:
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


def _examine_channels(one: CaseToExamine, headers: Sequence[ImageHeader], report: _Report) -> None:
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


def _examine_mask(one: CaseToExamine, path: Path, image: ImageHeader | None, report: _Report) -> _ExaminedMask:
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
    segments = segments_in(path) if is_segmentation(path) else None
    differs = disagreement(one.labels, segments) if segments else None
    if differs is not None:
        report(DIFFER, f"{name} {differs}. {REMEDY}")
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
