"""A list of images as input: a text or CSV file of lines, or JSON. Its paths are relative to its own folder.

A list is the person's own, as words on a command line are: it may name any file that the person can read.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import UsageError
from volseg.files import read_bounded
from volseg.volume import split_channel, stem_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIXES = (".txt", ".csv", ".json")
MAX_LIST_BYTES = 2**26
"""Half a million lines."""
HEADINGS = frozenset({"case", "image", "images", "path", "file", "name", "id", "patient", "subject"})
"""What the first cell of a line is that names columns."""
MAX_NAME_BYTES = 190
"""Of a case's name: file systems hold 255, and suffixes stand behind it."""
_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")


@dataclass(frozen=True)
class Entry:
    """One case of a list.

    Args:
        place: which line or item it is, from 1.
        paths: an image, a folder or an archive; or the image of each channel.
        case: what the person calls it; empty where its file names it.
    """

    place: int
    paths: tuple[Path, ...]
    case: str = ""

    @property
    def name(self) -> str:
        """The case's, as far as the list tells."""
        return self.case or split_channel(stem_of(self.paths[0]))[0]


def is_list(path: Path) -> bool:
    """Whether a file's name is that of a list."""
    return path.name.lower().endswith(SUFFIXES)


def read_list(path: Path) -> tuple[Entry, ...]:
    """The cases of a list.

    A line, or an item of a JSON list, is a path, or ``case,channel0,channel1``; an item may also be a mapping as in
    MONAI's lists, ``{"image": [...], "case": ...}``. Empty lines, those that begin with ``#`` and a first line of
    headings are left out.

    Raises:
        UsageError: it is no such list.
        InputError: it is larger than any list.
        FileError: it can't be read.
    """
    raw = read_bounded(path, MAX_LIST_BYTES, "list")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no image that volseg reads, nor a list of paths in UTF-8.") from error
    entries = _of_json(path, text) if path.name.lower().endswith(".json") else _of_lines(path, text)
    if not entries:
        raise UsageError(f"{path} is a list of no image. Write a path on each line, or case,channel0,channel1.")
    return entries


def _of_lines(path: Path, text: str) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for place, line in enumerate(text.splitlines(), 1):
        whole = line.strip()
        if not whole or whole.startswith("#"):
            continue
        try:
            (cells,) = csv.reader([whole], strict=True)
        except csv.Error as error:
            raise _bad(path, place) from error
        cells = [cell.strip() for cell in cells]
        while cells and not cells[-1]:  # as a spreadsheet writes rows that are shorter than others
            cells.pop()
        if not entries and cells and cells[0].casefold() in HEADINGS and not is_there(path.parent / cells[-1]):
            continue
        if len(cells) > 1 and is_there(path.parent / whole):  # a name with a comma in it
            cells = [whole]
        entries.append(_entry(path, place, cells))
    return tuple(entries)


def _of_json(path: Path, text: str) -> tuple[Entry, ...]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no list of images: it is no JSON.") from error
    if not isinstance(content, list):
        raise UsageError(f"{path} is no list of images. Of a data set, name the folder.")
    entries = []
    for place, item in enumerate(content, 1):
        if isinstance(item, dict):
            images, case = item.get("image"), item.get("case", "")
            cells = images if isinstance(images, list) else [images]
            if case != "" or len(cells) > 1:
                cells = [case, *cells]
        else:
            cells = item if isinstance(item, list) else [item]
        entries.append(_entry(path, place, cells, may_lack_name=isinstance(item, dict)))
    return tuple(entries)


def _entry(path: Path, place: int, cells: Sequence[object], *, may_lack_name: bool = False) -> Entry:
    words = [cell for cell in cells if isinstance(cell, str) and _may_be_name(cell)]
    if not words or len(words) < len(cells):
        raise _bad(path, place)
    case, *images = words if len(words) > 1 else ("", *words)
    is_named = bool(case) or (not may_lack_name and len(words) > 1)
    is_name = _NAME.fullmatch(case) and case.isprintable() and len(case.encode()) <= MAX_NAME_BYTES
    if not all(images) or (is_named and not is_name):
        raise _bad(path, place)
    return Entry(place, tuple(path.parent / image for image in images), case)


def is_there(path: Path) -> bool:
    """Whether something lies at a path, be it text that no file can be called."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _may_be_name(cell: str) -> bool:
    """Whether a file may be called so: JSON can hold halves of characters, which no file system does."""
    return "\0" not in cell and not any("\ud800" <= character <= "\udfff" for character in cell)


def _bad(path: Path, place: int) -> UsageError:
    return UsageError(
        f"{path}: entry {place} is neither a path nor case,channel0,channel1, where a case's name has no slash and begins "
        "with no dot."
    )
