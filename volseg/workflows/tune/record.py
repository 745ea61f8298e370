"""``search.json``: which search lies in a folder, who began it, and of what.

It is read first, within bounds: Optuna's file is opened only where this person began the search in this place.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter

from volseg.atomic import write_bytes, write_error
from volseg.bundle.trust import remember, remembered
from volseg.errors import BundleError
from volseg.files import read_bounded
from volseg.outcomes import installed_version
from volseg.workflows.tune.options import Length

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "tune"
"""Among the runs of a bundle."""
STUDY = "search.sqlite"
RECORD = "search.json"
TABLE = "search.csv"
PICTURE = "search.png"
TRIAL_PREFIX = "trial_"
PLANNED = "plan"
"""The folder of the configs that the search began from."""
MAX_RECORD_BYTES = 2**16
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Stamps:
    """What a search is of; scores of another one don't compare.

    Args:
        data: the voxels of all cases and the split.
        configs: ``train.yaml``, ``inference.yaml`` and ``metadata.json`` as they were.
        search: what is searched, how long each trial is, which fold and seed, and on which kind of device.
        code: versions.
    """

    data: _Digest
    configs: _Digest
    search: _Digest
    code: _Digest

    @classmethod
    def of(cls, data: str, configs: str, search: str) -> Stamps:
        """Of texts that tell each from any other."""
        packages = ("volseg", "monai", "torch", "optuna")
        code = repr([(name, installed_version(name)) for name in packages])
        return cls(*(digest_of(text) for text in (data, configs, search, code)))


@dataclass(frozen=True)
class SearchRecord:
    """``search.json``.

    Args:
        token: a random name; that this person began it here is kept beside trust.
        stamps: what it is of.
        length: of each trial.
        fold: whose cases are held out.
        seed: of all draws.
        written: digests of the configs that the search wrote into the bundle, or was about to.
    """

    token: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    stamps: Stamps
    length: Length
    fold: int
    seed: int
    written: tuple[_Digest, ...] = ()
    format: Annotated[int, Field(ge=1, le=1)] = 1

    def write(self, folder: Path) -> None:
        """Write it atomically.

        Raises:
            FileError: it can't be written.
        """
        write_bytes(folder / RECORD, TypeAdapter(SearchRecord).dump_json(self, indent=1) + b"\n")

    @classmethod
    def read(cls, folder: Path) -> SearchRecord | None:
        """That of an earlier search, which has to be this person's; None where there was none.

        Raises:
            BundleError: it is damaged, or was not begun here by this person.
        """
        if not any((folder / name).exists() for name in (RECORD, STUDY)):
            return None
        try:
            raw = read_bounded(folder / RECORD, MAX_RECORD_BYTES, "record of a search", follow=False)
            found = TypeAdapter(cls).validate_json(raw)
        except (OSError, ValueError) as error:  # pydantic's, too
            raise BundleError(
                f"{folder / RECORD}, the record of a search, can't be read. --fresh begins another search.",
                code="bad-search",
                path=folder / RECORD,
            ) from error
        if _claim(folder, found.token) not in remembered():
            raise BundleError(
                f"{folder} holds a search that you did not begin in this place, and volseg goes on with no search of "
                "others. --fresh begins one of yours.",
                code="foreign-search",
                path=folder,
            )
        return found

    @classmethod
    def begin(cls, folder: Path, stamps: Stamps, length: Length, fold: int, seed: int) -> SearchRecord:
        """A new one, which is this person's from now on.

        Raises:
            FileError: it can't be written.
        """
        record = cls(secrets.token_hex(16), stamps, length, fold, seed)
        remember(_claim(folder, record.token))
        record.write(folder)
        return record


def forget(folder: Path) -> None:
    """Remove an earlier search, its trials too, whoever made them.

    Raises:
        FileError: something of it can't be removed.
    """
    try:
        for path in (*folder.glob(f"{TRIAL_PREFIX}*"), folder / PLANNED):
            if path.exists():
                shutil.rmtree(path)
        # The record last: what is left by a kill is still known to be a search.
        for name in (f"{STUDY}-journal", STUDY, TABLE, PICTURE, RECORD):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial's configs, curve and checkpoints lie."""
    return folder / f"{TRIAL_PREFIX}{number:03d}"


def digest_of(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _claim(folder: Path, token: str) -> str:
    return hashlib.sha256(b"volseg tune\0" + os.fsencode(folder.resolve()) + b"\0" + token.encode()).hexdigest()
