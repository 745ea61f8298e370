"""Parser of DICOM headers, bounded: the elements that volseg asks for, up to the pixel data.

A walk over the top-level elements up to the pixel data (PS3.5, 7.1 to 7.5), without recursion: sequences of known
length are stepped over, those of undefined length are followed by a counter of their depth. So a file can neither
exhaust the stack nor the memory, and 300 headers take some tens of milliseconds.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.errors import FileError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_DEPTH = 32
"""Sequences in sequences. Real objects stay below ten; pydicom's own reader recurses and gives up near 300."""
MAX_ELEMENTS = 2_000_000
"""Elements walked over in one file. The scanner that describes the frames of an enhanced object at the greatest length
takes 167 for each, all of undefined length, so that there may be 12,000 frames."""
MAX_VALUE_BYTES = 64 * 1024
"""Of one element that is kept. The longest kept are lists of numbers and code strings."""
MAX_INFLATED_BYTES = 2**30
"""Of a file in the deflated transfer syntax (PS3.5, A.5)."""
FIRST_READ_BYTES = 16 * 1024
"""Most headers of single slices are shorter than this, so that one read serves."""

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})

UNDEFINED_LENGTH = 0xFFFFFFFF
PRESENT = b"present"
"""What stands for a sequence of which a header keeps only that it is there."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_VR = re.compile(rb"[A-Z]{2}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_UID = re.compile(r"[0-9.]{1,64}")


class NotDicomError(InputError):
    """The file is no DICOM object."""

    default_code = "not-dicom"


class DamagedHeaderError(InputError):
    """A DICOM file's header can't be read to its end; ``series_uid``, where it was met before, is private."""

    def __init__(self, error: InputError, series_uid: str = "") -> None:
        super().__init__(error.message, code=error.code)
        self.series_uid = series_uid
        self._error = error

    def __reduce__(self) -> tuple[object, ...]:
        return DamagedHeaderError, (self._error, self.series_uid)


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
        return text if _UID.fullmatch(text) else ""

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
        raw = self.values.get(tag, b"")
        count = len(raw) // 8
        found: tuple[float, ...] = struct.unpack(f"{'>' if self.big_endian else '<'}{count}d", raw[: count * 8])
        return found if all(map(math.isfinite, found)) else ()


@dataclass(frozen=True, slots=True)
class Header(ElementValues):
    """The header of one file: the elements asked for, and where its pixel data lies.

    Args:
        path: the file.
        values: the raw value of each element that volseg asks for, by tag; nothing nested.
        syntax: the transfer syntax that the file states, or that its bytes show where it states none.
        big_endian: the order of the bytes of binary values.
        pixel_tag: which pixel data element ends the header; None where there is none.
        pixel_offset: where the pixel data's value begins (in the inflated stream of a deflated file).
        pixel_length: its length in bytes, None when undefined, as in every compressed syntax.
        file_size: of the file; of the inflated stream in a deflated file.
        has_preamble: whether the file opens as PS3.10, 7.1 asks.
        uids_of_meta_header: whether its class or identifier are those of the meta header, for want of its own.
    """

    path: Path
    values: Mapping[int, bytes]
    syntax: str
    big_endian: bool
    pixel_tag: int | None
    pixel_offset: int
    pixel_length: int | None
    file_size: int
    has_preamble: bool
    uids_of_meta_header: bool = False


def read_header(path: Path) -> Header:
    """Read the header of a DICOM file, with or without the preamble of PS3.10.

    Raises:
        NotDicomError: the file is no DICOM object.
        DamagedHeaderError: the file is one, but damaged before its pixel data, or built to exhaust its reader.
        FileError: the file can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(path, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"A file can't be read: {error.strerror}.", code="cannot-read") from error


