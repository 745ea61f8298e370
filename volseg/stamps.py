"""Digests of files that are known from an earlier run, by what the file system says of them, without reading them.

A digest is believed while the file's device, inode, size, time of change (``mtime``) and time of status change
(``ctime``) are those of when it was read. Whoever changes a file's content changes its ``ctime``, also where size and
``mtime`` are set back, as ``cp -p`` and ``touch`` do. A file that was changed within ``RACY_SECONDS`` of when it was
looked at is read again the next time: clocks of file systems are coarse. What is not noticed: a disk that gives other
bytes than were written, and a computer's clock that was set back.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from volseg.atomic import write_bytes
from volseg.errors import FileError, VolsegError
from volseg.files import read_bounded
from volseg.kept import file_digest
from volseg.personal import cache_folder, is_own

if TYPE_CHECKING:
    from pathlib import Path

RACY_SECONDS = 3.0
"""FAT's times have two seconds; the clocks of a file server and this computer differ a little."""
MAX_STAMP_BYTES = 4096
KEPT_DAYS = 180.0

Stamp = tuple[int, int, int, int, int]
_FORM = TypeAdapter(tuple[Stamp, str])


def content_digest(path: Path, *, anew: bool = False) -> str:
    """The size and XXH3 (128 bits) of a file's bytes, which are read only where they may have changed.

    Args:
        path: which.
        anew: whether they are read in any case.

    Raises:
        FileError: it can't be read.
    """
    place = _place(path)
    before = stamp_of(path)
    stamp, digest = (None, "") if anew else _read(place)
    if stamp == before:
        return digest
    began = time.time()
    found = file_digest(path)
    digest = f"{found.size:x}-{found.xxh3}"
    if place is not None and stamp_of(path) == before and began - max(before[3], before[4]) / 1e9 > RACY_SECONDS:
        # A cache folder that can't be written costs the next run its time, and nothing else.
        with suppress(OSError, FileError):
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_bytes(place, _FORM.dump_json((before, digest)))
    return digest


def stamp_of(path: Path) -> Stamp:
    """Device, inode, size, ``mtime`` and ``ctime`` of a file, the times in nanoseconds.

    Raises:
        FileError: it can't be asked.
    """
    try:
        told = path.stat()
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}.", code="cannot-read", path=path) from error
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def forget_old_stamps() -> None:
    """Remove what was noted so long ago that its file is likely gone."""
    with suppress(OSError, FileError):
        for path in (cache_folder() / "stamps").glob("*.json"):
            if time.time() - path.stat().st_mtime > KEPT_DAYS * 86400:
                path.unlink()


def _read(place: Path | None) -> tuple[Stamp | None, str]:
    try:
        if place is not None and is_own(place.parent):  # others could pass a file off as another one
            return _FORM.validate_json(read_bounded(place, MAX_STAMP_BYTES, "note on a file", follow=False))
    except (OSError, VolsegError, ValueError):  # absent or damaged: the file is read
        pass
    return None, ""


def _place(path: Path) -> Path | None:
    # A file's name may be a patient's.
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:40]
    try:
        return cache_folder() / "stamps" / f"{name}.json"
    except FileError:  # no home
        return None
