"""Trust: a bundle's config is code, so one that goes beyond the vocabulary runs only when a person has said so.

Trust is kept by the SHA-256 of the whole tree: any change of any file revokes it, and the place doesn't matter.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.bundle.lint import Finding, lint_bundle
from volseg.errors import BundleError, TrustError
from volseg.outcomes import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.bundle.folder import Bundle

STORE_VARIABLE = "VOLSEG_CONFIG_DIR"
"""The environment variable that names another folder for what volseg remembers about this person."""
SHOWN_FINDINGS = 40
"""A refusal lists so many; volseg trust lists all."""
WRITTEN_BY_TRAINING = ("runs", "models")
"""Folders in which our own training writes; no file there is ever run."""


@dataclass(frozen=True)
class Verdict:
    """What a bundle would run beyond the vocabulary, and whether a person trusts it.

    Args:
        findings: empty for a bundle as ``volseg plan`` writes it.
        trusted: whether this very tree was trusted.
    """

    findings: tuple[Finding, ...]
    trusted: bool

    @property
    def may_run(self) -> bool:
        """Whether the bundle may run."""
        return self.trusted or not self.findings


def store_path() -> Path:
    """The file that keeps the checksums of trusted trees."""
    folder = os.environ.get(STORE_VARIABLE)
    if folder:
        return Path(folder) / "trusted.json"
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "volseg" / "trusted.json"


def tree_sha256(root: Path, *, leave_out: tuple[str, ...] = ()) -> str:
    """The SHA-256 over the names and contents of every file below a folder.

    Args:
        root: the folder.
        leave_out: folders directly below ``root`` that don't count.

    Raises:
        BundleError: a symbolic link or another special file is inside: what it leads to may change unseen.
    """
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] in leave_out:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleError(
                f"{path} is a link or special file, so nobody can vouch for what it holds. Replace it by a plain file."
            )
        if path.is_file():
            name = os.fsencode(relative.as_posix())
            digest.update(b"%d:%s:%s\n" % (len(name), name, sha256_of(path).encode()))
    return digest.hexdigest()


def judge(bundle: Bundle) -> Verdict:
    """Lint the bundle and look its tree up among the trusted.

    Raises:
        BundleError: a config is malformed, or the tree holds links.
    """
    findings = lint_bundle(bundle)
    return Verdict(findings, trusted=bool(findings) and tree_sha256(bundle.root) in _read_store())


def require_trust(bundle: Bundle) -> Verdict:
    """Judge a bundle and refuse it unless it may run.

    Raises:
        TrustError: it would run code that nobody trusted; the message lists that code.
        BundleError: a config is malformed, or the tree holds links.
    """
    verdict = judge(bundle)
    if not verdict.may_run:
        shown = [f"  {finding}" for finding in verdict.findings[:SHOWN_FINDINGS]]
        more = len(verdict.findings) - len(shown)
        raise TrustError(
            f"{bundle.root} would run code of its own, and nobody has trusted it:\n"
            + "\n".join(shown)
            + (f"\n  and {more} more" if more > 0 else "")
            + f"\nRead it. If you trust where it comes from, type: volseg trust {bundle.root}"
        )
    return verdict


def record_trust(bundle: Bundle) -> str:
    """Trust this very tree; gives its SHA-256.

    Raises:
        BundleError: the tree holds links.
        FileError: the store can't be written.
    """
    checksum = tree_sha256(bundle.root)
    trusted = _read_store()
    if checksum not in trusted:
        write_text(store_path(), json.dumps({"format": 1, "trusted": sorted({*trusted, checksum})}, indent=1) + "\n")
        store_path().chmod(0o600)
    return checksum


@contextmanager
def trust_kept(bundle: Bundle, verdict: Verdict) -> Iterator[None]:
    """Keep a trusted bundle trusted over what our own training writes into it; any other change still revokes."""
    if not verdict.trusted:
        yield
        return
    before = tree_sha256(bundle.root, leave_out=WRITTEN_BY_TRAINING)
    try:
        yield
    finally:
        if tree_sha256(bundle.root, leave_out=WRITTEN_BY_TRAINING) == before:
            record_trust(bundle)


def _read_store() -> frozenset[str]:
    try:
        content = json.loads(store_path().read_text(encoding="utf-8"))
        return frozenset(str(checksum) for checksum in content["trusted"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{store_path()}, where volseg keeps what you trust, can't be read. Repair or remove it, then trust again."
        ) from error
