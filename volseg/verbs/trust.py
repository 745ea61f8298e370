"""Trust a bundle: see what it would run, and record that a person has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.bundle.folder import open_bundle
from volseg.bundle.lint import Finding
from volseg.bundle.trust import judge, record_trust

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Trusted:
    """What was trusted.

    Args:
        findings: what the bundle runs of its own; empty when it needs no trust.
        sha256: the checksum of the whole tree; empty when nothing had to be recorded.
        already: whether it was trusted before.
    """

    findings: tuple[Finding, ...]
    sha256: str
    already: bool


def trust(bundle_dir: Path) -> Trusted:
    """Record that the code of a bundle may run, as it is now; any later change of any file revokes it.

    Raises:
        UsageError, BundleError: there is no sound bundle.
        FileError: a file of the bundle, or the record, can't be read or written.
    """
    bundle = open_bundle(bundle_dir)
    verdict = judge(bundle)
    if not verdict.findings:
        return Trusted((), "", already=False)
    return Trusted(verdict.findings, record_trust(verdict), already=verdict.trusted)
