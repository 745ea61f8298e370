"""Voxels as NRRD and MetaImage store them: raw or deflated, behind a header of text or in a file beside it.

Such a header may name the file of its voxels, and a stranger's could name any file of this machine. So volseg reads both
formats itself, by a grammar no wider than that of ITK's readers: what ITK could take for something else is refused.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError

from volseg.errors import FileError, GeometryError, InputError
from volseg.files import open_plain
from volseg.grid import Grid
from volseg.volume.bounds import MAX_DEFLATE_RATIO, damaged, require_bounded
from volseg.volume.model import ImageHeader, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MAX_HEADER_BYTES = 2**22
"""A header is some hundred bytes of text before the voxels, and 100 kB where it describes a hundred segments."""
READ_BYTES = 2**20
FROM_END = -1
"""In the place of an offset: the voxels are the last bytes of their file."""
_INFLATE_ERROR = cast("type[Exception]", IsalError)
GZIP, ZLIB_OR_GZIP = 31, 47
"""What zlib's ``inflateInit2`` calls them."""
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBERS = re.compile(rf"{NUMBER}(?:[ \t]+{NUMBER})*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f]")
_WHOLE_NUMBERS = re.compile(r"[0-9]{1,18}(?:[ \t]+[0-9]{1,18})*")


@dataclass(frozen=True)
class Stored:
    """What a header says, checked against the file that holds the voxels.

    Args:
        path: of the image.
        grid: where the voxels lie.
        sizes: of each axis, the fastest first.
        channel_axis: which of them counts channels; None where there is one.
        dtype: of a voxel, in its byte order.
        data: the file that holds the voxels: ``path``, or one beside it.
        offset: where they begin in it, or ``FROM_END``.
        deflated: ``GZIP`` or ``ZLIB_OR_GZIP``; None where they are raw.
    """

    path: Path
    grid: Grid
    sizes: tuple[int, ...]
    channel_axis: int | None
    dtype: np.dtype[np.generic]
    data: Path
    offset: int
    deflated: int | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, and the file beside it that holds its voxels."""
        return (self.path,) if self.data == self.path else (self.path, self.data)

    @property
    def header(self) -> ImageHeader:
        """The image's grid, channels and stored type."""
        channels = 1 if self.channel_axis is None else self.sizes[self.channel_axis]
        return ImageHeader(self.grid, channels, self.dtype.newbyteorder("="))

    def read(self) -> Volume:
        """Read the voxels.

        Raises:
            FileError: they can't be read.
            InputError: they are damaged or cut short.
        """
        count = math.prod(self.sizes) * self.dtype.itemsize
        with _open_data(self.path, self.data) as file:
            try:
                raw = self._raw(file, count) if self.deflated is None else self._inflated(file, count, self.deflated)
            except _INFLATE_ERROR as error:
                raise damaged(self.path, "is cut short or is not what its header says") from error
            except OSError as error:
                raise FileError(
                    f"{self.data} can't be read: {error.strerror}.", code="cannot-read", path=self.data
                ) from error
        if len(raw) < count:
            raise damaged(self.path, "ends before its last voxel")
        array: NDArray[np.generic] = np.frombuffer(raw, self.dtype).reshape(self.sizes, order="F")
        if not self.dtype.isnative:
            array = array.astype(self.dtype.newbyteorder("="))
        if self.channel_axis is not None:
            array = np.moveaxis(array, self.channel_axis, -1)
            array = array[..., 0] if array.shape[-1] == 1 else array
        return Volume(array, self.grid)

    def _raw(self, file: BinaryIO, count: int) -> bytes:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - count) if self.offset == FROM_END else self.offset)
        return file.read(count) if size >= count else b""

    def _inflated(self, file: BinaryIO, count: int, kind: int) -> bytearray:
        # To the end, one byte further than declared: only there stands the checksum, and what is left over tells that
        # the header doesn't belong to these voxels.
        file.seek(self.offset)
        raw, unread, inflater = bytearray(), b"", isal_zlib.decompressobj(kind)
        while len(raw) <= count and (piece := unread or file.read(READ_BYTES)):
            raw += inflater.decompress(piece, count + 1 - len(raw))
            unread = inflater.unconsumed_tail
            if inflater.eof:
                unread = inflater.unused_data
                if len(raw) >= count or kind != GZIP or not unread.startswith(b"\x1f\x8b"):
                    break
                inflater = isal_zlib.decompressobj(kind)  # several in a row are one (RFC 1952, 2.2)
        if len(raw) > count:
            raise damaged(self.path, "holds more voxels than its header declares")
        if not inflater.eof:
            raise damaged(self.path, "is cut short")
        return raw


