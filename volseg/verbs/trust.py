"""Trust a bundle: see what it would run, and record that a person has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.bundle.folder import Bundle, open_bundle
from volseg.bundle.lint import Finding
from volseg.bundle.modules import stand_ins
from volseg.bundle.trust import Verdict, judge, record_trust
from volseg.words import printable

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class CodeFile:
    """A file of a bundle that can run.

    Args:
        path: relative to the bundle's folder.
        size: in bytes.
        kind: what it is, in words.
    """

    path: str
    size: int
    kind: str

    def __str__(self) -> str:
        """One line; what would break it or drive a terminal is escaped."""
        return printable(f"{self.path}: {self.kind}, {self.size:,} bytes")


@dataclass(frozen=True)
class Examined:
    """What a person is asked to trust.

    Args:
        bundle: the bundle.
        verdict: about its very tree.
    """

    bundle: Bundle
    verdict: Verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What its configs run of their own; empty when it needs no trust."""
        return self.verdict.findings

    @property
    def code(self) -> tuple[CodeFile, ...]:
        """Its files that can run."""
        return tuple(CodeFile(path, file.size, file.kind) for path, file in self.verdict.code.items())

    @property
    def unused(self) -> tuple[str, ...]:
        """The names of its modules that are never imported, for something installed has the same name."""
        return stand_ins(self.verdict.files)

    def trust(self) -> Trusted:
        """Record that what was examined may run, whatever the bundle is by now.

        Raises:
            FileError: the record can't be read or written.
        """
        if not self.findings:
            return Trusted((), (), "", already=False)
        return Trusted(self.findings, self.code, record_trust(self.verdict), already=self.verdict.trusted)


@dataclass(frozen=True)
class Trusted:
    """What was trusted.

    Args:
        findings: what the bundle's configs run of their own; empty when it needs no trust.
        code: its files that can run.
        sha256: the checksum of the whole tree; empty when nothing had to be recorded.
        already: whether it was trusted before.
    """

    findings: tuple[Finding, ...]
    code: tuple[CodeFile, ...]
    sha256: str
    already: bool


def examine(bundle_dir: Path) -> Examined:
    """Look at what a bundle would run; nothing of it is run or recorded.

    Raises:
        UsageError, BundleError: there is no sound bundle.
        FileError: a file of the bundle, or the record, can't be read.
    """
    bundle = open_bundle(bundle_dir)
    return Examined(bundle, judge(bundle))


def trust(bundle_dir: Path) -> Trusted:
    """Record that the code of a bundle may run, as it is now; any later change of any file revokes it.

    Raises:
        UsageError, BundleError: there is no sound bundle.
        FileError: a file of the bundle, or the record, can't be read or written.
    """
    return examine(bundle_dir).trust()
