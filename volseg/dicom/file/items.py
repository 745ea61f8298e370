"""Parser of nested DICOM sequences, bounded: what label objects and enhanced images consist of.

One walk without recursion (PS3.5, 7.1 to 7.5), as ``volseg.dicom.file.header`` has it for the top level: what is not
asked for is stepped over, depth, elements and bytes are counted, and no length may reach out of what holds it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.dicom.file.header import LONG_VRS, MAX_DEPTH, UNDEFINED_LENGTH, ElementValues, read_elements
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volseg.dicom.file.header import Header

MAX_BYTES = 2**28
"""Of a file before its pixel data. The contours of a hundred structures on 500 slices take some 100 MB."""
MAX_NESTED_ELEMENTS = 2_000_000
"""Walked over in one file: an enhanced object of 12,000 frames of 167 elements each."""
MAX_KEPT = 1_000_000
"""Sequences and items that were asked for, each of which takes some 500 bytes. A segmentation of 30,000 frames or a
structure set of 100,000 contours has fewer."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SEQUENCE_VRS = frozenset({b"SQ", b"UN"})


@dataclass(frozen=True, slots=True)
class Item(ElementValues):
    """The elements of one item of a sequence, or of the whole data set, as far as they were asked for.

    Args:
        values: raw values by tag.
        sequences: the items of each sequence by its tag.
        big_endian: the order of the bytes of binary values.
    """

    values: Mapping[int, bytes]
    sequences: Mapping[int, tuple[Item, ...]]
    big_endian: bool

    def items(self, tag: int) -> tuple[Item, ...]:
        """The items of a sequence; empty where it is absent."""
        return self.sequences.get(tag, ())

    def first(self, tag: int) -> Item | None:
        """The first item of a sequence; None where it is absent or empty."""
        found = self.sequences.get(tag, ())
        return found[0] if found else None

    def along(self, *path: int) -> tuple[Item, ...]:
        """All items at the end of a path of sequences."""
        found: tuple[Item, ...] = (self,)
        for tag in path:
            found = tuple(inner for item in found for inner in item.items(tag))
        return found


@dataclass(frozen=True)
class Wanted:
    """What to keep of a file: values and sequences by tag, wherever in the wanted sequences they stand."""

    values: frozenset[int]
    sequences: frozenset[int]


def read_items(header: Header, wanted: Wanted) -> Item:
    """Read a file's elements, nested ones too, up to its pixel data.

    Args:
        header: of the file, as ``read_header`` gives it.
        wanted: what to keep.

    Raises:
        InputError: ``declares-too-much``, ``nested-too-deep``, ``damaged-file`` or ``truncated-file``.
        FileError: the file can't be read.
    """
    data, implicit = read_elements(header, MAX_BYTES)
    return _Walk(data, wanted, big=header.big_endian).run(implicit=implicit)


@dataclass(slots=True)
class _Level:
    """An open item or sequence of the parser's stack.

    Args:
        is_item: whether it is an item; else a sequence.
        end: where it ends; None where a delimiter ends it.
        limit: where what holds it ends at the latest.
        implicit: whether its elements carry no VR.
        kept: whether its content is wanted.
        tag: of the sequence.
    """

    is_item: bool
    end: int | None
    limit: int
    implicit: bool
    kept: bool
    tag: int = 0
    values: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, tuple[Item, ...]] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)


class _Walk:
    def __init__(self, data: bytes, wanted: Wanted, *, big: bool) -> None:
        self.data, self.wanted, self.big = data, wanted, big
        order = ">" if big else "<"
        self.shorts, self.long, self.short = (struct.Struct(order + form).unpack_from for form in ("HH", "I", "H"))
        self.levels: list[_Level] = []
        self.kept = 0

    def run(self, *, implicit: bool) -> Item:
        """The whole data set."""
        whole = _Level(True, None, len(self.data), implicit, True)
        self.levels.append(whole)
        position = count = 0
        while True:
            level = self.levels[-1]
            if level.end is not None and position >= level.end:
                if position > level.end:
                    raise _malformed()
                self._close()
                continue
            if position + 8 > level.limit:
                if level is whole:
                    break
                raise _truncated()
            count += 1
            if count > MAX_NESTED_ELEMENTS:
                raise _too_many()
            position = self._element(level, position) if level.is_item else self._item(level, position)
        return Item(whole.values, whole.sequences, self.big)

    def _item(self, level: _Level, position: int) -> int:
        """Go into, or over, an item of a sequence."""
        group, element = self.shorts(self.data, position)
        length: int = self.long(self.data, position + 4)[0]
        position += 8
        tag = group << 16 | element
        if tag == _SEQUENCE_END and level.end is None:
            self._close()
            return position
        if tag != _ITEM:
            raise _malformed()
        if length == UNDEFINED_LENGTH:
            self._open(_Level(True, None, level.limit, level.implicit, level.kept))
            return position
        end = position + length
        if end > level.limit:
            raise _truncated()
        if not level.kept:
            return end
        self._open(_Level(True, end, end, level.implicit, True))
        return position

    def _element(self, level: _Level, position: int) -> int:
        """Keep, go into, or go over an element of an item."""
        data = self.data
        group, element = self.shorts(data, position)
        tag = group << 16 | element
        if group == 0xFFFE:
            if tag != _ITEM_END or level.end is not None or len(self.levels) == 1:
                raise _malformed()
            self._close()
            return position + 8
        if len(self.levels) == 1 and tag in tags.PIXEL_DATA:
            return len(data)
        vr = b""
        length: int
        if level.implicit:
            length, head = self.long(data, position + 4)[0], 8
        else:
            vr = data[position + 4 : position + 6]
            if vr in LONG_VRS:
                if position + 12 > level.limit:
                    raise _truncated()
                length, head = self.long(data, position + 8)[0], 12
            else:
                length, head = self.short(data, position + 6)[0], 8
        position += head
        # Without a length it is a sequence, whatever it is called; else one where it is asked for as such.
        is_wanted = level.kept and tag in self.wanted.sequences and (level.implicit or vr in _SEQUENCE_VRS)
        if length == UNDEFINED_LENGTH:
            self._open(_Level(False, None, level.limit, level.implicit or vr == b"UN", is_wanted, tag))
            return position
        end = position + length
        if end > level.limit:
            raise _truncated()
        if is_wanted:
            self._open(_Level(False, end, end, level.implicit or vr == b"UN", True, tag))
            return position
        if level.kept and tag in self.wanted.values:
            level.values[tag] = data[position:end]
        return end

    def _open(self, level: _Level) -> None:
        if len(self.levels) > 2 * MAX_DEPTH:
            raise InputError(
                f"A file nests sequences more than {MAX_DEPTH} deep, as files made to crash a reader do; it was left "
                "alone.",
                code="nested-too-deep",
            )
        self.kept += level.kept
        if self.kept > MAX_KEPT:
            raise _too_many()
        self.levels.append(level)

    def _close(self) -> None:
        """Hand what the innermost level holds to the one around it."""
        level = self.levels.pop()
        outer = self.levels[-1]
        if not level.kept:
            return
        if level.is_item:
            outer.items.append(Item(level.values, level.sequences, self.big))
        else:
            outer.sequences[level.tag] = tuple(level.items)


def _too_many() -> InputError:
    return InputError("A file has more elements than its kind needs; it was left alone.", code="declares-too-much")


def _malformed() -> InputError:
    return InputError("A file's nested elements are malformed. Copy or export it again.", code="damaged-file")


def _truncated() -> InputError:
    return InputError(
        "A file's nested elements reach beyond what holds them, so it is damaged. Copy or export it again.",
        code="truncated-file",
    )
