"""Zip and tar archives of DICOM, unpacked within bounds into a private folder.

No name in an archive becomes a path: files are unpacked under numbers, so nothing can climb out, overwrite or clash.
Links and devices are passed over. An archive that is damaged or too large is refused whole, since nobody could tell
which slices it lacks.
"""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol

from volseg.atomic import is_disk_full
from volseg.dicom.file.files import LINK, SPECIAL, FoundFile
from volseg.errors import DiskFullError, FileError, InputError
from volseg.files import open_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_ENTRIES = 500_000
"""In one archive, with those in it; the largest studies have some ten thousand files."""
MAX_RATIO = 200
"""Of unpacked to packed bytes. DICOM packs to a half or a tenth; a bomb to a thousandth."""
MIN_BOUND_BYTES = 2**26
"""Below this an archive may unpack to anything: a few empty masks."""
MAX_BYTES = 2**38
"""Unpacked from one archive: 256 GiB."""
MIN_FREE_BYTES = 2**30
"""So much stays free on the disk."""
MAX_DEPTH = 1
"""An archive may hold archives, and these none."""
MAX_HEADER_BYTES = 2**22
"""Between two files of a tar archive: headers, long names and padding."""
CHUNK_BYTES = 2**20
FOLDER_PREFIX = "volseg-"

_ZIP, _EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
_PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz")
_TAR_MAGIC, _TAR_MAGIC_AT, _TAR_BLOCK = b"ustar", 257, 512
_ZIP_END = struct.Struct("<4s4H2IH")
"""The end of central directory record (APPNOTE.TXT, 4.3.16)."""
_ZIP64_LOCATOR = struct.Struct("<4sIQI")
_ZIP64_END = struct.Struct("<4sQ2H2I4Q")
"""Where the record for larger archives lies, and that record (4.3.15, 4.3.14)."""
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error,
           RecursionError, OverflowError, NotImplementedError, RuntimeError)  # fmt: skip
