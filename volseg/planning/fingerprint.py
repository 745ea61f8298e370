"""The fingerprint of a data set: what a plan is chosen from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from nibabel.orientations import io_orientation

from volseg.batch import available_cores
from volseg.components import find_components
from volseg.dataset.advice import looks_like_ct
from volseg.dataset.sidecar import was_resampled
from volseg.labels import BACKGROUND
from volseg.progress import SILENT, Progress
from volseg.volume import read_mask, read_volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.dataset.case import Case
    from volseg.dataset.dataset import Dataset
    from volseg.volume import Volume

Number = TypeVar("Number", int, float)

SAMPLED_VOXELS = 20_000
"""Foreground voxels kept of each channel of a case, at most; percentiles of a cohort need no more."""
ALL_SAMPLED_VOXELS = 20_000_000
"""And of a channel over all cases: 80 MB."""
MAX_THREADS = 8
"""Each holds a whole case, which for a large CT and its components is 2 GB."""
SINGLE_PIECE_SHARE = 0.95
"""A label counts as one piece in a case when its largest component holds this share of it: annotators leave specks."""


@dataclass(frozen=True, eq=False)
class CaseMeasures:
    """One training case, its axes permuted to the nearest RAS order.

    Args:
        shape: voxels along R, A, S.
        spacing_mm: along R, A, S.
        foreground: one array of sampled intensities for each channel.
        zero_share: the share of voxels that are exactly 0, for each channel.
        label_volumes_mm3: for each label present.
        single_piece: the labels that are one piece in this case.
        resampled: whether its sidecar says that it was resampled before.
        ct_like: whether its first channel looks like CT.
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    foreground: tuple[NDArray[np.float32], ...]
    zero_share: tuple[float, ...]
    label_volumes_mm3: dict[int, float]
    single_piece: frozenset[int]
    resampled: bool
    ct_like: bool = False


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """All training cases, measured."""

    cases: tuple[CaseMeasures, ...]
    channels: tuple[str, ...]
    channels_in_one_file: bool

    @property
    def spacings_mm(self) -> NDArray[np.float64]:
        """(cases, 3) along R, A, S."""
        return np.array([case.spacing_mm for case in self.cases])

    def shapes_at(self, spacing_mm: tuple[float, float, float]) -> NDArray[np.int64]:
        """(cases, 3) voxels along R, A, S when resampled to a spacing."""
        shapes = np.array([case.shape for case in self.cases], dtype=np.float64)
        resampled: NDArray[np.int64] = np.maximum(1, np.rint(shapes * self.spacings_mm / np.array(spacing_mm)))
        return resampled.astype(np.int64)

    def foreground(self, channel: int) -> NDArray[np.float32]:
        """Sampled foreground intensities of all cases in one channel."""
        return np.concatenate([case.foreground[channel] for case in self.cases])

    def zero_share(self, channel: int) -> float:
        """The median share of voxels that are exactly 0."""
        return float(np.median([case.zero_share[channel] for case in self.cases]))

    def label_volumes_mm3(self, index: int) -> NDArray[np.float64]:
        """The label's volume in each case that has it."""
        return np.array([case.label_volumes_mm3[index] for case in self.cases if index in case.label_volumes_mm3])

    def is_single_piece(self, index: int, *, share_of_cases: float) -> bool:
        """Whether the label is one piece in at least that share of the cases that have it."""
        having = [index in case.single_piece for case in self.cases if index in case.label_volumes_mm3]
        return bool(having) and sum(having) >= share_of_cases * len(having)


def measure(dataset: Dataset, progress: Progress = SILENT) -> Fingerprint:
    """Measure every training case of a sound data set.

    Raises:
        InputError, FileError: a file can't be read; ``find_faults`` tells of all of them at once.
    """
    measured = []
    with (
        progress.task("Measuring", len(dataset.training), "cases") as task,
        # Threads suffice: decompression and numpy let go of the interpreter.
        ThreadPoolExecutor(min(MAX_THREADS, available_cores())) as pool,
    ):
        sampled = min(SAMPLED_VOXELS, max(1, ALL_SAMPLED_VOXELS // max(1, len(dataset.training))))
        for case in pool.map(partial(_measure_case, sampled=sampled, ignore=dataset.labels.ignore), dataset.training):
            measured.append(case)
            task.advance(1, case.name)
    in_one_file = len(dataset.channels) > 1 and len(dataset.training[0].images) == 1
    return Fingerprint(tuple(measured), dataset.channels, in_one_file)


def _measure_case(case: Case, sampled: int, ignore: int | None) -> CaseMeasures:
    if case.label is None:
        raise ValueError(f"{case.name} has no label to measure")
    mask = read_mask(case.label)
    if ignore is not None:
        mask = replace(mask, array=np.where(mask.array == ignore, mask.array.dtype.type(BACKGROUND), mask.array))
    axes = io_orientation(mask.grid.affine)[:, 0].astype(int)
    order = np.argsort(axes)  # the voxel axes that run along R, A and S
    indices, counts = np.unique(mask.array, return_counts=True)
    volumes = {
        int(index): float(count) * mask.grid.voxel_volume_mm3
        for index, count in zip(indices, counts, strict=True)
        if index
    }
    shares = {found.label: found.largest_share for found in find_components(mask.array).by_label}
    foreground, zero_share = [], []
    inside = mask.array.astype(bool)
    channels = _channels(case)
    for channel in channels:
        zero_share.append(float(np.mean(channel == 0)))
        foreground.append(_sample(channel[inside] if inside.any() else channel.ravel(), sampled))
    return CaseMeasures(
        name=case.name,
        shape=_permuted(mask.grid.shape, order),
        spacing_mm=_permuted(mask.grid.spacing_mm, order),
        foreground=tuple(foreground),
        zero_share=tuple(zero_share),
        label_volumes_mm3=volumes,
        single_piece=frozenset(index for index in volumes if shares[index] >= SINGLE_PIECE_SHARE),
        resampled=was_resampled(case.images[0]),
        ct_like=looks_like_ct(channels[0]),
    )


def _channels(case: Case) -> list[NDArray[np.generic]]:
    volumes: list[Volume] = [read_volume(path) for path in case.images]
    if len(volumes) == 1 and volumes[0].array.ndim == 4:
        return [volumes[0].array[..., number] for number in range(volumes[0].array.shape[3])]
    return [volume.array for volume in volumes]


def _sample(values: NDArray[np.generic], count: int) -> NDArray[np.float32]:
    """Every n-th value, so that the same file always gives the same sample."""
    step = max(1, -(-len(values) // count))
    return values[::step].astype(np.float32)


def _permuted(values: tuple[Number, Number, Number], order: NDArray[np.int64]) -> tuple[Number, Number, Number]:
    return values[order[0]], values[order[1]], values[order[2]]