def stored(
    path: Path, grid: Grid, sizes: tuple[int, ...], channel_axis: int | None, dtype: np.dtype[np.generic], data: Path,
    offset: int, deflated: int | None,
) -> Stored:  # fmt: skip
    """What a header says, once its file can hold as much.

    Raises:
        FileError: the file that holds the voxels is absent, a link or no plain file.
        InputError: it is smaller than that.
    """
    with _open_data(path, data) as file:
        holds = os.fstat(file.fileno()).st_size - max(0, offset)
    found = Stored(path, grid, sizes, channel_axis, dtype, data, offset, deflated)
    can_hold = max(0, holds) * (1 if deflated is None else MAX_DEFLATE_RATIO)
    require_bounded(path, grid.shape, found.header.channels, dtype.itemsize, can_hold)
    return found


def header_lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The lines of a header, as Latin-1 and without their ends, as far as a header may reach.

    Raises:
        InputError: no header ends in so many bytes, or a line has a control character.
    """
    left = MAX_HEADER_BYTES
    while left > 0:
        line = file.readline(left)
        if not line:
            return
        left -= len(line)
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("latin-1")
        if _CONTROL.search(text):  # libraries of C end or break a line there, each in its own way
            raise damaged(path, "has a header with more than text")
        yield text
    raise damaged(path, "is not what its name says: its header does not end")


def data_beside(path: Path, name: str) -> Path:
    """The file of voxels that a header names: one beside it, and nothing else.

    Args:
        path: of the header.
        name: as ``header_lines`` gives it.

    Raises:
        InputError: it names another place, a hidden file, a list or a pattern of files.
    """
    name = os.fsdecode(name.encode("latin-1"))
    data = path.parent / name
    plain = name.isprintable() and not name.startswith((".", "LIST")) and not set(name) & set("/\\:%")
    if not plain or data.name != name or data.is_symlink():
        raise InputError(
            f"{path} names voxels outside of its folder or in several files, which volseg doesn't follow. "
            "Save it as one file, such as .nii.gz.",
            code="detached-data",
            path=path,
        )
    return data


def numbers(text: str, count: int) -> tuple[float, ...] | None:
    """So many numbers, apart by blanks; None where the text is anything else."""
    found = tuple(map(float, text.split())) if _NUMBERS.fullmatch(text) else ()
    return found if len(found) == count else None


def whole_numbers(text: str) -> tuple[int, ...]:
    """Numbers from 0, apart by blanks; none where the text is anything else."""
    return tuple(map(int, text.split())) if _WHOLE_NUMBERS.fullmatch(text) else ()


def unsupported(path: Path, what: str) -> InputError:
    """The error for a sound file of a kind that volseg doesn't read."""
    return InputError(f"{path} {what}, which volseg doesn't read. Save it as .nii.gz.", code="bad-input", path=path)


def placed(path: Path, make: Callable[[], Grid]) -> Grid:
    """The grid that ``make`` gives, whose error then names the image.

    Raises:
        GeometryError: the header places the voxels nowhere.
    """
    try:
        return make()
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code, path=path) from error


def _open_data(path: Path, data: Path) -> BinaryIO:
    try:
        return open_plain(data, follow=data == path)
    except FileError as error:
        if error.code != "missing-file" or data == path:
            raise
        message = f"{data}, which holds the voxels of {path.name}, does not exist."
        raise FileError(message, code="missing-file", path=data) from error
