"""NRRD on disk (``.nrrd``): a magic line, fields, a blank line, voxels; or the voxels in a file that a field names, as
``.nhdr`` has them.

The grammar is that of https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.files import open_plain
from volseg.grid import Grid
from volseg.volume.bounds import damaged
from volseg.volume.raw import (
    FROM_END,
    GZIP,
    NUMBER,
    Stored,
    data_beside,
    header_lines,
    placed,
    stored,
    unsupported,
    whole_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = re.compile(r"NRRD(?:00\.01|000[1-5])")
_TYPES = {
    name: dtype
    for dtype, names in {
        "i1": "char, signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(", ")
}
_SIGNS = {
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
}  # fmt: skip
"""From the anatomical spaces to RAS."""
_READ = {
    "type", "dimension", "sizes", "space", "spacedirections", "spaceorigin", "spaceunits", "kinds", "endian", "encoding",
    "datafile", "lineskip", "byteskip", "spacings", "axismins", "axismaxs",
}  # fmt: skip
_REMARKS = {
    "content", "number", "min", "max", "oldmin", "oldmax", "labels", "units", "sampleunits", "centers", "centerings",
    "thicknesses", "measurementframe", "spacedimension", "blocksize",
}  # fmt: skip
_CHANNEL_KINDS = {
    "???", "none", "list", "vector", "scalar", "stub", "point", "covariant-vector", "normal", "2-vector", "3-vector",
    "4-vector", "3-gradient", "3-normal", "3-color", "rgb-color", "4-color", "rgba-color",
}  # fmt: skip
_SPACE_KINDS = {"???", "none", "domain", "space"}
_MM = {"", "???", "mm", "millimeter", "millimeters", "millimetre", "millimetres"}
_QUOTED = re.compile(r'(?:\s*"[^"]*")*')
_VECTOR = re.compile(rf"none|\(\s*({NUMBER})\s*,\s*({NUMBER})\s*,\s*({NUMBER})\s*\)")


def read_nrrd(path: Path) -> Stored:
    """What the header of an NRRD says of its voxels.

    Raises:
        FileError, InputError, GeometryError: as ``volseg.volume.read_header``.
    """
    with open_plain(path) as file:
        fields = _fields(path, header_lines(path, file))
        end = file.tell()
    dimension, sizes = whole_numbers(fields.get("dimension", "")), whole_numbers(fields.get("sizes", ""))
    if len(dimension) != 1 or len(sizes) != dimension[0] or not all(sizes):
        raise damaged(path, "has a header that makes no sense")
    if dimension[0] not in (3, 4):
        raise InputError(f"{path} has {dimension[0]} dimensions; volseg reads volumes.", code="not-a-volume", path=path)
    dtype = _TYPES.get(fields.get("type", "").lower())
    if dtype is None:
        raise unsupported(path, "stores a kind of voxel")
    endian = fields.get("endian", "little" if dtype in ("i1", "u1") else "").lower()
    if endian not in ("little", "big"):
        raise damaged(path, "has a header that makes no sense")
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise unsupported(path, "stores its voxels as text or in a rare packing")
    deflated = None if encoding == "raw" else GZIP
    data = data_beside(path, fields["datafile"]) if "datafile" in fields else path
    offset = _skipped(path, fields, 0 if "datafile" in fields else end, is_raw=deflated is None)
    vectors = _vectors(path, fields, len(sizes))
    channel_axis = vectors.index(None) if None in vectors else None
    grid = placed(path, lambda: _grid(path, fields, sizes, vectors))
    order = ">" if endian == "big" else "<"
    return stored(path, grid, sizes, channel_axis, np.dtype(order + dtype), data, offset, deflated)


def _fields(path: Path, lines: Iterator[str]) -> dict[str, str]:
    """The fields by their names in lower case without blanks, up to the blank line.

    Raises:
        InputError: the header doesn't end, or has an unknown field, or one twice.
    """
    if not _MAGIC.fullmatch(next(lines, "")):
        raise damaged(path, "is not what its name says")
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            return fields
        if line.startswith("#"):
            continue
        name, colon, value = line.partition(": ")
        name = name.lower().replace(" ", "") if colon and name.strip() == name else ""
        if name not in _READ | _REMARKS:
            if ":=" in line:  # a pair of key and value, which is a remark
                continue
            raise damaged(path, "has a header with a field that NRRD doesn't know")
        if name in fields:
            raise damaged(path, "has a header that can be read in two ways")
        fields[name] = value.strip(" \t")
    if "datafile" in fields:  # a header alone may end without a blank line
        return fields
    raise damaged(path, "is not what its name says: its header does not end")


def _skipped(path: Path, fields: dict[str, str], start: int, *, is_raw: bool) -> int:
    if fields.get("lineskip", "0") == "0":
        skipped = fields.get("byteskip", "0")
        if skipped == "-1" and is_raw:
            return FROM_END
        if whole_numbers(skipped) and (is_raw or skipped == "0"):
            return start + int(skipped)
    raise unsupported(path, "skips lines or bytes")


def _vectors(path: Path, fields: dict[str, str], axes: int) -> list[tuple[float, ...] | None]:
    """The direction of each axis, with the length of its step; None for the one that counts channels.

    Raises:
        GeometryError: they are not there, or are more or fewer than three.
        InputError: they make no sense.
    """
    if fields.get("space", "").lower() not in _SIGNS or "spacedirections" not in fields:
        raise GeometryError(
            f"{path} does not say which way its axes point in the patient. Convert it again from its source.",
            code="no-orientation",
            path=path,
        )
    text = fields["spacedirections"]
    found: list[tuple[float, ...] | None] = []
    while match := _VECTOR.match(text):
        found.append(None if match[0] == "none" else tuple(map(float, match.groups())))
        text = text[match.end() :].lstrip()
    kinds = fields.get("kinds", "??? " * axes).lower().split()
    if text or len(found) != axes or len(kinds) != axes or len(found) - found.count(None) != 3:
        raise damaged(path, "has axes that make no volume")
    for number, (vector, kind) in enumerate(zip(found, kinds, strict=True)):
        if kind not in (_CHANNEL_KINDS if vector is None else _SPACE_KINDS):
            raise unsupported(path, "has an axis of a kind")
        for name in ("spacings", "axismins", "axismaxs"):  # these place an axis that has no direction
            words = fields.get(name, "nan " * axes).lower().split()
            if len(words) != axes or (vector is not None and words[number] != "nan"):
                raise damaged(path, "has a header that can be read in two ways")
    return found


def _grid(path: Path, fields: dict[str, str], sizes: tuple[int, ...], vectors: list[tuple[float, ...] | None]) -> Grid:
    units = fields.get("spaceunits", "").lower()
    if not _QUOTED.fullmatch(units) or not set(re.findall(r'"([^"]*)"', units)) <= _MM:
        raise unsupported(path, "does not measure in mm")
    origin = _VECTOR.fullmatch(fields.get("spaceorigin", "(0,0,0)"))
    if origin is None or origin[0] == "none":
        raise damaged(path, "has a header that makes no sense")
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([vector for vector in vectors if vector is not None])
    affine[:3, 3] = [float(number) for number in origin.groups()]
    i, j, k = (size for size, vector in zip(sizes, vectors, strict=True) if vector is not None)
    return Grid((i, j, k), np.diag((*_SIGNS[fields["space"].lower()], 1)) @ affine)