def read_elements(header: Header, limit: int) -> tuple[bytes, bool]:
    """The bytes of a file's elements up to its pixel data, without the meta information, and whether they carry no VR.

    Args:
        header: of the file.
        limit: how many bytes there may be.

    Raises:
        InputError: ``declares-too-much`` above the limit; ``truncated-file`` or ``damaged-file`` where the file is no
            longer what its header was read from.
        FileError: the file can't be read.
    """
    end = header.file_size if header.pixel_tag is None else header.pixel_offset
    if end > limit:
        raise InputError(
            f"A file has more than {limit // 2**20} MiB beside any pixels, more than its kind needs; it was left alone.",
            code="declares-too-much",
        )
    try:
        descriptor = os.open(header.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            window = _Window(descriptor, b"", size)
            _, start = _walk_meta(window, 132 if header.has_preamble else 0)
            if header.syntax == DEFLATED:
                window, start = _inflated(descriptor, start, size), 0
            implicit = _is_implicit(window, start, stated=header.syntax == IMPLICIT_LITTLE)
            place = window.at(start, end - start)
            return window.data[place : place + end - start], implicit
        finally:
            os.close(descriptor)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"A file can't be read: {error.strerror}.", code="cannot-read") from error


def _read(path: Path, descriptor: int) -> Header:
    size = os.fstat(descriptor).st_size
    first = os.pread(descriptor, FIRST_READ_BYTES, 0)
    has_preamble = first[128:132] == b"DICM"
    if not has_preamble and not _looks_bare(first):
        raise NotDicomError("The file is no DICOM object.")
    values: dict[int, bytes] = {}
    try:
        window = _Window(descriptor, first, size)
        meta, start = _walk_meta(window, 132 if has_preamble else 0)
        syntax = meta.get(tags.TRANSFER_SYNTAX_UID, b"").decode("latin-1").strip(" \x00")
        if syntax == DEFLATED:
            window, start = _inflated(descriptor, start, size), 0
        implicit = _is_implicit(window, start, stated=syntax == IMPLICIT_LITTLE)
        big = syntax == EXPLICIT_BIG
        if not _UID.fullmatch(syntax):
            syntax = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE
        pixels = _walk(window, start, values, implicit=implicit, big=big)
        values |= meta
        completed = _complete_uids(values)
    except InputError as error:
        if not has_preamble:
            raise NotDicomError("The file is no DICOM object.") from None
        uid = values.get(tags.SERIES_INSTANCE_UID, b"").decode("latin-1").strip(" \x00")
        raise DamagedHeaderError(error, uid if _UID.fullmatch(uid) else "") from error
    header = Header(path, values, syntax, big, *pixels, window.size, has_preamble, completed)
    if not has_preamble and not (header.uid(tags.SOP_CLASS_UID) and header.uid(tags.SERIES_INSTANCE_UID)):
        raise NotDicomError("The file is no DICOM object.")
    return header


def _complete_uids(values: dict[int, bytes]) -> bool:
    """Put the class and the identifier of the meta header in the place of those that the data set lacks.

    Both have to say the same (PS3.10, 7.1), and some programs empty those of the data set to hide who it is.
    """
    completed = False
    for own, of_meta in (
        (tags.SOP_CLASS_UID, tags.MEDIA_STORAGE_SOP_CLASS_UID),
        (tags.SOP_INSTANCE_UID, tags.MEDIA_STORAGE_SOP_INSTANCE_UID),
    ):
        if not values.get(own, b"").strip(b" \x00") and values.get(of_meta, b"").strip(b" \x00"):
            values[own] = values[of_meta]
            completed = True
    return completed


def _looks_bare(first: bytes) -> bool:
    """Whether a file without preamble begins with an element of group 0002 or 0008."""
    if len(first) < 16:
        return False
    group, element = struct.unpack_from("<HH", first)
    return group in (2, 8) and element <= 0x0100 and (bool(_VR.match(first, 4)) or first[6:8] == b"\x00\x00")


class _Window:
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
            raise _truncated()
        self.data = os.pread(self.descriptor, max(count, FIRST_READ_BYTES), position)
        self.base = position
        if len(self.data) < count:
            raise _truncated()
        return 0


def _truncated() -> InputError:
    return InputError(
        "A file ends inside its header, so it was cut off. Copy or export it again.", code="truncated-file"
    )


