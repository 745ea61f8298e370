"""One prepared case as a file: plain arrays behind a header, a checksum at the end; nothing in it can run.

The file is: a line that names the format; the length of the header (4 bytes, little endian); the header, JSON; the
arrays as they lie in memory, each at a multiple of 64 bytes; XXH3 (128 bits) of all before it. Arrays are mapped, so
that a patch reads only its part.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import TypeAdapter

from volseg.atomic import atomic_path
from volseg.errors import VolsegError
from volseg.files import plain_descriptor

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"volseg prepared case 1\n"
ALIGNMENT = 64
CHECKSUM_BYTES = 16
MAX_HEADER_BYTES = 2**20
DTYPES = frozenset({"bool", "uint8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"})
CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class Part:
    """Where one array lies in a file.

    Args:
        name: the key in the case.
        place: its number in a list under that key; None where it stands alone.
        stored: the type of its numbers in the file.
        given: the type that they had, and are given back as.
        shape: of the array.
        offset: where it begins.
    """

    name: str
    place: int | None
    stored: str
    given: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * np.dtype(self.stored).itemsize


_HEADER = TypeAdapter(tuple[str, tuple[Part, ...]])
"""The key of a case, and its arrays."""


@dataclass(frozen=True)
class Array:
    """Numbers that are kept in fewer bytes than they are given back in, where that loses nothing.

    Args:
        numbers: as they are kept.
        given: the type that they are given back as.
    """

    numbers: NDArray[np.generic]
    given: str

    @classmethod
    def of(cls, value: Any) -> Array | None:
        """A tensor or array, whole numbers from 0 to 255 as bytes; None for anything else."""
        if isinstance(value, torch.Tensor):
            value = torch.as_tensor(value).detach().cpu().as_subclass(torch.Tensor).numpy()
        if not isinstance(value, np.ndarray) or value.dtype.name not in DTYPES:
            return None
        numbers, given = np.ascontiguousarray(value), value.dtype.name
        if numbers.dtype.kind in "fiu" and numbers.dtype != np.uint8 and numbers.size and _may_be_bytes(numbers):
            with np.errstate(invalid="ignore"):
                small = numbers.astype(np.uint8)
            if np.array_equal(small, numbers):
                numbers = small
        return cls(numbers, given)

    def tensor(self) -> torch.Tensor:
        """As a tensor on the same memory."""
        return torch.from_numpy(self.numbers)


def _may_be_bytes(numbers: NDArray[np.generic]) -> bool:
    low, high = float(numbers.min()), float(numbers.max())
    return low >= 0 and high <= 255  # NaN is neither


Case = Mapping[str, Array | Sequence[Array]]
"""A prepared case: under each key an array, or several in a list."""


def as_case(item: Mapping[Any, Any]) -> Case:
    """What of a transformed case is numbers; the rest (names of files, headers) is left out."""
    found: dict[str, Array | Sequence[Array]] = {}
    for name, value in item.items():
        if isinstance(value, (list, tuple)) and value:
            several = [Array.of(one) for one in value]
            kept = [one for one in several if one is not None]
            if len(kept) == len(value):
                found[str(name)] = kept
        else:
            array = Array.of(value)
            if array is not None:
                found[str(name)] = array
    return found


def size_of(case: Case) -> int:
    """What a case takes, in bytes."""
    return sum(array.numbers.nbytes for array in _arrays(case))


def _arrays(case: Case) -> list[Array]:
    return [one for value in case.values() for one in ([value] if isinstance(value, Array) else value)]


def write_entry(path: Path, key: str, case: Case) -> None:
    """Write a case atomically.

    Raises:
        DiskFullError: no space is left.
        FileError: the file can't be written.
    """
    from xxhash import xxh3_128

    parts, arrays, offset = [], [], 0
    for name, value in case.items():
        for place, array in [(None, value)] if isinstance(value, Array) else list(enumerate(value)):
            parts.append(Part(name, place, array.numbers.dtype.name, array.given, array.numbers.shape, offset))
            arrays.append(array.numbers)
            offset = _aligned(offset + array.numbers.nbytes)
    header = _HEADER.dump_json((key, tuple(parts)))
    checksum = xxh3_128()
    with atomic_path(path) as partial, partial.open("xb") as file:
        partial.chmod(0o600)

        def put(content: bytes | memoryview) -> None:
            checksum.update(content)
            file.write(content)

        put(MAGIC + len(header).to_bytes(4, "little") + header)
        put(bytes(_aligned(file.tell()) - file.tell()))
        begun = file.tell()
        for part, numbers in zip(parts, arrays, strict=True):
            put(bytes(begun + part.offset - file.tell()))
            if numbers.size:
                put(numbers.reshape(-1).view(np.uint8).data)
        file.write(checksum.digest())


def read_entry(path: Path, key: str, *, verify: bool) -> Case | None:
    """A case on mapped memory, which a write doesn't carry to the file; None where there is none, or it is damaged.

    Args:
        path: the file.
        key: that it has to be of.
        verify: whether the checksum is reckoned; without, only what leads to the arrays is checked.
    """
    from xxhash import xxh3_128

    try:
        descriptor = plain_descriptor(path, follow=False)
        try:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        finally:
            os.close(descriptor)
        view = memoryview(mapped)
        data = view[: len(view) - CHECKSUM_BYTES]
        if verify:
            checksum = xxh3_128()
            for begin in range(0, len(data), CHUNK_BYTES):
                checksum.update(data[begin : begin + CHUNK_BYTES])
            if checksum.digest() != view[len(data) :]:
                return None
        start = len(MAGIC) + 4
        length = int.from_bytes(data[len(MAGIC) : start], "little")
        if data[: len(MAGIC)] != MAGIC or length > MAX_HEADER_BYTES:
            return None
        told, parts = _HEADER.validate_json(bytes(data[start : start + length]))
        begun = _aligned(start + length)
        if told != key:
            return None
        found: dict[str, Array | list[Array]] = {}
        for part in parts:
            if {part.stored, part.given} - DTYPES or part.offset < 0 or min(part.shape, default=0) < 0:
                return None
            end = begun + part.offset + part.size
            if end > len(data):
                return None
            numbers = np.frombuffer(data[begun + part.offset : end], part.stored).reshape(part.shape)
            array = Array(numbers, part.given)
            if part.place is None:
                found[part.name] = array
            else:
                several = found.setdefault(part.name, [])
                if not isinstance(several, list) or len(several) != part.place:
                    return None
                several.append(array)
    except (OSError, ValueError, VolsegError):  # pydantic's is a ValueError, and so is an empty file's
        return None
    return found


def loaded(case: Case) -> Case:
    """A case in memory of its own."""
    return {
        name: _copy(value) if isinstance(value, Array) else [_copy(one) for one in value]
        for name, value in case.items()
    }


def _copy(array: Array) -> Array:
    return Array(array.numbers.copy(), array.given)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
