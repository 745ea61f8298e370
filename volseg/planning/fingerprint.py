"""The fingerprint of a data set: what a plan is chosen from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from volseg.dataset.faults import require_measured
from volseg.dataset.measures import CaseMeasures
from volseg.dataset.sidecar import was_resampled
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.dataset.dataset import Dataset


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
        return np.concatenate([case.foreground(channel) for case in self.cases])

    def zero_share(self, channel: int) -> float:
        """The median share of voxels that are exactly 0."""
        return float(np.median([case.zero_share[channel] for case in self.cases]))

    def label_volumes_mm3(self, index: int) -> NDArray[np.float64]:
        """The label's volume in each case that has it."""
        return np.array([case.label_volumes_mm3[index] for case in self.cases if index in case.label_volumes_mm3])

    def components(self, index: int) -> NDArray[np.int64]:
        """How many connected components the label has in each case that has it."""
        return np.array([case.components[index] for case in self.cases if case.components and index in case.components])

    def is_single_piece(self, index: int, *, share_of_cases: float) -> bool:
        """Whether the label is one piece in at least that share of the cases that have it."""
        having = [index in case.single_piece for case in self.cases if index in case.label_volumes_mm3]
        return bool(having) and sum(having) >= share_of_cases * len(having)


def measure(dataset: Dataset, progress: Progress = SILENT) -> Fingerprint:
    """Check a data set and measure every training case of it, in one reading of its files.

    Raises:
        DataSetError: it has faults; the message lists all of them.
    """
    measured = require_measured(dataset, progress=progress)
    images = {case.name: case.images[0] for case in dataset.training}
    cases = tuple(replace(case, resampled=was_resampled(images[case.name])) for case in measured)
    in_one_file = len(dataset.channels) > 1 and len(dataset.training[0].images) == 1
    return Fingerprint(cases, dataset.channels, in_one_file)
