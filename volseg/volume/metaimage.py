"""MetaImage on disk (``.mha``, ``.mhd``): MetaIO's header of ``Key = Value`` lines, whose last names the voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import InputError
from volseg.files import open_plain
from volseg.grid import Grid
from volseg.volume.bounds import damaged
from volseg.volume.raw import (
    FROM_END,
    ZLIB_OR_GZIP,
    Stored,
    data_beside,
    header_lines,
    numbers,
    placed,
    stored,
    unsupported,
    whole_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
"""A long has four bytes in MetaIO, whatever the machine."""
_OFFSET = ("Offset", "Position", "Origin", "ImagePosition")
_MATRIX = ("TransformMatrix", "Orientation", "Rotation")
_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_KEYS = {
    *_OFFSET, *_MATRIX, *_ORDER, "NDims", "DimSize", "ElementType", "ElementSpacing", "ElementSize", "BinaryData",
    "CompressedData", "HeaderSize", "ElementNumberOfChannels", "ElementToIntensityFunctionSlope",
    "ElementToIntensityFunctionOffset", "DistanceUnits", "ObjectType", "ElementDataFile",
}  # fmt: skip
"""What tells of the voxels or their place (MetaIO, metaObject.cxx and metaImage.cxx); the others are remarks."""
_LAST = "ElementDataFile"
_KNOWN = {key.lower(): key for key in _KEYS}
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


def read_metaimage(path: Path) -> Stored:
    """What the header of a MetaImage says of its voxels.

    Raises:
        FileError, InputError, GeometryError: as ``volseg.volume.read_header``.
    """
    with open_plain(path) as file:
        fields = _fields(path, header_lines(path, file))
        end = file.tell()
    if fields.get("ObjectType", "Image") != "Image" or not fields.get("NDims", "").isdecimal():
        raise damaged(path, "has a header that is not of an image")
    if int(fields["NDims"]) != 3:
        raise InputError(
            f"{path} has {int(fields['NDims'])} dimensions; volseg reads volumes.", code="not-a-volume", path=path
        )
    size = whole_numbers(fields.get("DimSize", ""))
    channels = whole_numbers(fields.get("ElementNumberOfChannels", "1"))
    if len(size) != 3 or len(channels) != 1 or not all((*size, *channels)):
        raise damaged(path, "has a header that makes no sense")
    if not _is_true(path, fields, "True", "BinaryData"):
        raise unsupported(path, "stores its voxels as text")
    if fields.get("ElementType") not in _TYPES:
        raise unsupported(path, "stores a kind of voxel")
    order = ">" if _is_true(path, fields, "False", *_ORDER) else "<"
    deflated = ZLIB_OR_GZIP if _is_true(path, fields, "False", "CompressedData") else None
    local = fields[_LAST] in ("LOCAL", "Local", "local")
    data = path if local else data_beside(path, fields[_LAST])
    offset = end if local else 0
    match fields.get("HeaderSize", "0"):
        case "0":
            pass
        case "-1" if deflated is None:
            offset = FROM_END
        case skipped if whole_numbers(skipped) and not local:
            offset = int(skipped)
        case _:
            raise damaged(path, "has a header that makes no sense")
    return stored(
        path, placed(path, lambda: _grid(path, fields, size)), (*channels, *size), 0,
        np.dtype(order + _TYPES[fields["ElementType"]]), data, offset, deflated,
    )  # fmt: skip


def _fields(path: Path, lines: Iterator[str]) -> dict[str, str]:
    """The keys that tell of the voxels, with their values, up to the last.

    Raises:
        InputError: the header doesn't end, has a key twice, or one that MetaIO takes for another than a person does.
    """
    fields: dict[str, str] = {}
    for line in lines:
        key, sign, _ = line.replace(":", "=").partition("=")  # either ends a key
        value = line[len(key) + 1 :].strip(" \t")
        if not sign and key.strip():  # MetaIO takes such a line and the next for one
            raise damaged(path, "has a header that can be read in two ways")
        key = key.strip(" \t")
        if key.replace(" ", "").lower() not in _KNOWN:
            continue
        if key not in _KEYS or key in fields or not value or value.startswith(("=", ":")):
            raise damaged(path, "has a header that can be read in two ways")
        fields[key] = value
        if key == _LAST:
            return fields
    raise damaged(path, "is not what its name says: its header does not end")


def _is_true(path: Path, fields: dict[str, str], default: str, *keys: str) -> bool:
    words = {fields[key].lower() for key in keys if key in fields} or {default.lower()}
    if not words <= {*_TRUE, *_FALSE} or len({word in _TRUE for word in words}) > 1:
        raise damaged(path, "has a header that makes no sense")
    return not words.isdisjoint(_TRUE)


def _grid(path: Path, fields: dict[str, str], size: tuple[int, ...]) -> Grid:
    if fields.get("DistanceUnits", "mm") not in ("mm", "?"):
        raise unsupported(path, "does not measure in mm")
    slope = numbers(fields.get("ElementToIntensityFunctionSlope", "1"), 1)
    inter = numbers(fields.get("ElementToIntensityFunctionOffset", "0"), 1)
    if (slope, inter) != ((1.0,), (0.0,)):
        raise unsupported(path, "scales its voxels")
    spacing = _numbers(path, fields, (1.0,) * 3, "ElementSpacing" if "ElementSpacing" in fields else "ElementSize")
    if min(spacing) <= 0:
        raise damaged(path, "has a header that makes no sense")
    matrix = np.reshape(_numbers(path, fields, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), *_MATRIX), (3, 3)).T
    origin = _numbers(path, fields, (0.0,) * 3, *_OFFSET)
    return Grid.from_lps((size[0], size[1], size[2]), origin, matrix, spacing)


def _numbers(path: Path, fields: dict[str, str], default: tuple[float, ...], *keys: str) -> tuple[float, ...]:
    """What the keys say, each of which is another word for the same."""
    found = {numbers(fields[key], len(default)) for key in keys if key in fields} or {default}
    first, *others = found
    if first is None or others:
        raise damaged(path, "has a header that makes no sense")
    return first
