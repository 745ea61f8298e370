"""Outcomes of cases, and the ledger that records them."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.errors import InputError, OutputExistsError, VolsegError
from volseg.files import NO_PLAIN_FILE, open_plain, read_bounded

if TYPE_CHECKING:
    from collections.abc import Iterable

LEDGER_FORMAT = 1
ALREADY_DONE = "already-done"
"""The code of a case that an earlier run did; the ledger keeps it as done."""
MAX_LEDGER_BYTES = 2**28
"""A hundred thousand cases take 30 MB."""
RECORDED_PACKAGES = ("volseg", "monai", "torch", "numpy", "nibabel", "pydicom", "SimpleITK")


class Status(StrEnum):
    """How a case ended."""

    DONE = "done"
    SKIPPED = "skipped"
    """It is nothing that this work is for, such as a report among images: no failure."""
    REFUSED = "refused"
    """Its content can't be worked on with certainty."""
    FAILED = "failed"
    """Something broke: a disk, a decoder, volseg itself."""


@dataclass(frozen=True)
class FileDigest:
    """What a file held: its size in bytes and its XXH3 hash of 128 bits, in hexadecimal.

    It tells a file that was replaced or edited. A cryptographic hash would cost a tenth of a conversion's time, and a
    CRC is the same for any two gzip files of one length that store their data as they are: gzip ends in that data's CRC.
    """

    size: int
    xxh3: str


