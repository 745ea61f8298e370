"""Keep the components of a label that lie inside another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.components import CONNECTIVITIES
from volseg.distances import Window, radius_voxels, within
from volseg.errors import UsageError
from volseg.labels import MAX_INDEX
from volseg.postprocessing.edit import box_of
from volseg.postprocessing.rule import ALL, UNNAMED, ComponentRule
from volseg.voxels import overlap

if TYPE_CHECKING:
    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class KeepInside(ComponentRule):
    """Components of a label that are nowhere inside another label are removed; the others stay whole.

    A mask has one label at each voxel, so what lies in an organ takes its place and borders it: a component is inside
    where it touches the other label, by the same connectivity, or comes as near as the other label is grown.

    Raises:
        UsageError: as ``ComponentRule``, the other label is none or among those that are kept, or it is grown by more
            than 100 mm.
    """

    key: ClassVar[str] = "keep_inside"

    inside: tuple[int, ...]
    """The other label, or several that count as one."""
    grown_mm: float = 0.0
    """By how much the other label is grown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grown_mm != 0.0:
            self.require_mm("grown_mm")
        if not self.inside or any(not 1 <= label <= MAX_INDEX for label in self.inside):
            raise UsageError(f"{self.key}: inside names labels by numbers from 1 upwards, not {list(self.inside)}.")
        if self.labels == ALL or not set(self.inside).isdisjoint(self.flat):
            raise UsageError(f"{self.key}: a label lies inside another, not inside itself. Name both.")

    def apply(self, edit: MaskEdit) -> None:
        """Remove the components of the rule's labels that are nowhere inside."""
        from scipy.ndimage import binary_dilation, generate_binary_structure

        boxes = edit.boxes()
        there = [label for label in self.inside if label in boxes]
        components, ours = self.components(edit)
        if not there:
            edit.remove(ours)
            return
        spacing, mask = edit.spacing_mm, edit.mask
        margin = [max(1, n) for n in radius_voxels(self.grown_mm, spacing)]
        box = Window.around(box_of(there, boxes), mask.shape, margin, margin).box
        organ = np.isin(mask[box], there)
        reached = binary_dilation(organ, generate_binary_structure(3, CONNECTIVITIES.index(self.connectivity) + 1))
        if self.grown_mm:
            reached |= within(organ, self.grown_mm, spacing)
        numbers = np.zeros(reached.shape, components.numbers.dtype)
        mine, its = overlap(box, components.box)
        numbers[mine] = components.numbers[its]
        kept = np.zeros(len(components.sizes), bool)
        kept[np.unique(numbers[reached])] = True
        edit.remove(ours & ~kept)

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        grown = f", grown by {self.grown_mm:g} mm" if self.grown_mm else ""
        inside = " + ".join(map(table.told, self.inside))
        return self.of_labels(f"only components inside {inside}{grown},", table)
