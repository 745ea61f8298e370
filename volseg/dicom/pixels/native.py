"""Reading uncompressed pixel data directly into its array."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.file.header import DEFLATED, opened
from volseg.dicom.pixels.layout import PixelLayout, truncated
from volseg.dicom.pixels.words import values_in_place
from volseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_native(layout: PixelLayout, out: NDArray[Any]) -> None:
    """Read all frames of an uncompressed file into ``out``, without a copy in between.

    Args:
        layout: of a file in an uncompressed syntax.
        out: (frames, rows, columns), contiguous, of ``layout.dtype``: usually a slice of the volume.

    Raises:
        InputError: the file ends before its last pixel, or its deflated stream is damaged.
        FileError: the file can't be read.
    """
    target = out.reshape(-1).view(np.uint8).data
    with opened(layout.path) as descriptor:
        if layout.syntax == DEFLATED:
            _inflate_into(descriptor, layout, target)
        else:
            _read_into(descriptor, layout.offset, target)
            if layout.big_endian:
                _swap(descriptor, layout, out)
    values_in_place(out, layout)


def _read_into(descriptor: int, offset: int, target: memoryview) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(descriptor, [target[done:]], offset + done)
        if not count:
            raise truncated()
        done += count


def _swap(descriptor: int, layout: PixelLayout, out: NDArray[Any]) -> None:
    if out.dtype.itemsize > 1:
        out.byteswap(inplace=out.dtype.isnative)
        return
    # Bytes that were written as 16-bit words (VR OW) are swapped in pairs (PS3.5, A.3 and 8.1.1).
    if os.pread(descriptor, 2, layout.offset - 8) == b"OW":
        flat = out.reshape(-1)
        if flat.size % 2:
            # The last pixel's partner is the padding byte, so it lies one byte further on.
            last = os.pread(descriptor, 1, layout.offset + flat.size)
            if not last:
                raise truncated()
            flat[:-1].view(np.uint16).byteswap(inplace=True)
            flat[-1] = last[0]
        else:
            flat.view(np.uint16).byteswap(inplace=True)


def _inflate_into(descriptor: int, layout: PixelLayout, target: memoryview) -> None:
    """Inflate no more than the pixels need (PS3.5, A.5); the header's reader has bounded the whole."""
    start = os.pread(descriptor, 144, 0)
    tag, vr, length, value = struct.unpack("<I2sHI", start[132:144]) if len(start) == 144 else (0, b"", 0, 0)
    if (tag, vr, length) != (0x00000002, b"UL", 4):  # (0002,0000), which PS3.10, 7.1 makes mandatory
        raise InputError("A deflated file has no file meta information. Export it again.", code="damaged-file")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        stream = inflater.decompress(
            os.pread(descriptor, os.fstat(descriptor).st_size, 144 + value), layout.offset + len(target)
        )
    except zlib.error as error:
        raise InputError(
            "A file's deflated content is damaged. Copy or export it again.", code="damaged-file"
        ) from error
    if len(stream) < layout.offset + len(target):
        raise truncated()
    target[:] = stream[layout.offset :]
