"""Types of options: callers in Python may give a text for a path and one value for several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

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
