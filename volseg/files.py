"""Small files read whole, within bounds."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from volseg.errors import FileError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def read_bounded(
    path: Path, max_bytes: int, what: str, *, require: Callable[[Path, os.stat_result], None] | None = None
) -> bytes:
    """Read a file that may be a stranger's: never more than ``max_bytes``, and nothing but a plain file.

    Args:
        path: which.
        max_bytes: far above what any such file has.
        what: what it is to be, in words for the message, such as ``list of folds``.
        require: raises where the opened file is not to be read.

    Raises:
        FileError: it is absent (``missing-file``), no plain file, or can't be read (``cannot-read``).
        InputError: it is larger (``too-large``).
    """
    try:
        # Without blocking: a pipe in a file's place would hold its reader for good.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path} is no plain file, as a {what} is.", code="cannot-read", path=path)
            if require is not None:
                require(path, status)
            content = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist.", code="missing-file", path=path) from error
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(f"{path} can't be read: {reason}.", code="cannot-read", path=path) from error
    if len(content) > max_bytes:
        shown = f"{max_bytes >> 20} MiB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
        raise InputError(f"{path} is larger than {shown}, far above any {what}.", code="too-large", path=path)
    return content
