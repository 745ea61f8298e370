"""Smooth the surfaces of labels together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.distances import Window, nearest_of, radius_voxels
from volseg.postprocessing.edit import box_of
from volseg.postprocessing.rule import UNNAMED, Rule
from volseg.voxels import overlap, union

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit

TRUNCATE = 4.0
"""Standard deviations after which a Gaussian ends; less than 1 in 10,000 lies beyond."""
ROUNDING = 1e-5
"""Of a share of a Gaussian in float32: a voxel changes only where another label has more than this over its own."""


@dataclass(frozen=True, kw_only=True)
class Smoothing(Rule):
    """Each voxel gets the label, or the background, that has the largest share of a Gaussian around it.

    The labels are smoothed together, so no gap opens between two of them and none covers another. Labels that the rule
    is not for keep their voxels, and what lies in them counts for nobody; beyond the image's border all goes on as it is
    on it. What is thinner than about the Gaussian's standard deviation vanishes.

    Raises:
        UsageError: as ``Rule``, or the standard deviation is not above 0 and up to 100 mm.
    """

    key: ClassVar[str] = "smoothing"

    sigma_mm: float
    """The Gaussian's standard deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_mm("sigma_mm")

    def apply(self, edit: MaskEdit) -> None:
        """Smooth the rule's labels."""
        from scipy.ndimage import gaussian_filter

        spacing, boxes, shape = edit.spacing_mm, edit.boxes(), edit.mask.shape
        reach = [n + 1 for n in radius_voxels(TRUNCATE * self.sigma_mm, spacing)]
        sigma = [self.sigma_mm / step for step in spacing]
        parts = self.parts(boxes)
        if not parts:
            return

        def shares(region: NDArray[np.bool_]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = gaussian_filter(
                region.astype(np.float32), sigma, mode="nearest", truncate=TRUNCATE
            )
            return found

        around = {labels: Window.around(box_of(labels, boxes), shape, reach, reach).box for labels in parts}
        whole = next(iter(around.values()))
        for box in around.values():
            whole = union(whole, box)
        wide = Window.around(whole, shape, reach, reach).box  # so that the background is right up to the edge of whole
        inner, _ = overlap(wide, whole)
        # Of a group a voxel gets the label that was nearest before anything was given.
        mask = edit.mask.copy(order="K") if self.groups else edit.mask
        ours = np.zeros(mask[whole].shape, np.int32)
        best = shares(mask[wide] == 0)[inner]
        best += (mask[whole] == 0) * np.float32(ROUNDING)
        for number, (labels, box) in enumerate(around.items(), 1):
            here, _ = overlap(whole, box)
            region = np.isin(mask[box], labels)
            share = shares(region) + region * np.float32(ROUNDING)
            wins = share > best[here]
            best[here][wins], ours[here][wins] = share[wins], number
        free = np.isin(mask[whole], [0, *(label for labels in parts for label in labels)])
        edit.put(whole, free & (ours == 0) & (mask[whole] != 0), 0)
        for number, (labels, box) in enumerate(around.items(), 1):
            here, _ = overlap(whole, box)
            comes = free[here] & (ours[here] == number) & ~np.isin(mask[box], labels)
            edit.put(box, comes, nearest_of(mask[box], labels, comes, spacing))

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels(f"smoothing with a Gaussian of {self.sigma_mm:g} mm", table)
