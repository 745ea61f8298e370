"""The pixel layout of one file, validated before memory is allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.file import header as dicom_header
from volseg.dicom.file import tags
from volseg.errors import InputError
from volseg.volume import MAX_VOXELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.dicom.file.header import Header

ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
WHOLE_WORD_SYNTAXES = frozenset({*dicom_header.UNCOMPRESSED, ENCAPSULATED_UNCOMPRESSED, RLE_LOSSLESS, DEFLATED_FRAMES})
"""Syntaxes that keep each pixel's whole word, so that the unused bits of PS3.5, 8.1.1 are still there."""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The pixel layout of one file (PS3.3, C.7.6.3; PS3.5, 8).

    Args:
        path: the file.
        syntax: the transfer syntax.
        frames: images in the file.
        rows: of each frame.
        columns: of each frame.
        bits_allocated: the size of a word: 8, 16 or 32, and 64 for floats.
        bits_stored: how many bits of a word are the value.
        high_bit: the place of the value's highest bit.
        signed: whether the value is in two's complement.
        floating: whether words are IEEE floats (PS3.3, C.7.6.24 and C.7.6.25).
        big_endian: the byte order of words.
        offset: where the pixel data's value begins in the file, or in the inflated stream of a deflated one.
        length: the value's length in bytes; None when undefined, as in every compressed syntax.
        file_size: the size of the file or inflated stream.
        single_bits: whether the file allocates one bit for each pixel, which is decoded to a byte of 0 or 1; such bytes
            are the words then.
    """

    path: Path
    syntax: str
    frames: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    floating: bool
    big_endian: bool
    offset: int
    length: int | None
    file_size: int
    single_bits: bool = False

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of the stored values, in this machine's byte order."""
        kind = "f" if self.floating else "i" if self.signed else "u"
        return np.dtype(f"{kind}{self.bits_allocated // 8}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return self.frames, self.rows, self.columns

    @property
    def frame_bytes(self) -> int:
        """The size of one decoded frame."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def is_native(self) -> bool:
        """Whether the pixels are uncompressed."""
        return self.syntax in dicom_header.UNCOMPRESSED

    @property
    def is_addressable(self) -> bool:
        """Whether each frame can be read without those before it.

        Not so in a deflated stream, nor where bytes were swapped in pairs, which may span two frames.
        """
        return (
            self.is_native
            and self.syntax != dicom_header.DEFLATED
            and not (self.big_endian and self.bits_allocated == 8)
        )

    def part(self, first: int, count: int) -> PixelLayout:
        """The layout of ``count`` frames from ``first`` on, of an addressable file."""
        if count == self.frames:
            return self
        length = count * self.frame_bytes
        return replace(self, frames=count, offset=self.offset + first * self.frame_bytes, length=length)

    @property
    def keeps_words(self) -> bool:
        """Whether each word arrives as it was stored, with what its unused bits hold."""
        return self.syntax in WHOLE_WORD_SYNTAXES


def layout_of(header: Header) -> PixelLayout:
    """The layout of a file's pixels; nothing is read but the header.

    Raises:
        InputError: ``no-pixels``, the header has no pixel data or no rows and columns; ``not-grayscale``, several
            samples per pixel; ``unsupported-pixels``, a word or value of a size that volseg doesn't read;
            ``declares-too-much``, more pixels than the file holds; ``truncated-pixels``, the file ends too early.
    """
    rows, columns = header.unsigned(tags.ROWS), header.unsigned(tags.COLUMNS)
    if header.pixel_tag is None:
        raise InputError("A file has no pixel data, so there is no image in it.", code="no-pixels")
    if not rows or not columns:
        raise InputError("A file doesn't say how many rows and columns its image has.", code="no-pixels")
    if (header.unsigned(tags.SAMPLES_PER_PIXEL) or 1) != 1:
        raise InputError("A file has several samples per pixel, as colour images do.", code="not-grayscale")
    floating = header.pixel_tag != tags.INTEGER_PIXEL_DATA
    allocated = header.unsigned(tags.BITS_ALLOCATED) or 0
    stored = header.unsigned(tags.BITS_STORED) or allocated
    high = header.unsigned(tags.HIGH_BIT)
    layout = PixelLayout(
        path=header.path,
        syntax=header.syntax,
        frames=max(1, header.integer(tags.NUMBER_OF_FRAMES) or 1),
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=allocated if floating else stored,
        high_bit=stored - 1 if high is None else high,
        signed=not floating and header.unsigned(tags.PIXEL_REPRESENTATION) == 1,
        floating=floating,
        big_endian=header.big_endian,
        offset=header.pixel_offset,
        length=header.pixel_length,
        file_size=header.file_size,
    )
    _check_words(layout)
    _check_size(layout)
    return layout


def _check_words(layout: PixelLayout) -> None:
    sizes = (32, 64) if layout.floating else (8, 16, 32)
    if layout.bits_allocated not in sizes:
        raise InputError(
            f"A file allocates {layout.bits_allocated} bits for each pixel; volseg reads {', '.join(map(str, sizes))}.",
            code="unsupported-pixels",
        )
    if not layout.floating and not layout.bits_stored - 1 <= layout.high_bit < layout.bits_allocated:
        raise InputError(
            f"A file's header contradicts itself: {layout.bits_stored} bits stored below bit {layout.high_bit + 1} "
            f"of {layout.bits_allocated}. Export it again.",
            code="unsupported-pixels",
        )


def _check_size(layout: PixelLayout) -> None:
    if layout.frames * layout.rows * layout.columns > MAX_VOXELS:
        raise _declares_too_much()
    if not layout.is_native:
        return
    if layout.length is None:
        raise InputError("A file's uncompressed pixel data has no length. Export it again.", code="damaged-file")
    needed = layout.frames * layout.frame_bytes
    if layout.length < needed:
        raise _declares_too_much()
    if layout.offset + needed > layout.file_size:
        raise truncated()


def _declares_too_much() -> InputError:
    return InputError(
        "A header declares more pixels than its file can hold. The file is damaged or made to do harm; "
        "export it again.",
        code="declares-too-much",
    )


def truncated() -> InputError:
    """The error for a file that ends before its last pixel."""
    return InputError(
        "A file ends before its last pixel, so it was cut off. Copy or export it again.", code="truncated-pixels"
    )


def stored_dtype(layouts: Sequence[PixelLayout]) -> np.dtype[np.generic]:
    """The one type that holds the stored values of all these files."""
    return np.result_type(*{layout.dtype for layout in layouts})
