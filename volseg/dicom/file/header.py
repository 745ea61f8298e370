"""DICOM files read up to their pixel data: the header, and nested elements that a caller asks for."""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.file import private_tags, tags
from volseg.dicom.file.elements import (
    FIRST_READ_BYTES,
    LONG_VRS,
    UID,
    VR,
    ElementValues,
    Item,
    Wanted,
    Window,
    truncated,
    walk,
)
from volseg.errors import FileError, InputError
from volseg.files import plain_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_BYTES = 2**28
"""Of a file before its pixel data. The contours of a hundred structures on 500 slices take some 100 MB."""
MAX_VALUE_BYTES = 64 * 1024
"""Of one element that is kept. The longest kept are lists of numbers and code strings."""
MAX_PRIVATE_BYTES = 256
"""Of a private element that is kept, of which a file may have thousands. Those wanted are a few numbers or a name."""
MAX_INFLATED_BYTES = 2**29
"""Of a file in the deflated transfer syntax (PS3.5, A.5). Inflating takes twice as much for a moment."""
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})

_PRIVATE = private_tags.all_places(private_tags.WANTED) | private_tags.creators(private_tags.CSA_IMAGE_HEADER)
WANTED = Wanted(
    (tags.WANTED - tags.PRESENCE) | _PRIVATE,
    presence=tags.PRESENCE,
    max_bytes=MAX_VALUE_BYTES,
    max_private_bytes=MAX_PRIVATE_BYTES,
)


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
    with opened(path) as descriptor:
        return _read(path, descriptor)


def read_items(header: Header, wanted: Wanted) -> Item:
    """Read a file's elements, nested ones too, up to its pixel data.

    Args:
        header: of the file, as ``read_header`` gives it.
        wanted: what to keep.

    Raises:
        InputError: ``declares-too-much``, ``nested-too-deep``, ``damaged-file`` or ``truncated-file``.
        FileError: the file can't be read.
    """
    end = header.file_size if header.pixel_tag is None else header.pixel_offset
    if end > MAX_BYTES:
        raise InputError(
            f"A file has more than {MAX_BYTES // 2**20} MiB beside any pixels, more than its kind needs; it was left "
            "alone.",
            code="declares-too-much",
        )
    with opened(header.path) as descriptor:
        window, start, _, _, implicit = _data_set(descriptor, b"", has_preamble=header.has_preamble)
        window.at(start, end - start)  # all of it at once
        window.size = end
        return walk(window, start, wanted, {}, implicit=implicit, big=header.big_endian)[0]


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a DICOM file to read.

    Raises:
        FileError: it can't be opened, or reading it inside the block fails; its name, which may be a patient's, is not
            told.
    """
    try:
        descriptor = plain_descriptor(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        if isinstance(error, FileError):
            if error.path is None:
                raise
            raise FileError("A file can't be read: it is no plain file.", code=error.code) from None
        raise FileError(f"A file can't be read: {error.strerror}.", code="cannot-read") from error


def _data_set(descriptor: int, first: bytes, *, has_preamble: bool) -> tuple[Window, int, dict[int, bytes], str, bool]:
    """The file behind its meta information, inflated if need be, where the data set begins in it, the meta elements,
    the transfer syntax, and whether elements carry no VR."""
    size = os.fstat(descriptor).st_size
    window = Window(descriptor, first, size)
    meta, start = _walk_meta(window, 132 if has_preamble else 0)
    syntax = meta.get(tags.TRANSFER_SYNTAX_UID, b"").decode("latin-1").strip(" \x00")
    if syntax == DEFLATED:
        window, start = _inflated(descriptor, start, size), 0
    return window, start, meta, syntax, _is_implicit(window, start, stated=syntax == IMPLICIT_LITTLE)


def _read(path: Path, descriptor: int) -> Header:
    first = os.pread(descriptor, FIRST_READ_BYTES, 0)
    has_preamble = first[128:132] == b"DICM"
    if not has_preamble and not _looks_bare(first):
        raise NotDicomError("The file is no DICOM object.")
    values: dict[int, bytes] = {}
    try:
        window, start, meta, syntax, implicit = _data_set(descriptor, first, has_preamble=has_preamble)
        big = syntax == EXPLICIT_BIG
        if not UID.fullmatch(syntax):
            syntax = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE
        _, pixels = walk(window, start, WANTED, values, implicit=implicit, big=big)
        values |= meta
        completed = _complete_uids(values)
    except InputError as error:
        if not has_preamble:
            raise NotDicomError("The file is no DICOM object.") from None
        uid = values.get(tags.SERIES_INSTANCE_UID, b"").decode("latin-1").strip(" \x00")
        raise DamagedHeaderError(error, uid if UID.fullmatch(uid) else "") from error
    header = Header(
        path, values, syntax, big, pixels.tag, pixels.offset, pixels.length, window.size, has_preamble, completed
    )
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
    return group in (2, 8) and element <= 0x0100 and (bool(VR.match(first, 4)) or first[6:8] == b"\x00\x00")


def _inflated(descriptor: int, start: int, size: int) -> Window:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(os.pread(descriptor, size - start, start), MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise InputError(
            "A file's deflated content is damaged. Copy or export it again.", code="damaged-file"
        ) from error
    if inflater.unconsumed_tail:
        raise InputError(
            "A file inflates to more than half a gigabyte, which no slice needs; it was left alone.",
            code="declares-too-much",
        )
    return Window(-1, data, len(data))


def _walk_meta(window: Window, position: int) -> tuple[dict[int, bytes], int]:
    """The file meta information (PS3.10, 7.1), always explicit little endian, and where it ends."""
    values: dict[int, bytes] = {}
    while position + 8 <= window.size:
        place = window.at(position, 8)
        group, element = struct.unpack_from("<HH", window.data, place)
        vr = window.data[place + 4 : place + 6]
        if group != 2 or not VR.fullmatch(vr):
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
            raise truncated()
    return values, position


def _is_implicit(window: Window, start: int, *, stated: bool) -> bool:
    """Whether elements carry no VR: what the bytes show goes before what the file states, as some files lie."""
    if start + 8 > window.size:
        return stated
    place = window.at(start, 8)
    return not VR.fullmatch(window.data, place + 4, place + 6)
