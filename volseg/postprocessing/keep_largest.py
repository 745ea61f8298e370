"""Keep the largest connected component of a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from volseg.components import Connectivity
from volseg.errors import UsageError
from volseg.postprocessing.rule import ALL, UNNAMED, ComponentRule, labels_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit

TARGET = "monai.transforms.KeepLargestConnectedComponentd"
HOPS: dict[Connectivity, int] = {6: 1, 18: 2, 26: 3}
"""MONAI counts the axes that a step to a neighbour may cross at once."""

MAX_COUNT = 1000
"""Of components that stay: who wants more wants a smallest volume."""


@dataclass(frozen=True, kw_only=True)
class KeepLargest(ComponentRule):
    """Only the largest components stay; of equally large ones, those of ``Components.largest``.

    Raises:
        UsageError: as ``ComponentRule``, or the count is not in 1..1000.
    """

    key: ClassVar[str] = "keep_largest"

    count: int = 1
    """How many stay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.count <= MAX_COUNT:
            raise UsageError(f"{self.key}: count is a whole number from 1 to {MAX_COUNT}, not {self.count}.")

    def apply(self, edit: MaskEdit) -> None:
        """Remove all but the largest components of each of the rule's labels."""
        components, ours = self.components(edit)
        edit.remove(ours & ~components.largest(self.count))

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        which = "only the largest component" if self.count == 1 else f"only the {self.count} largest components"
        return self.of_labels(which, table)

    def to_transform(self, table: Collection[int]) -> dict[str, object] | None:
        """``KeepLargestConnectedComponentd``, for one component of labels that count each by itself."""
        del table
        if self.groups or self.count > 1:
            return None
        labels = {} if self.labels == ALL else {"applied_labels": list(self.flat)}
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
