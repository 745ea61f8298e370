"""Close a label with a ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.distances import Window, closed, radius_voxels
from volseg.postprocessing.claims import Claims
from volseg.postprocessing.edit import box_of
from volseg.postprocessing.rule import UNNAMED, Rule

if TYPE_CHECKING:
    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class Closing(Rule):
    """Background that a ball of this radius can't reach between the parts of a label gets it: clefts, dents, gaps.

    Where several labels would get a voxel, the nearest does, the lower number of two equally near. No label loses a
    voxel. Beyond the image's border a label goes on as it is on it.

    Raises:
        UsageError: as ``Rule``, or the radius is not above 0 and up to 100 mm.
    """

    key: ClassVar[str] = "closing"

    radius_mm: float
    """Of the ball."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_mm("radius_mm")

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

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels(f"closing with a ball of {self.radius_mm:g} mm", table)
