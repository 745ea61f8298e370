"""Pseudonyms: case names and identifiers by a keyed hash.

The key is made at random for each output folder and stays in it, readable by its owner alone. Whoever holds it and
an identifier can find that identifier's pseudonym, so it goes nowhere with the data.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILE = ".volseg-key"
KEY_BYTES = 32
PSEUDONYM_LENGTH = 12
"""Of base32: 60 bits, so that a million series meet by chance with a probability below 1e-6."""


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
        """The naming of an output folder; its key is made if it has none.

        Raises:
            InputError: the folder's key file holds no key.
            OSError: the key can't be read or written.
        """
        path = folder / KEY_FILE
        folder.mkdir(parents=True, exist_ok=True)
        found = cls.existing(folder)
        if found is not None:
            return found
        partial = folder / f"{KEY_FILE}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
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
        made = cls.existing(folder)
        if made is None:
            raise InputError(f"{path} can't be made. Choose an output folder that you may write to.", code="bad-key")
        return made

    @classmethod
    def existing(cls, folder: Path) -> Naming | None:
        """The naming of an output folder that has a key already.

        Raises:
            InputError: the folder's key file holds no key.
        """
        path = folder / KEY_FILE
        try:
            with path.open(encoding="ascii") as file:
                key = bytes.fromhex(file.read(4 * KEY_BYTES))
        except FileNotFoundError:
            return None
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise InputError(
                f"{path} holds no key, and the names in its folder depend on it. Restore it, or convert to a new folder.",
                code="bad-key",
            )
        return cls(key)

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

    def case(self, identity: Identity, modality: str, order: int) -> str:
        """The case's name: modality, order of the series in its study, the series' pseudonym, the part."""
        name = f"{modality.lower()}_{order:02d}_{self.series(identity)}"
        return f"{name}_{identity.part}" if identity.part else name

    def labels(self, kind: str, instance_uid: str) -> str:
        """The name of a label object, such as ``seg_`` or ``rtstruct_`` and the pseudonym of its SOPInstanceUID."""
        return f"{kind.lower()}_{self._pseudonym('labels', instance_uid)}"

    def file(self, name: str) -> str:
        """The case's name for a file that belongs to no series, from its name relative to the input folder."""
        return f"file_{self._pseudonym('file', name)}"

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
