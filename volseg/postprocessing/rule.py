"""What all rules have in common: the labels they are for, their plain data, and MONAI's transform for them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

import numpy as np

from volseg.components import CONNECTIVITIES, Connectivity
from volseg.errors import BundleError, UsageError
from volseg.labels import MAX_INDEX, LabelTable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from volseg.components import Components
    from volseg.postprocessing.edit import MaskEdit

Group: TypeAlias = tuple[int, ...]
Labels: TypeAlias = tuple[int | Group, ...] | Literal["all"]
"""Each label by itself, several of a group as if they were one, or each label that a mask holds."""
ALL: Literal["all"] = "all"
UNNAMED = LabelTable(())
MAX_MM = 100.0
"""Of a radius: more is no surgery on a mask, but a slip, or somebody's attempt at the memory."""
ALWAYS_TOLD = ("labels", "connectivity")
"""Of a rule's plain data; other values are left out where they are what they are by default."""


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """One thing to do with a mask.

    Raises:
        UsageError: a label is not in 1..65535, a group is empty, or a label of a group stands twice.
    """

    key: ClassVar[str]
    """The rule's name in plain data."""
    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

    labels: Labels = ALL
    """The labels that the rule is for; those of a group in it count as one."""

    def __post_init__(self) -> None:
        if self.labels == ALL:
            return
        if any(not 1 <= label <= MAX_INDEX for label in self.flat) or () in self.labels:
            raise UsageError(f"{self.key}: labels are numbers from 1 upwards, not {list(self.labels)}.")
        if self.groups and len(set(self.flat)) < len(self.flat):
            raise UsageError(f"{self.key}: a label of a group stands twice in {list(self.labels)}.")

    @cached_property
    def flat(self) -> tuple[int, ...]:
        """The labels that the rule names, groups taken apart; none where it is for all."""
        parts = () if self.labels == ALL else self.labels
        return tuple(label for part in parts for label in (part if isinstance(part, tuple) else (part,)))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The labels that count as one."""
        return () if self.labels == ALL else tuple(part for part in self.labels if isinstance(part, tuple))

    def parts(self, present: Collection[int]) -> tuple[Group, ...]:
        """What the rule takes for one thing each, of the labels that a mask holds."""
        wanted = tuple((label,) for label in sorted(present)) if self.labels == ALL else self.labels
        found = (tuple(sorted({*(part if isinstance(part, tuple) else (part,))} & {*present})) for part in wanted)
        return tuple(dict.fromkeys(part for part in found if part))

    def require_mm(self, name: str, least: float = 0.0) -> None:
        """Make sure of a length.

        Raises:
            UsageError: it is not above ``least``, or above 100 mm.
        """
        value = getattr(self, name)
        if not least < value <= MAX_MM:  # not a number is neither
            raise UsageError(f"{self.key}: {name} is above {least:g} and up to {MAX_MM:g} mm, not {value}.")

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
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in ALWAYS_TOLD or field.default is MISSING or getattr(self, field.name) != field.default
        }
        return {"rule": self.key} | {name: _plain(value) for name, value in values.items()}

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
        return f"{what} of {self.named(table)}"

    def named(self, table: LabelTable) -> str:
        """The labels in words: ``every label``, ``labels 1 (liver) + 2 (tumour), 3``."""
        if self.labels == ALL:
            return "every label"
        told = (
            " + ".join(map(table.told, part)) if isinstance(part, tuple) else table.told(part) for part in self.labels
        )
        return f"label{'s' * (len(self.flat) > 1)} {', '.join(told)}"


@dataclass(frozen=True, kw_only=True)
class ComponentRule(Rule):
    """A rule on connected components.

    Raises:
        UsageError: as ``Rule``, or the connectivity is not 6, 18 or 26.
    """

    connectivity: Connectivity = 26
    """Voxels of a label are connected across faces (6), edges too (18), or corners too (26)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.connectivity not in CONNECTIVITIES:
            raise UsageError(f"{self.key}: connectivity is 6, 18 or 26 neighbours, not {self.connectivity}.")

    def components(self, edit: MaskEdit) -> tuple[Components, NDArray[np.bool_]]:
        """The components of a mask, and (n + 1,) which of them are of the rule's labels."""
        found = edit.components(self.connectivity, self.groups)
        ours = np.ones(len(found.sizes), bool) if self.labels == ALL else found.of_labels(self.flat)
        ours[0] = False
        return found, ours


def _plain(value: object) -> object:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


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
