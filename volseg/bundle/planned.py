"""Which data set a person planned a bundle for: training reads that one, or the one that is named, and no other.

The path in a config is the choice of whoever wrote the config. Kept beside trust, by a checksum of both places.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from volseg.bundle.trust import remember, remembered

if TYPE_CHECKING:
    from pathlib import Path


def remember_plan(bundle_dir: Path, dataset_dir: Path) -> None:
    """Record that a bundle was planned here for a data set.

    Raises:
        FileError: the record can't be read or written.
    """
    remember(_checksum(bundle_dir, dataset_dir))


def is_planned(bundle_dir: Path, dataset_dir: Path) -> bool:
    """Whether this person planned the bundle in that place for the data set in that place.

    Raises:
        FileError: the record can't be read.
    """
    return _checksum(bundle_dir, dataset_dir) in remembered()


def _checksum(bundle_dir: Path, dataset_dir: Path) -> str:
    places = (os.fsencode(folder.resolve()) for folder in (bundle_dir, dataset_dir))
    return hashlib.sha256(b"volseg plan\0" + b"\0".join(places)).hexdigest()
