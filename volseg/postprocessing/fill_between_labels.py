"""Fill the gaps between labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.distances import Window, closed, radius_voxels, within
from volseg.errors import UsageError
from volseg.postprocessing.claims import Claims
from volseg.postprocessing.edit import box_of
from volseg.postprocessing.rule import ALL, UNNAMED, Rule
from volseg.voxels import overlap

if TYPE_CHECKING:
    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class FillBetweenLabels(Rule):
    """Background at most this far from two of the labels gets the nearest, the lower number of two equally near.

    What a ball beside the labels reaches stays, else a ridge would grow wherever two labels meet at the surface of both; its
    radius is half a voxel more, so that it is stopped by a gap of the full width too. Beyond the image's border a label
    goes on as it is on it.

    Distances are between voxel centres: a gap of one voxel is one step wide on both sides.

    Raises:
        UsageError: as ``Rule``, there are fewer than two labels, or the width is not above 0 and up to 100 mm.
    """

    key: ClassVar[str] = "fill_between_labels"

    within_mm: float
    """From both labels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_mm("within_mm")
        if self.labels != ALL and len(self.labels) < 2:
            raise UsageError(f"{self.key}: a gap is between two labels or more, not {list(self.labels)}.")

    def apply(self, edit: MaskEdit) -> None:
        """Fill the gaps between the rule's labels."""
        reach, boxes = radius_voxels(self.within_mm, edit.spacing_mm), edit.boxes()
        parts = self.parts(boxes)
        if len(parts) < 2:
            return
        all_labels = [label for labels in parts for label in labels]
        ball_mm = self.within_mm + min(edit.spacing_mm) / 2
        margin = [n + 1 for n in radius_voxels(ball_mm, edit.spacing_mm)]
        window = Window.around(box_of(all_labels, boxes), edit.mask.shape, margin, margin)
        gaps = closed(np.isin(window.of(edit.mask), all_labels), ball_mm, edit.spacing_mm)[window.inside]
        claims = Claims(edit)
        for labels in parts:
            box = Window.around(box_of(labels, boxes), edit.mask.shape, reach, reach).box
            region = np.isin(edit.mask[box], labels)
            here, _ = overlap(window.box, box)
            claims.add(box, within(region, self.within_mm, edit.spacing_mm) & gaps[here], labels)
        claims.settle(least=2)

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return f"filled gaps of up to {self.within_mm:g} mm from each side between {self.named(table)}"
