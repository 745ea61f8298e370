"""The folders where volseg keeps what belongs to one person.

The key of the case names and trust in bundles; and apart from them, what can be made anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from volseg.errors import FileError

FOLDER_VARIABLE = "VOLSEG_CONFIG_DIR"
"""The environment variable that names another folder."""
CACHE_VARIABLE = "VOLSEG_CACHE_DIR"
"""The environment variable that names another folder for what can be made anew."""


def personal_folder() -> Path:
    """``volseg`` in the person's folder for configuration, by the XDG Base Directory Specification.

    Raises:
        FileError: this person has no home.
    """
    return _folder(FOLDER_VARIABLE, "XDG_CONFIG_HOME", ".config")


def cache_folder() -> Path:
    """``volseg`` in the person's folder for caches, by the same specification; it may be removed at any time.

    Raises:
        FileError: this person has no home.
    """
    return _folder(CACHE_VARIABLE, "XDG_CACHE_HOME", ".cache")


def is_own(folder: Path) -> bool:
    """Whether a folder is this person's, and nobody else may write into it; always where a system knows no such rights.

    Raises:
        OSError: it can't be asked.
    """
    told = folder.stat()
    return not hasattr(os, "getuid") or (told.st_uid == os.getuid() and not told.st_mode & 0o022)


def _folder(variable: str, standard: str, default: str) -> Path:
    named, base = os.environ.get(variable), os.environ.get(standard, "")
    if named:
        return Path(named)
    try:
        # A relative path is to be passed over, says the specification.
        return (Path(base) if Path(base).is_absolute() else Path.home() / default) / "volseg"
    except RuntimeError as error:
        raise FileError(
            f"You have no home folder for what volseg keeps of you. Name a folder of yours in {variable}.",
            code="no-home",
        ) from error
