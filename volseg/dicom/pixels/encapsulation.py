"""Encapsulated pixel data (PS3.5, A.4): where each compressed frame lies in its file."""

from __future__ import annotations

import os
import struct
from itertools import pairwise

from volseg.dicom.pixels.layout import WHOLE_WORD_SYNTAXES, PixelLayout, truncated
from volseg.errors import InputError

MAX_FRAGMENTS = 1_000_000
END_OF_CODESTREAM = b"\xff\xd9"
"""EOI of JPEG and JPEG-LS (ISO 10918-1, B.1.1.3) and EOC of JPEG 2000 (ISO 15444-1, A.4.4) are the same marker."""
PADDING_BYTES = 16
"""How far from the end of its last fragment a codestream may end; the standard asks for one byte at most."""

_ITEM, _SEQUENCE_END = 0xE000FFFE, 0xE0DDFFFE  # as little-endian words

Span = tuple[int, int]
"""Offset and length in the file."""


def frame_spans(descriptor: int, layout: PixelLayout) -> list[list[Span]]:
    """The fragments of each frame.

    Raises:
        InputError: ``truncated-pixels`` where the file ends too early, ``damaged-file`` where the items make no sense.
    """
    table, fragments = _items(descriptor, layout)
    if len(fragments) < layout.frames:
        raise truncated()
    if layout.frames == 1:
        return [fragments]
    if len(fragments) == layout.frames:
        return [[fragment] for fragment in fragments]
    starts = _starts_by_table(table, fragments, layout) or _starts_by_marker(descriptor, fragments, layout)
    if len(starts) != layout.frames:
        raise _senseless()
    ends = [*starts[1:], len(fragments)]
    return [fragments[start:end] for start, end in zip(starts, ends, strict=True)]


def read_frame(descriptor: int, spans: list[Span], layout: PixelLayout) -> bytes:
    """One frame's codestream.

    Raises:
        InputError: ``truncated-pixels``: decoders often make up the rest of a codestream that ends too early, so the
            end is looked for first.
    """
    data = b"".join(os.pread(descriptor, length, offset) for offset, length in spans)
    if layout.syntax not in WHOLE_WORD_SYNTAXES and END_OF_CODESTREAM not in data[-PADDING_BYTES:]:
        raise truncated()
    return data


def _items(descriptor: int, layout: PixelLayout) -> tuple[tuple[int, ...], list[Span]]:
    """The basic offset table and the fragments."""
    if layout.length is not None:
        raise InputError("A file's compressed pixel data is not in fragments. Export it again.", code="damaged-file")
    position = layout.offset
    fragments: list[Span] = []
    table: tuple[int, ...] | None = None
    while True:
        head = os.pread(descriptor, 8, position)
        if not head and fragments:
            break  # some writers leave the delimiter out; whether the last frame is whole is seen by its own end
        if len(head) < 8:
            raise truncated()
        tag, length = struct.unpack("<II", head)
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM or length == 0xFFFFFFFF or len(fragments) >= MAX_FRAGMENTS:
            raise _senseless()
        if position + 8 + length > layout.file_size:
            raise truncated()
        if table is None:
            raw = os.pread(descriptor, min(length, 4 * MAX_FRAGMENTS), position + 8)
            table = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
        else:
            fragments.append((position + 8, length))
        position += 8 + length
    return table or (), fragments


def _starts_by_table(table: tuple[int, ...], fragments: list[Span], layout: PixelLayout) -> list[int]:
    """The first fragment of each frame by the basic offset table, which counts from the first fragment's item."""
    if len(table) != layout.frames:
        return []
    number_at = {offset - fragments[0][0]: number for number, (offset, _) in enumerate(fragments)}
    starts = [number_at.get(offset, -1) for offset in table]
    return starts if starts[0] == 0 and all(a < b for a, b in pairwise(starts)) else []


def _starts_by_marker(descriptor: int, fragments: list[Span], layout: PixelLayout) -> list[int]:
    """The first fragment of each frame: the one after a codestream's end."""
    if layout.syntax in WHOLE_WORD_SYNTAXES:
        return []  # no such marker; RLE and deflated frames have one fragment each (PS3.5, A.4.2 and A.4.13)
    starts = [0]
    for number, (offset, length) in enumerate(fragments[:-1]):
        tail = os.pread(descriptor, min(length, PADDING_BYTES), offset + max(0, length - PADDING_BYTES))
        if END_OF_CODESTREAM in tail:
            starts.append(number + 1)
    return starts


def _senseless() -> InputError:
    return InputError(
        "The fragments of a file's compressed pixel data make no sense. Copy or export it again.", code="damaged-file"
    )
