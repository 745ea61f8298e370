"""The grammar of a config that needs no trust: what may stand in a place, as plain data."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from volseg.planning.component import ConfigValue

SPECIAL = ("$", "@", "%")
"""What MONAI takes for an expression, a reference or a macro at the front of a text."""


class Form(Protocol):
    """A form that plain values have."""

    @property
    def words(self) -> str:
        """What it is, for a person."""

    def takes(self, value: ConfigValue) -> bool:
        """Whether a value has this form."""


@dataclass(frozen=True)
class Exactly:
    """One value, such as an expression of the vocabulary."""

    value: str | bool | None

    @property
    def words(self) -> str:
        """The value."""
        return "nothing" if self.value is None else repr(self.value)

    def takes(self, value: ConfigValue) -> bool:
        """Equal and of the same type: 1 is not true."""
        return type(value) is type(self.value) and value == self.value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    words: str = "true or false"

    def takes(self, value: ConfigValue) -> bool:
        """A boolean."""
        return isinstance(value, bool)


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds, which belong to it."""

    low: int
    high: int

    @property
    def words(self) -> str:
        """The bounds."""
        return f"a whole number from {self.low} to {self.high}"

    def takes(self, value: ConfigValue) -> bool:
        """An integer within the bounds."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True)
class Real:
    """A finite number within bounds, which belong to it."""

    low: float
    high: float

    @property
    def words(self) -> str:
        """The bounds."""
        return f"a number from {self.low:g} to {self.high:g}"

    def takes(self, value: ConfigValue) -> bool:
        """An integer or float within the bounds."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True)
class Text:
    """Text that MONAI takes as it is.

    Args:
        pattern: what the whole of it matches.
        words: what it is, for a person.
    """

    pattern: re.Pattern[str] = re.compile(r"(?s).{0,4096}")
    words: str = "plain text"

    def takes(self, value: ConfigValue) -> bool:
        """A text without a special character at its front."""
        return (
            isinstance(value, str)
            and not value.lstrip().startswith(SPECIAL)
            and self.pattern.fullmatch(value) is not None
        )


@dataclass(frozen=True)
class Expression:
    """An expression with a part that varies."""

    pattern: re.Pattern[str]
    words: str

    def takes(self, value: ConfigValue) -> bool:
        """A text that matches as a whole."""
        return isinstance(value, str) and self.pattern.fullmatch(value) is not None


@dataclass(frozen=True)
class Size:
    """The three sides of a box in voxels.

    Args:
        voxels: how many the box may have at most.
    """

    voxels: int

    @property
    def words(self) -> str:
        """The bound."""
        return f"three whole numbers above 0 with a product up to {self.voxels}"

    def takes(self, value: ConfigValue) -> bool:
        """Three integers above 0 whose product stays within the bound."""
        side = Whole(1, self.voxels)
        return (
            isinstance(value, list)
            and len(value) == 3
            and all(side.takes(one) for one in value)
            and math.prod(one for one in value if isinstance(one, int)) <= self.voxels
        )


@dataclass(frozen=True)
class Kind:
    """What may stand in one place of a config: plain values, a list, a mapping, a part or a reference to one.

    A part is of a kind by its target, and a reference by the key that it names: each key has a kind.

    Args:
        values: forms of plain values, any of which will do.
        items: the kind of a list's items.
        most: how many items a list may have.
        entries: the kinds of a mapping's entries; the key ``*`` stands for any other.
        also: references to keys of these kinds may stand here as well.
    """

    values: tuple[Form, ...] = ()
    items: str | None = None
    most: int = 0
    entries: dict[str, str] | None = None
    also: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What may stand here, for a person."""
        return " or ".join(form.words for form in self.values)
