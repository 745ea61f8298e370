"""Open a label with a ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.distances import Window, opened, radius_voxels
from volseg.postprocessing.ball import BallRule
from volseg.postprocessing.edit import box_of

if TYPE_CHECKING:
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class Opening(BallRule):
    """Where a ball of this radius doesn't fit into a label, its voxels become background: spikes, thin bridges."""

    key: ClassVar[str] = "opening"

    def apply(self, edit: MaskEdit) -> None:
        """Open each of the rule's labels."""
        reach, boxes = radius_voxels(self.radius_mm, edit.spacing_mm), edit.boxes()
        for labels in self.parts(boxes):
            box = box_of(labels, boxes)
            window = Window.around(box, edit.mask.shape, [n + 1 for n in reach], (1, 1, 1))
            region = np.isin(window.of(edit.mask), labels)
            gone = region & ~opened(region, self.radius_mm, edit.spacing_mm)
            edit.put(window.box, gone[window.inside], 0)
