"""Files that are whole or absent: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.errors import DiskFullError, FileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TEMPORARY_MARK = ".partial-"
"""Stands in the name of each unfinished file, so that a reader can pass over what a killed run left."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; rename it to ``path`` when the block ends without an error.

    The temporary name keeps the suffixes of ``path``, since many writers choose the format by them.

    Raises:
        DiskFullError: no space is left; the unfinished file was removed.
        FileError: the folder can't be made or written to.
    """
    name = path.name
    stem, dot, suffixes = name.partition(".")
    partial = path.with_name(f".{stem}{TEMPORARY_MARK}{secrets.token_hex(4)}{dot}{suffixes}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise write_error(path, error) from error
    finally:
        # What is in the folder's place may be a file; that error is under way already and must not be hidden.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def require_no_links(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder of results in which a folder that will be written into is a link: the results would land elsewhere.

    Args:
        folder: which; it may be a link itself, since a person names it.
        names: of the folders in it, which may be absent.

    Raises:
        FileError: one is a link, with the code ``link``.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise FileError(
                f"{folder / name} is a link, and results are not written through links. Put the folder itself in its "
                "place.",
                code="link",
                path=folder / name,
            )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder alone among runs on this machine: two would mix their results, and remove each other's files.

    The lock ends with its process, however that ends. A folder that was made for it and stayed empty is removed.

    Raises:
        FileError: another run holds it, with the code ``in-use``, or it can't be made.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        if fcntl and descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"Another run of volseg is writing into {folder}. Wait until it has ended."
                raise FileError(message, code="in-use", path=folder) from error
            except OSError:  # a file system without locks
                pass
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        if is_new:
            with suppress(OSError):
                folder.rmdir()


def remove_partials(folder: Path) -> None:
    """Remove the unfinished files that a killed run left in a folder, which no other run may be writing into now.

    Raises:
        FileError: one can't be removed.
    """
    for path in folder.glob(f".*{TEMPORARY_MARK}*"):
        try:
            if not path.is_dir():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(path, error) from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that no space, or none of this person's, is left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_error(path: Path, error: OSError) -> FileError:
    """The error for a person that stands for an ``OSError`` met while writing ``path``."""
    if is_disk_full(error):
        return DiskFullError(
            f"No space is left on the disk to write {path}. Free some space and run the command again.", path=path
        )
    in_the_way = next((parent for parent in path.parents if parent.is_file()), None)
    reason = f"{in_the_way.name} is a file" if in_the_way else error.strerror or type(error).__name__
    return FileError(
        f"{path} can't be written: {reason}. Choose a folder that you may write to.", code="cannot-write", path=path
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically and flush it to the disk."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 text file atomically."""
    write_bytes(path, content.encode("utf-8"))