@dataclass(frozen=True)
class Made:
    """From what the files of a case were made, and what they held when they were written.

    Args:
        input: digest of the input's content.
        method: digest of the options that matter, and of the model where there is one.
        files: each output, by its path relative to the folder of the outputs.
    """

    input: str
    method: str
    files: Mapping[str, FileDigest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.files:  # a later run may remove them, and a record may be a stranger's
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise ValueError(f"{name} lies outside the folder of the outputs")


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Args:
        case: the case's public name; never a name or identifier of a patient.
        status: how it ended.
        code: a stable reason code; ``done`` and ``already-done`` for what went well.
        message: the sentence that a person needs; empty when all is plain. It goes to the ledger, so it names no
            patient's file.
        outputs: what was written, relative to the output folder.
        private: what only stderr may show, such as the file's name relative to the folder that the user gave.
        made: from what the outputs were made, by which a later run knows finished work.
        run: how they were made: 0 by the ledger's ``provenance``, n by the n-th of its ``earlier``.
        since: what the last run said that would not or could not make it anew, such as ``refused [exists] ...``.
        origin: of a case that is not done, the keyed mark of the input folder that it was found in.
        values_outside: values of its mask that the label table doesn't name; 0 is the background and none of them.
        edited: masks among the outputs that a person edited and had accepted: what else is there was made of them.
    """

    case: str
    status: Status
    code: str
    message: str = ""
    outputs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    private: str = ""
    made: Made | None = None
    run: int = 0
    since: str = ""
    origin: str = ""
    values_outside: tuple[int, ...] = ()
    edited: tuple[str, ...] = ()

    @classmethod
    def of_error(cls, case: str, error: VolsegError, *, private: str = "") -> Outcome:
        """The outcome of a case that a ``VolsegError`` ended: failed for files, disks and memory, refused for all else.

        What only stands in a file's place is refused as well.
        The file is named without its folder; what the error itself keeps private goes before ``private``.
        """
        is_told = isinstance(error, OutputExistsError) or error.code == NO_PLAIN_FILE
        is_broken = not is_told and isinstance(error, (OSError, MemoryError))
        status = Status.FAILED if is_broken else Status.REFUSED
        return cls(case, status, error.code, error.within(), private=error.private or private)


@dataclass(frozen=True)
class Provenance:
    """How a result came about: enough to make it again."""

    command: str
    options: Mapping[str, object]
    versions: Mapping[str, str]
    checksums: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    seed: int | None = None
    shims: tuple[str, ...] = ()
    """What bridged a bundle's words to those of today's libraries, by name."""

    @classmethod
    def of(
        cls,
        command: str,
        options: object,
        *,
        checksums: Mapping[str, str] | None = None,
        device: str = "cpu",
        seed: int | None = None,
        shims: tuple[str, ...] = (),
    ) -> Provenance:
        """Record a verb's frozen options dataclass and the versions of what it stands on."""
        return cls(command, _plain_options(options), installed_versions(), checksums or {}, device, seed, shims)

    def to_json(self) -> str:
        """As JSON: one that was read back gives the same as the one that was written."""
        return json.dumps(asdict(self), sort_keys=True, default=_plain)


def _plain_options(options: object) -> dict[str, object]:
    if not is_dataclass(options) or isinstance(options, type):
        return {}
    plain: dict[str, object] = {}
    for item in fields(options):
        value = getattr(options, item.name)
        # Folders of this machine may name patients; the options that matter are values.
        if not isinstance(value, Path) and item.metadata.get("private") is None:
            plain[item.name] = value
    return plain


@cache
def installed_version(package: str) -> str:
    """The version of an installed package, looked up once: that parses its whole description.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return version(package)


def installed_versions() -> dict[str, str]:
    """The versions of the packages that results depend on, and of Python."""
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = installed_version(package)
        except PackageNotFoundError:
            continue
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        FileError: it is absent, no plain file, or can't be opened.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, repr=False)
class Ledger:
    """All outcomes of one command over a cohort, and its provenance."""

    outcomes: tuple[Outcome, ...]
    provenance: Provenance
    skipped_kinds: Mapping[str, int] = field(default_factory=dict)
    """Files that are nothing this work is for, counted by kind."""
    done_before: int = 0
    """How many cases that earlier runs did lie in the output folder; it is not written."""
    earlier: tuple[Provenance, ...] = ()
    """How earlier runs made what is kept of them."""

    def __post_init__(self) -> None:
        if any(not 0 <= outcome.run <= len(self.earlier) for outcome in self.outcomes):
            raise ValueError("an outcome is of a run that the ledger doesn't know")

    def __repr__(self) -> str:
        return f"Ledger({tally(self.outcomes)})"

    def provenance_of(self, outcome: Outcome) -> Provenance:
        """How the files of one of its outcomes were made."""
        return self.earlier[outcome.run - 1] if outcome.run else self.provenance

    def count(self, status: Status) -> int:
        """How many cases ended so."""
        return sum(outcome.status is status for outcome in self.outcomes)

    @property
    def exit_code(self) -> int:
        """0 all done or nothing left to do, 1 some refused or failed, 2 nothing done and nothing there before."""
        if not self.count(Status.DONE) and not self.done_before:
            return 2
        return 1 if self.count(Status.REFUSED) + self.count(Status.FAILED) else 0

    def to_json(self) -> str:
        """The ledger as JSON, without what is private and without the time, so that reruns give the same bytes."""
        content: dict[str, object] = {
            "format": LEDGER_FORMAT,
            "outcomes": [
                {
                    key: value
                    for key, value in asdict(outcome).items()
                    if key != "private" and value not in ("", (), None, 0)
                }
                for outcome in self.outcomes
            ],
            "skipped_kinds": dict(sorted(self.skipped_kinds.items())),
            "provenance": asdict(self.provenance),
        }
        if self.earlier:
            content["earlier"] = [asdict(one) for one in self.earlier]
        return json.dumps(content, indent=1, sort_keys=False, default=_plain) + "\n"

    @classmethod
    def read(cls, path: Path, kind: type[Outcome] = Outcome) -> Ledger | None:
        """What an earlier run wrote; None where there is nothing.

        Args:
            path: of the ledger.
            kind: what outcomes with more fields than others are.

        Raises:
            InputError: the file is damaged, or of another version of volseg.
            FileError: a link or something else stands in its place; volseg writes a file there.
        """
        if not path.exists():
            return None
        from pydantic import TypeAdapter

        try:
            content = json.loads(read_bounded(path, MAX_LEDGER_BYTES, "ledger", follow=False))
            if content.pop("format") != LEDGER_FORMAT:
                raise ValueError("another format")
            # The one whose fields an outcome has is taken.
            content["outcomes"] = TypeAdapter(list[Outcome | kind]).validate_python(content["outcomes"])  # type: ignore[valid-type]
            return TypeAdapter(cls).validate_python(content)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path} is no ledger of this version of volseg. Remove it, or name another folder.",
                code="bad-ledger",
                path=path,
            ) from error

    def write(self, path: Path) -> None:
        """Write the ledger atomically.

        Raises:
            FileError: the file can't be written.
        """
        write_text(path, self.to_json())


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def tally(outcomes: Iterable[Outcome]) -> str:
    """One line for a person: ``12 done, 1 refused``."""
    outcomes = tuple(outcomes)
    counts = Counter(outcome.status for outcome in outcomes)
    before = sum(outcome.code == ALREADY_DONE for outcome in outcomes)
    there = f" ({before} {'was' if before == 1 else 'were'} there already)" if before else ""
    parts = [
        f"{counts[status]} {status}{there if status is Status.DONE else ''}" for status in Status if counts[status]
    ]
    return ", ".join(parts) or "nothing to do"
