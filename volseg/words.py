"""Words for people: counts, lists that end, text that any terminal or spreadsheet may show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A spreadsheet runs what begins so, and names come from files of strangers."""


def counted(number: int, noun: str) -> str:
    """A number of things: ``1 case``, ``2 cases``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names joined by commas; of more than ``most``, the others are counted: ``a, b and 3 more``."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def printable(text: str, keep: str = "") -> str:
    """The text as one line: what would break it, drive a terminal or turn text around is escaped, as ``\\n``.

    Names come from strangers: of files, cases, labels, in headers and configs. Whoever writes lines for people writes them
    through this, and no name can forge one.

    Args:
        text: any.
        keep: which of such characters stay, such as the line ends of a text that is several lines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


def harmless(cell: str) -> str:
    """The text with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA_STARTS) else cell
