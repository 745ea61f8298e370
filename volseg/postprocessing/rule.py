"""What all rules have in common: the labels they are for, their plain data, and MONAI's transform for them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

from volseg.components import CONNECTIVITIES, Connectivity
from volseg.errors import BundleError, UsageError
from volseg.labels import LabelTable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from volseg.postprocessing.edit import MaskEdit

Labels: TypeAlias = tuple[int, ...] | Literal["all"]
ALL: Literal["all"] = "all"
UNNAMED = LabelTable(())


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """One thing to do with a mask.

    Raises:
        UsageError: a label is not above 0, or the connectivity is not 6, 18 or 26.
    """

    key: ClassVar[str]
    """The rule's name in plain data."""
    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

    labels: Labels = ALL
    """The labels that the rule is for."""
    connectivity: Connectivity = 26
    """Voxels of a label are connected across faces (6), edges too (18), or corners too (26)."""

    def __post_init__(self) -> None:
        if self.labels != ALL and any(label < 1 for label in self.labels):
            raise UsageError(f"{self.key}: labels are numbers from 1 upwards, not {list(self.labels)}.")
        if self.connectivity not in CONNECTIVITIES:
            raise UsageError(f"{self.key}: connectivity is 6, 18 or 26 neighbours, not {self.connectivity}.")

    @abstractmethod
    def apply(self, edit: MaskEdit) -> None:
        """Change a mask."""

    @abstractmethod
    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words, such as ``only the largest component of labels 1 (anterior), 2``.

        Args:
            table: names the labels.
        """

    def __str__(self) -> str:
        return self.words()

    def to_transform(self, table: Collection[int]) -> dict[str, object] | None:
        """The stock MONAI transform that does the very same, as a config has it; None where there is none.

        Args:
            table: all labels that the mask may hold.
        """
        del table
        return None

    @classmethod
    def from_transform(cls, transform: Mapping[str, object], table: Collection[int]) -> Self | None:
        """The rule that says the same as a MONAI transform (``_target_`` and arguments); None where it does not."""
        del transform, table
        return None

    def to_config(self) -> dict[str, object]:
        """The rule as plain data."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"rule": self.key} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Read what ``to_config`` wrote, without its ``rule``.

        Raises:
            BundleError: a key is unknown, or a value is of the wrong type or out of range.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            # As JSON, where a list may be a tuple and nothing else is taken for what it is not.
            return TypeAdapter(cls).validate_json(json.dumps(config))
        except (ValidationError, ValueError, TypeError) as error:
            said = "it is no plain data"
            if isinstance(error, ValidationError):
                first = error.errors(include_url=False)[0]
                said = f"{'.'.join(map(str, first['loc'][:1]))} {first['msg']}".strip()
            raise BundleError(f"The postprocessing rule {cls.key} can't be used: {said}.") from error

    def of_labels(self, what: str, table: LabelTable) -> str:
        """Words with the labels: ``what of every label``, ``what of labels 1 (anterior), 2``."""
        if self.labels == ALL:
            return f"{what} of every label"
        return f"{what} of label{'s' * (len(self.labels) > 1)} {', '.join(map(table.told, self.labels))}"


def labels_of(transform: Mapping[str, object], target: str) -> Labels | None:
    """The labels that a MONAI transform of this target is applied to; None where it is another, or not for the mask."""
    if transform.get("_target_") != target or transform.get("keys") not in ("pred", ["pred"], ("pred",)):
        return None
    labels = transform.get("applied_labels")
    each = (labels,) if isinstance(labels, int) else labels
    if each is None:
        return ALL
    fit = isinstance(each, (list, tuple)) and all(type(label) is int and label > 0 for label in each)
    return tuple(each) if fit else None  # type: ignore[arg-type]  # a list of whole numbers, as just seen
