"""What two masks have in common, counted in voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.metrics.pair import crop
from volseg.voxels import slabs

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Overlap:
    """What two masks have in common for one label, in voxels."""

    label: int
    both: int
    predicted: int
    reference: int
    total: int
    """All voxels of the grid."""

    @property
    def dice(self) -> float:
        """Twice what is common over the sum of both (Dice, 1945)."""
        return ratio(2 * self.both, self.predicted + self.reference)

    @property
    def iou(self) -> float:
        """What is common over what is in either (Jaccard, 1912)."""
        return ratio(self.both, self.predicted + self.reference - self.both)

    @property
    def sensitivity(self) -> float:
        """The share of the reference that was found; also called recall."""
        return ratio(self.both, self.reference)

    @property
    def precision(self) -> float:
        """The share of what was found that is in the reference; also called positive predictive value."""
        return ratio(self.both, self.predicted)

    @property
    def specificity(self) -> float:
        """The share of what is not in the reference that was left out. It grows with the field of view."""
        outside = self.total - self.reference
        return ratio(outside - (self.predicted - self.both), outside)


def overlaps(
    predicted: NDArray[np.generic], reference: NDArray[np.generic], labels: Collection[int] | None = None
) -> tuple[Overlap, ...]:
    """Count what two masks have in common, for all labels in one pass; arguments and errors as ``volseg.metrics.compare``."""
    one, other, *_ = crop(predicted, reference)
    size = int(max(one.max(initial=0), other.max(initial=0), max(labels or (), default=0))) + 1
    sums = np.zeros((3, size), np.int64)
    for slab in slabs(one):
        p, r = one[slab].ravel(order="K"), other[slab].ravel(order="K")
        for row, values in enumerate((p, r, p[p == r])):
            counts = np.bincount(values)
            sums[row, : len(counts)] += counts
    both, found, true = sums[2], sums[0], sums[1]
    wanted = sorted(set(labels)) if labels is not None else (np.flatnonzero((found + true)[1:]) + 1).tolist()
    return tuple(
        Overlap(label, int(both[label]), int(found[label]), int(true[label]), predicted.size) for label in wanted
    )


def ratio(part: float, whole: float) -> float:
    """NaN of nothing."""
    return part / whole if whole else math.nan
