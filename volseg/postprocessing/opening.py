"""Open a label with a ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.distances import Window, opened, radius_voxels
from volseg.postprocessing.edit import box_of
from volseg.postprocessing.rule import UNNAMED, Rule

if TYPE_CHECKING:
    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class Opening(Rule):
    """Where a ball of this radius doesn't fit into a label, its voxels become background: spikes, thin bridges.

    Beyond the image's border a label goes on as it is on it.

    Raises:
        UsageError: as ``Rule``, or the radius is not above 0 and up to 100 mm.
    """

    key: ClassVar[str] = "opening"

    radius_mm: float
    """Of the ball."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_mm("radius_mm")

    def apply(self, edit: MaskEdit) -> None:
        """Open each of the rule's labels."""
        reach, boxes = radius_voxels(self.radius_mm, edit.spacing_mm), edit.boxes()
        for labels in self.parts(boxes):
            box = box_of(labels, boxes)
            window = Window.around(box, edit.mask.shape, [n + 1 for n in reach], (1, 1, 1))
            region = np.isin(window.of(edit.mask), labels)
            gone = region & ~opened(region, self.radius_mm, edit.spacing_mm)
            edit.put(window.box, gone[window.inside], 0)

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels(f"opening with a ball of {self.radius_mm:g} mm", table)
