"""Keep the largest connected component of a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from volseg.components import Connectivity
from volseg.postprocessing.rule import ALL, UNNAMED, Rule, labels_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit

TARGET = "monai.transforms.KeepLargestConnectedComponentd"
HOPS: dict[Connectivity, int] = {6: 1, 18: 2, 26: 3}
"""MONAI counts the axes that a step to a neighbour may cross at once."""


@dataclass(frozen=True, kw_only=True)
class KeepLargest(Rule):
    """Only the largest component stays; of equally large ones, that of ``Components.largest``."""

    key: ClassVar[str] = "keep_largest"

    def apply(self, edit: MaskEdit) -> None:
        """Remove all but the largest component of each of the rule's labels."""
        components = edit.components(self.connectivity)
        smaller = ~components.largest()
        edit.remove(smaller if self.labels == ALL else smaller & components.of_labels(self.labels))

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels("only the largest component", table)

    def to_transform(self, table: Collection[int]) -> dict[str, object]:
        """``KeepLargestConnectedComponentd``."""
        del table
        labels = {} if self.labels == ALL else {"applied_labels": list(self.labels)}
        how = {"is_onehot": False, "independent": True, "connectivity": HOPS[self.connectivity]}
        return {"_target_": TARGET, "keys": "pred", **labels, **how}

    @classmethod
    def from_transform(cls, transform: Mapping[str, object], table: Collection[int]) -> Self | None:
        """The rule, where each label counts by itself."""
        del table
        labels, hops = labels_of(transform, TARGET), transform.get("connectivity")
        connectivity = next((ours for ours, monai in HOPS.items() if monai == (3 if hops is None else hops)), None)
        same = (transform.get("independent", True), transform.get("num_components", 1)) == (True, 1)
        if labels is None or connectivity is None or not same or transform.get("is_onehot"):
            return None
        return cls(labels=labels, connectivity=connectivity)