def _inflated(descriptor: int, start: int, size: int) -> _Window:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(os.pread(descriptor, size - start, start), MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise InputError(
            "A file's deflated content is damaged. Copy or export it again.", code="damaged-file"
        ) from error
    if inflater.unconsumed_tail:
        raise InputError(
            "A file inflates to more than a gigabyte, which no slice needs; it was left alone.",
            code="declares-too-much",
        )
    return _Window(-1, data, len(data))


def _walk_meta(window: _Window, position: int) -> tuple[dict[int, bytes], int]:
    """The file meta information (PS3.10, 7.1), always explicit little endian, and where it ends."""
    values: dict[int, bytes] = {}
    while position + 8 <= window.size:
        place = window.at(position, 8)
        group, element = struct.unpack_from("<HH", window.data, place)
        vr = window.data[place + 4 : place + 6]
        if group != 2 or not _VR.fullmatch(vr):
            break
        if vr in LONG_VRS:
            place = window.at(position, 12)
            length, head = struct.unpack_from("<I", window.data, place + 8)[0], 12
        else:
            length, head = struct.unpack_from("<H", window.data, place + 6)[0], 8
        if length <= 256:
            place = window.at(position + head, length)
            values[group << 16 | element] = window.data[place : place + length]
        position += head + length
        if position > window.size:
            raise _truncated()
    return values, position


def _is_implicit(window: _Window, start: int, *, stated: bool) -> bool:
    """Whether elements carry no VR: what the bytes show goes before what the file states, as some files lie."""
    if start + 8 > window.size:
        return stated
    place = window.at(start, 8)
    return not _VR.fullmatch(window.data, place + 4, place + 6)


def _walk(
    window: _Window, position: int, values: dict[int, bytes], *, implicit: bool, big: bool
) -> tuple[int | None, int, int | None]:
    """Put the wanted top-level values into ``values``; return the pixel data's tag, offset and length."""
    wanted = tags.WANTED
    order = ">" if big else "<"
    two_shorts, long, short = (struct.Struct(order + form).unpack_from for form in ("HH", "I", "H"))
    # One entry for each open sequence or item of undefined length: whether it is an item, and its coding.
    open_levels: list[tuple[bool, bool]] = []
    count = 0
    size = window.size
    while position + 8 <= size:
        count += 1
        if count > MAX_ELEMENTS:
            raise InputError(
                "A file has more elements than any image needs; it was left alone.", code="declares-too-much"
            )
        place = window.at(position, 8)
        data = window.data
        group, element = two_shorts(data, place)
        tag = group << 16 | element
        if group == 0xFFFE:
            length = long(data, place + 4)[0]
            position += 8
            if tag == _ITEM:
                if length == UNDEFINED_LENGTH:
                    _open(open_levels, is_item=True, implicit=implicit)
                else:
                    position += length
            elif tag in (_ITEM_END, _SEQUENCE_END) and open_levels:
                is_item, implicit = open_levels.pop()
                if is_item is not (tag == _ITEM_END):
                    raise _malformed()
            continue
        if open_levels and not open_levels[-1][0]:
            raise _malformed()
        vr = b""
        if implicit:
            length, head = long(data, place + 4)[0], 8
        else:
            vr = data[place + 4 : place + 6]
            if vr in LONG_VRS:
                place = window.at(position, 12)
                data = window.data
                length, head = long(data, place + 8)[0], 12
            else:
                length, head = short(data, place + 6)[0], 8
        position += head
        if not open_levels and tag in tags.PIXEL_DATA:
            return tag, position, None if length == UNDEFINED_LENGTH else length
        if tag in tags.PRESENCE and length and not open_levels:
            values[tag] = PRESENT
        if length == UNDEFINED_LENGTH:
            _open(open_levels, is_item=False, implicit=implicit)
            # PS3.5, 6.2.2 note 2: a value of unknown VR and undefined length is a sequence in implicit coding.
            implicit = implicit or vr == b"UN"
            continue
        if tag in wanted and not open_levels and length <= MAX_VALUE_BYTES and tag not in tags.PRESENCE:
            place = window.at(position, length)
            values[tag] = window.data[place : place + length]
        position += length
    # Fewer bytes than an element's head are padding where they are zero, and the rest of an element where not.
    if position > size or open_levels or any(window.data[window.at(position, size - position) :][: size - position]):
        raise _truncated()
    return None, position, None


def _open(levels: list[tuple[bool, bool]], *, is_item: bool, implicit: bool) -> None:
    if len(levels) >= 2 * MAX_DEPTH:
        raise InputError(
            f"A file nests sequences more than {MAX_DEPTH} deep, as files made to crash a reader do; it was left "
            "alone.",
            code="nested-too-deep",
        )
    levels.append((is_item, implicit))


def _malformed() -> InputError:
    return InputError("A file's header is malformed. Copy or export it again.", code="damaged-file")
