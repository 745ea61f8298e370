"""Types of options: callers in Python may give a text for a path and one value for several."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, get_args

T = TypeVar("T")
StrPath: TypeAlias = str | os.PathLike[str]

if TYPE_CHECKING:
    PathOption: TypeAlias = StrPath
    Many: TypeAlias = T | Sequence[T]
else:
    # What the command line makes of its words, and ``volseg.api`` of what it is given.
    PathOption = Path
    Many = tuple[T, ...]


def each(values: Many[T]) -> tuple[T, ...]:
    """The values of an option that takes one or several."""
    return tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)


def words_of(values: Many[str]) -> tuple[str, ...]:
    """The words of an option that takes one or several, also several in one: ``CT,MR``."""
    texts: tuple[str, ...] = each(values)
    return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())


def split_numbers(text: str) -> list[str]:
    """The numbers that one word holds: ``1x1x3`` or ``1,1,3``."""
    return re.split(r"[x,]", text)


def holds_numbers(hint: object) -> bool:
    """Whether an option of this type takes decimal numbers."""
    return hint is float or any(map(holds_numbers, get_args(hint)))
