"""Parser of DICOM data elements (PS3.5, 7.1 to 7.5), bounded: one walk for headers and for nested sequences.

It has no recursion and steps over what nobody asked for. Depth, elements and kept sequences are counted, and no length
reaches out of what holds it. So a file can exhaust neither the stack nor the memory, and 300 headers take some tens of
milliseconds.
"""

from __future__ import annotations

import math
import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH = 32
"""Sequences in sequences. Real objects stay below ten; pydicom's own reader recurses and gives up near 300."""
MAX_ELEMENTS = 2_000_000
"""Elements walked over in one file. The scanner that describes the frames of an enhanced object at the greatest length
takes 167 for each, all of undefined length, so that there may be 12,000 frames."""
MAX_KEPT = 1_000_000
"""Sequences and items that were asked for, each of which takes some 500 bytes. A segmentation of 30,000 frames or a
structure set of 100,000 contours has fewer."""
FIRST_READ_BYTES = 16 * 1024
"""Most headers of single slices are shorter than this, so that one read serves."""

UNDEFINED_LENGTH = 0xFFFFFFFF
PRESENT = b"present"
"""What stands for an element of which a header keeps only that it is there."""
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
VR = re.compile(rb"[A-Z]{2}")
UID = re.compile(r"[0-9.]{1,64}")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SEQUENCE_VRS = frozenset({b"SQ", b"UN"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


class ElementValues:
    """Raw values of elements by tag, and how to read them."""

    __slots__ = ()
    values: Mapping[int, bytes]
    big_endian: bool

    def text(self, tag: int) -> str:
        """A text value with its padding removed; empty where absent. Bytes beyond ASCII are kept one to one."""
        return self.values.get(tag, b"").decode("latin-1").strip(" \x00")

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values of a text element with several."""
        whole = self.text(tag)
        return tuple(part.strip(" \x00") for part in whole.split("\\")) if whole else ()

    def uid(self, tag: int) -> str:
        """A UID, or an empty text where it is absent or no UID."""
        text = self.text(tag)
        return text if UID.fullmatch(text) else ""

    def numbers(self, tag: int) -> tuple[float, ...]:
        """The values of a DS or IS element; empty where absent or where one of them is no finite number."""
        found = []
        for text in self.texts(tag):
            if not _NUMBER.fullmatch(text):
                return ()
            found.append(float(text))
        return tuple(found) if all(map(math.isfinite, found)) else ()

    def number(self, tag: int) -> float | None:
        """The first value of a DS or IS element; None where absent or no finite number."""
        numbers = self.numbers(tag)
        return numbers[0] if numbers else None

    def integer(self, tag: int) -> int | None:
        """The first value of an IS element; None where absent or no whole number."""
        number = self.number(tag)
        return int(number) if number is not None and number.is_integer() else None

    def unsigned(self, tag: int) -> int | None:
        """The first value of a US element; None where absent."""
        raw = self.values.get(tag, b"")
        return int.from_bytes(raw[:2], "big" if self.big_endian else "little") if len(raw) >= 2 else None

    def doubles(self, tag: int) -> tuple[float, ...]:
        """The values of an FD element; empty where absent or where one is not finite."""
        return self._binary(tag, "d", 8)

    def floats(self, tag: int) -> tuple[float, ...]:
        """The values of an FL element; empty where absent or where one is not finite."""
        return self._binary(tag, "f", 4)

    def _binary(self, tag: int, form: str, size: int) -> tuple[float, ...]:
        raw = self.values.get(tag, b"")
        count = len(raw) // size
        found: tuple[float, ...] = struct.unpack(f"{'>' if self.big_endian else '<'}{count}{form}", raw[: count * size])
        return found if all(map(math.isfinite, found)) else ()


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
    """What to keep of a file.

    Args:
        values: elements by tag, at the top level and wherever in the wanted sequences they stand.
        sequences: sequences by tag, likewise.
        presence: top-level elements of which only that they are there and not empty is kept.
        max_bytes: longer values are passed over.
        max_private_bytes: the same for private elements, which may have many places.
    """

    values: frozenset[int]
    sequences: frozenset[int] = frozenset()
    presence: frozenset[int] = frozenset()
    max_bytes: int = UNDEFINED_LENGTH
    max_private_bytes: int = UNDEFINED_LENGTH


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where a walk ended: the pixel data's tag, the position of its value, its length; None where there is none."""

    tag: int | None
    offset: int
    length: int | None


class Window:
    """A buffered window on a file or a stream in memory."""

    __slots__ = ("base", "data", "descriptor", "size")

    def __init__(self, descriptor: int, data: bytes, size: int) -> None:
        self.descriptor, self.data, self.size, self.base = descriptor, data, size, 0

    def at(self, position: int, count: int) -> int:
        """The index in ``data`` of ``position``, with ``count`` bytes at hand after it."""
        place = position - self.base
        if place >= 0 and place + count <= len(self.data):
            return place
        if position + count > self.size:
            raise truncated()
        self.data = os.pread(self.descriptor, max(count, FIRST_READ_BYTES), position)
        self.base = position
        if len(self.data) < count:
            raise truncated()
        return 0


def truncated() -> InputError:
    """The error for an element that reaches beyond its file, or beyond what holds it."""
    return InputError(
        "A file ends inside its header, or an element reaches beyond what holds it. Copy or export it again.",
        code="truncated-file",
    )


def walk(
    window: Window, position: int, wanted: Wanted, values: dict[int, bytes], *, implicit: bool, big: bool
) -> tuple[Item, PixelPlace]:
    """Parse a data set up to its pixel data.

    Stray delimiters are passed over at the top level and in what is not kept, since some writers leave them.

    Args:
        window: on the file.
        position: of the first element.
        wanted: what to keep.
        values: takes the top-level values, which are there even when the walk raises.
        implicit: whether elements carry no VR.
        big: whether numbers are big endian.

    Raises:
        InputError: ``declares-too-much``, ``nested-too-deep``, ``damaged-file`` or ``truncated-file``.
    """
    wanted_values, wanted_sequences = wanted.values, wanted.sequences
    max_bytes, max_private_bytes = wanted.max_bytes, wanted.max_private_bytes
    presence, pixel_data, at = wanted.presence, tags.PIXEL_DATA, window.at
    order = ">" if big else "<"
    two_shorts, long, short = (struct.Struct(order + form).unpack_from for form in ("HH", "I", "H"))
    size = window.size
    whole = _Kept(values)
    # The innermost open level. The data set counts as an item; any other is an item or a sequence. A delimiter ends it
    # where ``end`` is -1, and ``limit`` is where what holds it ends at the latest.
    is_item, end, limit, level_tag = True, -1, size, 0
    kept: _Kept | None = whole
    levels: list[tuple[bool, int, int, bool, int, _Kept | None]] = []
    count = kept_count = 0
    while True:
        closing = position == end
        if not closing:
            if position + 8 > limit:
                if levels:
                    raise truncated()
                break
            count += 1
            if count > MAX_ELEMENTS:
                raise _too_many()
            place = at(position, 8)
            data = window.data
            group, element = two_shorts(data, place)
            tag = group << 16 | element
            if group == 0xFFFE:
                length = long(data, place + 4)[0]
                position += 8
                if tag == _ITEM and (not is_item or kept is None or not levels):
                    keeps = kept is not None and not is_item
                    stop = -1
                    if length != UNDEFINED_LENGTH:
                        stop = position + length
                        if stop > limit:
                            raise truncated()
                        if not keeps:
                            position = stop
                            continue
                    opened = (True, stop, limit if stop == -1 else stop, implicit, 0)
                elif not levels or end != -1 or tag != (_ITEM_END if is_item else _SEQUENCE_END):
                    if levels and (kept is not None or tag in (_ITEM_END, _SEQUENCE_END)):
                        raise _malformed()
                    continue
                else:
                    closing = True
            else:
                if not is_item:
                    raise _malformed()
                vr = b""
                if implicit:
                    length = long(data, place + 4)[0]
                    position += 8
                else:
                    vr = data[place + 4 : place + 6]
                    if vr in LONG_VRS:
                        if position + 12 > limit:
                            raise truncated()
                        place = at(position, 12)
                        data = window.data
                        length = long(data, place + 8)[0]
                        position += 12
                    else:
                        length = short(data, place + 6)[0]
                        position += 8
                if not levels:
                    if tag in pixel_data:
                        pixels = PixelPlace(tag, position, None if length == UNDEFINED_LENGTH else length)
                        return Item(values, whole.sequences, big), pixels
                    if tag in presence and length:
                        values[tag] = PRESENT
                # Without a length it is a sequence, whatever it is called; else one where it is asked for as such.
                keeps = kept is not None and tag in wanted_sequences and (implicit or vr in _SEQUENCE_VRS)
                stop = -1
                if length != UNDEFINED_LENGTH:
                    stop = position + length
                    if stop > limit:
                        raise truncated()
                    if not keeps:
                        if (
                            kept is not None
                            and tag in wanted_values
                            and length <= (max_private_bytes if group & 1 else max_bytes)
                        ):
                            place = at(position, length)
                            kept.values[tag] = window.data[place : place + length]
                        position = stop
                        continue
                # PS3.5, 6.2.2 note 2: a value of unknown VR and undefined length is a sequence in implicit coding.
                opened = (False, stop, limit if stop == -1 else stop, implicit or vr == b"UN", tag)
        if closing:
            closed, was_item, closed_tag = kept, is_item, level_tag
            is_item, end, limit, implicit, level_tag, kept = levels.pop()
            if closed is not None and kept is not None:
                if was_item:
                    kept.items.append(Item(closed.values, closed.sequences, big))
                else:
                    kept.sequences[closed_tag] = tuple(closed.items)
            continue
        if len(levels) >= 2 * MAX_DEPTH:
            raise InputError(
                f"A file nests sequences more than {MAX_DEPTH} deep, as files made to crash a reader do; it was left "
                "alone.",
                code="nested-too-deep",
            )
        levels.append((is_item, end, limit, implicit, level_tag, kept))
        is_item, end, limit, implicit, level_tag = opened
        kept = _Kept({}) if keeps else None
        kept_count += keeps
        if kept_count > MAX_KEPT:
            raise _too_many()
    # Fewer bytes than an element's head are padding where they are zero, and the rest of an element where not.
    place = at(position, size - position)
    if any(window.data[place : place + size - position]):
        raise truncated()
    return Item(values, whole.sequences, big), PixelPlace(None, position, None)


class _Kept:
    """What an open item or sequence has gathered."""

    __slots__ = ("items", "sequences", "values")

    def __init__(self, values: dict[int, bytes]) -> None:
        self.values = values
        self.sequences: dict[int, tuple[Item, ...]] = {}
        self.items: list[Item] = []


def _too_many() -> InputError:
    return InputError("A file has more elements than its kind needs; it was left alone.", code="declares-too-much")


def _malformed() -> InputError:
    return InputError("A file's header is malformed. Copy or export it again.", code="damaged-file")
