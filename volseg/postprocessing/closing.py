"""Close a label with a ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.distances import Window, closed, radius_voxels
from volseg.postprocessing.ball import BallRule
from volseg.postprocessing.claims import Claims
from volseg.postprocessing.edit import box_of

if TYPE_CHECKING:
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class Closing(BallRule):
    """Background that a ball of this radius can't reach between the parts of a label gets it: clefts, dents, gaps.

    Where several labels would get a voxel, the nearest does, the lower number of two equally near. No label loses a
    voxel.
    """

    key: ClassVar[str] = "closing"

    def apply(self, edit: MaskEdit) -> None:
        """Close each of the rule's labels."""
        reach, boxes = radius_voxels(self.radius_mm, edit.spacing_mm), edit.boxes()
        margin = [n + 1 for n in reach]
        claims = Claims(edit)
        for labels in self.parts(boxes):
            window = Window.around(box_of(labels, boxes), edit.mask.shape, margin, margin)
            region = np.isin(window.of(edit.mask), labels)
            claims.add(window.box, closed(region, self.radius_mm, edit.spacing_mm)[window.inside], labels)
        claims.settle()
