"""Remove connected components below a size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from volseg.errors import UsageError
from volseg.postprocessing.rule import UNNAMED, ComponentRule

if TYPE_CHECKING:
    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit

VOLUME_TOLERANCE = 1e-6
"""Relative. A voxel's volume comes from a float32 affine; a component of exactly the minimum size must stay."""


@dataclass(frozen=True, kw_only=True)
class RemoveSmall(ComponentRule):
    """Components below a volume are removed.

    MONAI has no transform for it: its ``RemoveSmallObjectsd`` takes all voxels of a label for one object in a mask of
    several labels, and rounds the volume up to whole voxels.

    Raises:
        UsageError: as ``ComponentRule``, or the volume is negative or not finite.
    """

    key: ClassVar[str] = "remove_small"

    minimum_mm3: float
    """Components below this volume are removed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.minimum_mm3) or self.minimum_mm3 < 0:
            raise UsageError(f"{self.key}: minimum_mm3 is a volume of 0 mm3 or more, not {self.minimum_mm3}.")

    def apply(self, edit: MaskEdit) -> None:
        """Remove the small components of the rule's labels."""
        components, ours = self.components(edit)
        small = components.sizes * edit.grid.voxel_volume_mm3 < self.minimum_mm3 * (1 - VOLUME_TOLERANCE)
        edit.remove(ours & small)

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels(f"only components of at least {self.minimum_mm3:g} mm3", table)
