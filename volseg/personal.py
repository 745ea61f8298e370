"""The folder where volseg keeps what belongs to one person: the key of the case names, trust in bundles."""

from __future__ import annotations

import os
from pathlib import Path

from volseg.errors import FileError

FOLDER_VARIABLE = "VOLSEG_CONFIG_DIR"
"""The environment variable that names another folder."""


def personal_folder() -> Path:
    """``volseg`` in the person's folder for configuration, by the XDG Base Directory Specification.

    Raises:
        FileError: this person has no home.
    """
    named, base = os.environ.get(FOLDER_VARIABLE), os.environ.get("XDG_CONFIG_HOME", "")
    if named:
        return Path(named)
    try:
        # A relative path is to be passed over, says the specification.
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "volseg"
    except RuntimeError as error:
        raise FileError(
            f"You have no home folder for what volseg keeps of you. Name a folder of yours in {FOLDER_VARIABLE}.",
            code="no-home",
        ) from error
