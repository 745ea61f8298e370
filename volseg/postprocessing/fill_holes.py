"""Fill the holes of a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from volseg.postprocessing.rule import ALL, UNNAMED, ComponentRule, labels_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit

TARGET = "monai.transforms.FillHolesd"


@dataclass(frozen=True, kw_only=True)
class FillHoles(ComponentRule):
    """Pockets of background that one label alone encloses in 3D get that label; see ``find_cavities``.

    What a group encloses gets the nearest of its labels.

    MONAI's ``FillHolesd`` says the same where there is one label; of several it fills what lies inside with a label,
    other labels too.
    """

    key: ClassVar[str] = "fill_holes"

    def apply(self, edit: MaskEdit) -> None:
        """Fill the pockets of the rule's labels."""
        cavities = edit.cavities(self.connectivity, self.groups)
        edit.fill(cavities, cavities.of_labels(None if self.labels == ALL else self.flat), self.groups)

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels("filled holes", table)

    def to_transform(self, table: Collection[int]) -> dict[str, object] | None:
        """``FillHolesd`` where there is one label, else nothing."""
        only = list(table)
        if len(only) != 1 or self.groups or (self.labels != ALL and only[0] not in self.labels):
            return None
        # MONAI names the neighbours of the background, which are joined across faces where the label's are not.
        hops = 3 if self.connectivity == 6 else 1
        return {"_target_": TARGET, "keys": "pred", "applied_labels": only, "connectivity": hops}

    @classmethod
    def from_transform(cls, transform: Mapping[str, object], table: Collection[int]) -> Self | None:
        """The rule, where there is one label."""
        labels, hops = labels_of(transform, TARGET), transform.get("connectivity")
        if len(table) != 1 or labels not in (ALL, tuple(table)) or hops not in (1, 3, None):
            return None
        return cls(labels=tuple(table), connectivity=26 if hops == 1 else 6)
