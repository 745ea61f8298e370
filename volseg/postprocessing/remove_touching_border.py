"""Remove components that the border of the image cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from volseg.postprocessing.rule import UNNAMED, ComponentRule

if TYPE_CHECKING:
    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class RemoveTouchingBorder(ComponentRule):
    """Components with a voxel in the image's first or last plane along any axis are removed: they are not whole."""

    key: ClassVar[str] = "remove_touching_border"

    def apply(self, edit: MaskEdit) -> None:
        """Remove the components of the rule's labels that touch the border."""
        components, ours = self.components(edit)
        edit.remove(ours & components.at_border())

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels("no component that touches the image's border", table)