"""What the libraries raise on content that is no sound archive."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that its owner alone can read; it is removed at the end, however that comes.

    Raises:
        FileError: it can't be made.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)
    except OSError as error:
        raise FileError(
            f"No temporary folder can be made: {error.strerror}. Set TMPDIR to a folder that you may write to.",
            code="cannot-write",
        ) from error
    with made as folder:
        yield Path(folder)


def is_archive(path: Path, name: str = "") -> bool:
    """Whether a file is a zip, tar, tar.gz or tar.bz2 archive, by its content.

    Args:
        path: of the file.
        name: what it is called, which tells a packed archive of which not even the beginning can be unpacked.

    Raises:
        FileError: it can't be read.
    """
    try:
        with open_plain(path) as file:
            head = file.read(_TAR_BLOCK)
    except OSError as error:
        raise _unreadable(error) from error
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        return True
    if head.startswith((_GZIP, _BZIP2)):
        try:
            with open_plain(path) as file, _unpacked(file, head) as stream:
                head = stream.read(_TAR_BLOCK)
        except _BROKEN:
            return name.lower().endswith(_PACKED_SUFFIXES)
    return head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC)


def _unpacked(file: BinaryIO, head: bytes) -> IO[bytes]:
    if head.startswith(_GZIP):
        return gzip.open(file, "rb")  # type: ignore[return-value]
    return bz2.open(file, "rb") if head.startswith(_BZIP2) else file


@dataclass
class Limits:
    """The limits of one archive, nested ones included, and what is left of them.

    Args:
        packed: the archive's size in bytes.
    """

    packed: int
    entries: int = 0
    written: int = 0

    def take_entry(self) -> None:
        """Count an entry.

        Raises:
            InputError: ``declares-too-much``.
        """
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise _too_much(f"has more than {MAX_ENTRIES} entries")

    def take_bytes(self, count: int) -> None:
        """Count unpacked bytes.

        Raises:
            InputError: ``declares-too-much``.
        """
        self.written += count
        if self.written > max(MIN_BOUND_BYTES, MAX_RATIO * self.packed):
            raise _too_much(f"unpacks to more than {MAX_RATIO} times its size, as archives made to fill a disk do")
        if self.written > MAX_BYTES:
            raise _too_much(f"unpacks to more than {MAX_BYTES // 2**30} GiB")


@dataclass
class Unpacker:
    """Unpacks archives into one folder.

    Args:
        folder: private and empty at the start.
        advance: called with packed bytes as they are read.
    """

    folder: Path
    advance: Callable[[int], None] = lambda _: None
    _count: int = 0
    _made: list[Path] = field(default_factory=list)

    def unpack(self, archive: FoundFile, limits: Limits) -> list[FoundFile]:
        """Unpack one archive.

        Args:
            archive: as ``is_archive`` found it.
            limits: of the outermost archive.

        Returns:
            Its files, named by the archive and by what it calls them, which is private; links and devices too, as
            skipped.

        Raises:
            InputError: ``declares-too-much``; ``damaged-archive``; ``encrypted-archive``; ``unsupported-archive``.
            DiskFullError: no space is left.
            FileError: it can't be read, or the folder not be written.
        """
        self._made = []
        try:
            with open_plain(archive.path) as file:
                head = file.read(_TAR_BLOCK)
                file.seek(0)
                entries = self._zip if head.startswith((_ZIP, _EMPTY_ZIP)) else self._tar
                return list(entries(archive, file, head, limits))
        except BaseException:
            for path in self._made:
                path.unlink(missing_ok=True)
            raise

    def _zip(self, archive: FoundFile, file: BinaryIO, _: bytes, limits: Limits) -> Iterator[FoundFile]:
        _require_short_directory(file)
        try:
            opened = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise _of(error) from error
        with opened:
            for info in opened.infolist():
                limits.take_entry()
                name = f"{archive.name}/{info.filename}"
                mode = info.external_attr >> 16
                if info.is_dir():
                    continue
                if stat.S_ISLNK(mode):
                    yield FoundFile(archive.path, name, LINK)
                    continue
                if info.flag_bits & 1:
                    raise InputError(
                        "An archive is encrypted. Unpack it with its password, and give the folder.",
                        code="encrypted-archive",
                    )
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(
                        "An archive is packed in a way that volseg doesn't read. Unpack it, and give the folder.",
                        code="unsupported-archive",
                    )
                try:
                    stream = opened.open(info)
                except _BROKEN as error:
                    raise _of(error) from error
                with stream:
                    yield FoundFile(self._write(stream, limits), name)
                self.advance(info.compress_size)

    def _tar(self, archive: FoundFile, file: BinaryIO, head: bytes, limits: Limits) -> Iterator[FoundFile]:
        read, size = 0, os.fstat(file.fileno()).st_size
        with _unpacked(file, head) as packed:
            counted = _Counted(packed)
            try:
                # As a stream: nothing is read twice, so a hostile archive can't make it read forever.
                opened = tarfile.open(fileobj=counted, mode="r|")  # type: ignore[call-overload]  # noqa: SIM115
            except _BROKEN as error:
                raise _of(error) from error
            with opened:
                while True:
                    try:
                        member = opened.next()
                    except _BROKEN as error:
                        raise _of(error) from error
                    opened.members = []  # else every entry's is kept
                    if member is None:
                        break
                    limits.take_entry()
                    name = f"{archive.name}/{member.name}"
                    if member.isdir():
                        continue
                    if member.issym() or member.islnk():
                        yield FoundFile(archive.path, name, LINK)
                        continue
                    if not member.isreg() or member.issparse():
                        yield FoundFile(archive.path, name, SPECIAL)
                        continue
                    stream = opened.extractfile(member)
                    if stream is None:
                        raise _damaged()
                    with stream:
                        yield FoundFile(self._write(stream, limits, counted, member.size), name)
                    self.advance(min(member.size, size - read))
                    read = min(read + member.size, size)
                # Without the empty block at its end it was cut off between two files.
                if opened.fileobj is None or opened.fileobj.tell() <= opened.offset:
                    raise _damaged()

    def _write(
        self, stream: IO[bytes], limits: Limits, counted: _Counted | None = None, size: int | None = None
    ) -> Path:
        """Unpack one file under the next number."""
        if self._count % 256 == 0 and shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
            raise _full()
        self._count += 1
        path = self.folder / f"{self._count:08d}"
        self._made.append(path)
        written = 0
        try:
            with path.open("xb") as file:
                while True:
                    try:
                        chunk = stream.read(CHUNK_BYTES)
                    except _BROKEN as error:
                        raise _of(error) from error
                    if counted is not None:
                        counted.unmarked = 0
                    if not chunk:
                        break
                    limits.take_bytes(len(chunk))
                    file.write(chunk)
                    written += len(chunk)
        except OSError as error:
            if isinstance(error, FileError):
                raise
            if is_disk_full(error):
                raise _full() from error
            raise FileError(f"A file can't be unpacked: {error.strerror}.", code="cannot-write") from error
        if size is not None and written != size:
            raise _damaged()
        return path


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass
class _Counted:
    """A stream that reads a limited number of bytes between two members of an archive."""

    stream: _Readable
    unmarked: int = 0

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.unmarked += len(data)
        if self.unmarked > MAX_HEADER_BYTES:
            raise _too_much("has a header larger than any")
        return data


def _require_short_directory(file: BinaryIO) -> None:
    """Refuse a zip archive whose directory declares too much, before it is read into memory.

    Raises:
        InputError: ``declares-too-much`` or ``damaged-archive``.
    """
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _ZIP_END.size - 0xFFFF)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(_EMPTY_ZIP)
    if place < 0 or len(tail) - place < _ZIP_END.size:
        raise _damaged()
    directory = _ZIP_END.unpack_from(tail, place)[5]
    if directory == 0xFFFFFFFF:  # what doesn't fit here stands in a record of its own
        if place < _ZIP64_LOCATOR.size:
            raise _damaged()
        at = _ZIP64_LOCATOR.unpack_from(tail, place - _ZIP64_LOCATOR.size)[2]
        file.seek(min(at, size))
        record = file.read(_ZIP64_END.size)
        if len(record) < _ZIP64_END.size:
            raise _damaged()
        directory = _ZIP64_END.unpack(record)[8]
    if directory > 256 * MAX_ENTRIES:
        raise _too_much("has a directory larger than any")


def _unreadable(error: OSError) -> FileError:
    """The error for an archive that can't be opened or read, without its name."""
    if isinstance(error, FileError):
        return FileError("A file can't be read: it is gone or no plain file.", code=error.code)
    return FileError(f"A file can't be read: {error.strerror}.", code="cannot-read")


def _too_much(how: str) -> InputError:
    return InputError(f"An archive {how}; it was left alone.", code="declares-too-much")


def _damaged() -> InputError:
    return InputError("An archive is damaged or cut off. Copy or export it again.", code="damaged-archive")


def _of(error: Exception) -> InputError:
    """The error for what a library raised; what was raised here passes through it."""
    return error if isinstance(error, InputError) else _damaged()


def _full() -> DiskFullError:
    return DiskFullError(
        "No space is left to unpack an archive. Free some space, set TMPDIR to a larger disk, or unpack it yourself."
    )
