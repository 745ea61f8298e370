"""Opening files that may be a stranger's, and reading small ones whole, within bounds."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from volseg.errors import FileError, InputError, VolsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

NO_PLAIN_FILE = "no-plain-file"
"""The code of what stands in a file's place: a pipe or a device would hold its reader for good."""
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def plain_descriptor(path: Path, *, follow: bool = True) -> int:
    """A descriptor for reading a file that may be a stranger's: never waits, and opens nothing but a plain file.

    Args:
        path: which.
        follow: whether it may be a link to a plain file.

    Raises:
        FileError: something else stands in its place (``no-plain-file``).
        OSError: as ``os.open``.
    """
    # Before, since opening alone does something to some devices; and after, since what lies there may change.
    _require_plain(path, path.stat(follow_symlinks=follow))
    descriptor = os.open(path, _FLAGS | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    try:
        _require_plain(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_plain(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a file that may be a stranger's for reading bytes: never waits, and opens nothing but a plain file.

    Args:
        path: which.
        follow: whether it may be a link to a plain file.

    Raises:
        FileError: it is absent (``missing-file``), a folder, pipe, socket or device (``no-plain-file``), or can't be
            opened (``cannot-read``).
    """
    try:
        return open(plain_descriptor(path, follow=follow), "rb")
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist.", code="missing-file", path=path) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def read_bounded(
    path: Path,
    max_bytes: int,
    what: str,
    *,
    require: Callable[[Path, os.stat_result], None] | None = None,
    follow: bool = True,
) -> bytes:
    """Read a file that may be a stranger's: never more than ``max_bytes``, and nothing but a plain file.

    Args:
        path: which.
        max_bytes: far above what any such file has.
        what: what it is to be, in words for the message, such as ``list of folds``.
        require: raises where the opened file is not to be read.
        follow: whether it may be a link to a plain file.

    Raises:
        FileError: as ``open_plain``.
        InputError: it is larger (``too-large``).
    """
    with open_plain(path, follow=follow) as file:
        if require is not None:
            require(path, os.fstat(file.fileno()))
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(content) > max_bytes:
        shown = f"{max_bytes >> 20} MiB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
        raise InputError(f"{path} is larger than {shown}, far above any {what}.", code="too-large", path=path)
    return content


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell in a sentence what keeps a path from being looked at, such as a folder of somebody else's.

    Raises:
        FileError: ``cannot-read``.
    """
    try:
        yield
    except VolsegError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error


def _require_plain(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise FileError(
            f"{path} is {kind}, not a file. Put the file itself in its place, or remove it.",
            code=NO_PLAIN_FILE,
            path=path,
        )


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(f"{path} can't be read: {error.strerror or type(error).__name__}.", code="cannot-read", path=path)
