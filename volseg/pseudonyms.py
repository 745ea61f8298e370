"""Pseudonyms: case names and identifiers by a keyed hash.

The key belongs to one person: it is made at random at the first use and lies in the person's configuration folder,
readable by its owner alone. Whoever holds it and an identifier can find that identifier's pseudonym, so it goes nowhere
with the data. A folder that has a key of its own keeps it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import FileError, InputError
from volseg.files import read_bounded
from volseg.personal import FOLDER_VARIABLE, personal_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from volseg.outcomes import Ledger

KEY_FILE = ".volseg-key"
"""In an output folder that has a key of its own."""
PERSONAL_KEY_FILE = "names.key"
"""In the person's configuration folder."""
NAMES = "names"
"""The entry of a ledger's checksums that tells by which key the cases are named."""
KEY_BYTES = 32
PSEUDONYM_LENGTH = 12
"""Of base32: 60 bits, so that a million series meet by chance with a probability below 1e-6."""

_WITH_ORDER = re.compile(rf"([a-z]+)_\d{{2,4}}_(?=[a-z2-7]{{{PSEUDONYM_LENGTH}}}(?:_|$))")
_OF_SERIES = re.compile(rf"[a-z]+_([a-z2-7]{{{PSEUDONYM_LENGTH}}})(?:_|$)")


@dataclass(frozen=True)
class Identity:
    """What tells a series from every other. It never leaves this process but through a keyed hash.

    Args:
        patient_id: PatientID with its issuer; empty where the file has none.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        part: which of several volumes under that UID, such as ``echo2``; empty for the only one.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    part: str = ""


@dataclass(frozen=True)
class Naming:
    """Names by one key."""

    key: bytes

    @classmethod
    def of_folder(cls, folder: Path) -> Naming:
        """The naming for an output folder: by its own key where it has one, else by this person's, made at first use.

        Raises:
            InputError: the file holds no key, or that of this person can be read by others.
            FileError: the key can't be read or written.
        """
        return cls.existing(folder) or cls._make(personal_folder() / PERSONAL_KEY_FILE)

    @classmethod
    def existing(cls, folder: Path) -> Naming | None:
        """The same without making a key; None where there is none yet.

        Raises:
            InputError, FileError: as ``of_folder``.
        """
        return cls._read(folder / KEY_FILE) or cls._read(personal_folder() / PERSONAL_KEY_FILE, _require_private)

    @classmethod
    def _read(cls, path: Path, require: Callable[[Path, os.stat_result], None] | None = None) -> Naming | None:
        try:
            key = bytes.fromhex(read_bounded(path, 4 * KEY_BYTES, "key", require=require).decode("ascii"))
        except FileError as error:
            if error.code == "missing-file":
                return None
            raise error.reworded(f"{error.message} Another folder may be named in {FOLDER_VARIABLE}.") from error
        except ValueError as error:
            if isinstance(error, InputError) and error.code == "key-not-private":
                raise
            key = b""
        if len(key) != KEY_BYTES:
            raise InputError(
                f"{path} holds no key, and the names of cases depend on it. Restore it from a copy; docs/names.md "
                "tells what a new one changes.",
                code="bad-key",
                path=path,
            )
        return cls(key)

    @classmethod
    def _make(cls, path: Path) -> Naming:
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(secrets.token_hex(KEY_BYTES) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                # Two runs may start at once: the first key stands, and both use it.
                try:
                    os.link(partial, path)
                except FileExistsError:
                    pass
                except OSError:  # a file system without hard links
                    partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(
                f"{path}, the key of your case names, can't be written: {error.strerror}. Name a folder of yours in "
                f"{FOLDER_VARIABLE}.",
                code="cannot-write",
                path=path,
            ) from error
        made = cls._read(path, _require_private)
        assert made is not None, "it was written just now"
        return made

    @property
    def mark(self) -> str:
        """What tells this key from others in a ledger, and nothing of it."""
        return self.digest("key")[:16]

    def require_names_of(self, ledger: Ledger | None, folder: Path) -> None:
        """Refuse to add to a folder whose names are by another key: one patient would get two pseudonyms there.

        Raises:
            InputError: they are, with the code ``other-key``.
        """
        there = ledger.provenance.checksums.get(NAMES) if ledger else None
        if there not in (None, self.mark):
            raise InputError(
                f"The cases in {folder} are named by another key than yours, so the same series would get another name "
                "there. Name another folder, or take that key; docs/names.md tells how.",
                code="other-key",
            )

    def patient(self, identity: Identity) -> str:
        """The patient's pseudonym; a study without a PatientID counts as a patient of its own."""
        if identity.patient_id:
            return self._pseudonym("patient", identity.patient_id)
        return self._pseudonym("patient-of-study", identity.study_uid)

    def study(self, identity: Identity) -> str:
        """The study's pseudonym."""
        return self._pseudonym("study", identity.study_uid)

    def series(self, identity: Identity) -> str:
        """The pseudonym of the series, the same for all its parts."""
        return self._pseudonym("series", identity.study_uid, identity.series_uid)

    def case(self, identity: Identity, modality: str) -> str:
        """The case's name: modality, the series' pseudonym, the part; whatever else lies beside the series."""
        name = f"{modality.lower()}_{self.series(identity)}"
        return f"{name}_{identity.part}" if identity.part else name

    def labels(self, kind: str, instance_uid: str) -> str:
        """The name of a label object, such as ``seg_`` or ``rtstruct_`` and the pseudonym of its SOPInstanceUID."""
        return f"{kind.lower()}_{self._pseudonym('labels', instance_uid)}"

    def file(self, name: str) -> str:
        """The case's name for a file that belongs to no series, from its name relative to the input folder."""
        return f"file_{self._pseudonym('file', name)}"

    def origin(self, folder: Path) -> str:
        """What tells an input folder from others in a ledger, and nothing of it."""
        return self.digest("origin", str(folder.resolve()))[:16]

    def digest(self, *parts: str) -> str:
        """A keyed digest by which a later run knows the same content again."""
        return self._mac("digest", parts).hex()[:32]

    def _pseudonym(self, kind: str, *parts: str) -> str:
        return base64.b32encode(self._mac(kind, parts)).decode("ascii").lower()[:PSEUDONYM_LENGTH]

    def _mac(self, kind: str, parts: tuple[str, ...]) -> bytes:
        # Lengths go in, so that no two lists of parts make the same message.
        message = b"".join(
            len(raw).to_bytes(8, "big") + raw
            for raw in (part.encode("utf-8", "surrogateescape") for part in (kind, *parts))
        )
        return hmac.new(self.key, message, hashlib.sha256).digest()


def without_order(case: str) -> str:
    """The name that a case gets now, of one that earlier versions gave with the place of the series in its study."""
    return _WITH_ORDER.sub(r"\1_", case)


def series_in(case: str) -> str:
    """The pseudonym of the series in a case's name; empty where the name is of another kind."""
    found = _OF_SERIES.match(without_order(case))
    return found[1] if found else ""


def _require_private(path: Path, found: os.stat_result) -> None:
    if hasattr(os, "getuid") and (found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o077):
        raise InputError(
            f"{path}, the key of your case names, is open to others. Make it yours alone with chown and chmod 600.",
            code="key-not-private",
            path=path,
        )
