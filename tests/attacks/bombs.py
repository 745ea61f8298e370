"""Streams of zeros that take little room, made without compressing gigabytes."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path

GIGABYTES = 3_800 * 2**20
"""More than a command may take, and less than needs the 64-bit form of a zip."""
BLOCK = 2**22


@cache
def deflated(first: bytes, zeros: int) -> tuple[bytes, int]:
    """A raw deflate stream of some bytes and so many zeros behind them, and its CRC."""
    pack = zlib.compressobj(9, wbits=-15)
    begin = pack.compress(first) + pack.flush(zlib.Z_FULL_FLUSH)
    # After a full flush every block of zeros is the same bytes.
    block = pack.compress(bytes(BLOCK)) + pack.flush(zlib.Z_FULL_FLUSH)
    stream = begin + block * (zeros // BLOCK) + pack.flush()
    crc = zlib.crc32(first)
    for _ in range(zeros // BLOCK):
        crc = zlib.crc32(bytes(BLOCK), crc)
    return stream, crc


def write_zip(path: Path, name: str, first: bytes, zeros: int) -> None:
    """A zip of one member that begins with some bytes and goes on with zeros; more may be appended by ``zipfile``."""
    packed, crc = deflated(first, zeros)
    size, encoded = len(first) + zeros // BLOCK * BLOCK, name.encode()
    fields = struct.pack("<5H3I2H", 20, 0, 8, 0, 33, crc, len(packed), size, len(encoded), 0)
    local = b"PK\3\4" + fields + encoded + packed
    central = b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<3H2I", 0, 0, 0, 0, 0) + encoded
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)
