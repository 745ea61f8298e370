"""Trust: a bundle's config is code, so one that goes beyond the vocabulary runs only when a person has said so.

Trust is kept by the SHA-256 of the whole tree: any change of any file revokes it, and the place doesn't matter.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from volseg.atomic import write_error, write_text
from volseg.bundle.lint import RUN_CONFIGS, Finding, lint_config
from volseg.errors import BundleError, FileError, TrustError, VolsegError
from volseg.files import read_bounded
from volseg.personal import personal_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from volseg.bundle.folder import Bundle, ConfigFile

log = logging.getLogger(__name__)

MAX_STORE_BYTES = 2**24
STORE_FAULT = "trust-store"
SHOWN_FINDINGS = 40
SHOWN_CHARACTERS = 240
"""A refusal lists so many, each so long; volseg trust lists all of them whole."""
WRITTEN_BY_TRAINING = ("runs", "models")
WRITTEN_SUFFIXES = (".pt", ".csv", ".png", ".json")
"""What our own training writes, and where, beside the scores in the README; nothing of it is code."""
WRITTEN_README = "docs/README.md"


@dataclass(frozen=True)
class Verdict:
    """What a bundle would run beyond the vocabulary, and whether a person trusts it.

    Args:
        findings: empty for a bundle as ``volseg plan`` writes it.
        trusted: whether this very tree was trusted.
        configs: the configs that were judged, by name; whoever builds takes these and reads no file again.
        files: the SHA-256 of every file by its path; empty when there are no findings.
    """

    findings: tuple[Finding, ...]
    trusted: bool
    configs: Mapping[str, ConfigFile] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def may_run(self) -> bool:
        """Whether the bundle may run."""
        return self.trusted or not self.findings

    @property
    def sha256(self) -> str:
        """Of the whole tree."""
        return _sha256_of_all(self.files)


def store_path() -> Path:
    """The file that keeps the checksums of trusted trees."""
    return personal_folder() / "trusted.json"


def judge(bundle: Bundle) -> Verdict:
    """Lint the bundle and look its tree up among the trusted. Nothing of it is run.

    Raises:
        BundleError: a config is malformed, or the tree holds links.
        FileError: a file, or the record of what is trusted, can't be read.
    """
    configs = {name: bundle.load_config(name) for name in RUN_CONFIGS if bundle.find_config(name) is not None}
    findings = tuple(finding for name, config in configs.items() for finding in lint_config(name, config.content))
    if not findings:
        return Verdict((), trusted=False, configs=configs)
    # The configs count with the bytes that were linted, whatever lies on the disk by now.
    files = _checksums(bundle.root, {config.path: config.sha256 for config in configs.values()})
    return Verdict(findings, _sha256_of_all(files) in _read_store(), configs, files)


def require_trust(bundle: Bundle) -> Verdict:
    """Judge a bundle and refuse it unless it may run.

    Raises:
        TrustError: it would run code that nobody trusted; the message lists that code.
        BundleError: a config is malformed, or the tree holds links.
        FileError: a file, or the record of what is trusted, can't be read.
    """
    verdict = judge(bundle)
    if not verdict.may_run:
        shown = [f"  {_shortened(str(finding))}" for finding in verdict.findings[:SHOWN_FINDINGS]]
        more = len(verdict.findings) - len(shown)
        raise TrustError(
            f"{bundle.root} would run code of its own, and nobody has trusted it:\n"
            + "\n".join(shown)
            + (f"\n  and {more} more" if more > 0 else "")
            + f"\nRead it. If you trust where it comes from, type: volseg trust {shlex.quote(str(bundle.root))}"
        )
    return verdict


def record_trust(verdict: Verdict) -> str:
    """Trust the very tree that was judged; gives its SHA-256.

    Raises:
        FileError: the record can't be read or written.
    """
    _remember(verdict.sha256)
    return verdict.sha256


@contextmanager
def trust_kept(bundle: Bundle, verdict: Verdict) -> Iterator[None]:
    """Keep a trusted bundle trusted over what our own training writes into it; any other change still revokes."""
    try:
        yield
    finally:
        if verdict.trusted:
            try:
                files = _checksums(bundle.root, {})
                if _not_written_by_training(files) == _not_written_by_training(verdict.files):
                    _remember(_sha256_of_all(files))
            except VolsegError as error:  # what was trained is there all the same
                log.warning("%s is no longer trusted: %s", bundle.root, error)


def code_sha256(verdict: Verdict) -> str | None:
    """Of all files of a bundle that runs code of its own, but for what training writes; None for any other bundle."""
    return _sha256_of_all(_not_written_by_training(verdict.files)) if verdict.findings else None


def _not_written_by_training(files: Mapping[str, str]) -> dict[str, str]:
    return {
        name: checksum
        for name, checksum in files.items()
        if name != WRITTEN_README
        and (name.split("/")[0] not in WRITTEN_BY_TRAINING or PurePosixPath(name).suffix not in WRITTEN_SUFFIXES)
    }


def _checksums(root: Path, known: Mapping[Path, str]) -> dict[str, str]:
    """The SHA-256 of each file below a folder, by its path relative to it, sorted; ``known`` ones are taken as told."""
    found: dict[str, str] = {}
    folders = [root]
    try:
        while folders:
            for path in folders.pop().iterdir():
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode):
                    folders.append(path)
                elif stat.S_ISREG(mode):
                    found[path.relative_to(root).as_posix()] = known.get(path) or _checksum(path)
                else:
                    raise _not_plain(path)
    except FileNotFoundError as error:
        raise BundleError(f"{root} changed while it was read. Run the command again.", code="changed") from error
    except OSError as error:
        if isinstance(error, FileError):
            raise
        where = error.filename or root
        raise FileError(
            f"{where} can't be read, and trust in a bundle covers all of its files: {error.strerror}."
        ) from error
    return dict(sorted(found.items()))


def _checksum(path: Path) -> str:
    # Neither a link nor a pipe that was put here a moment ago is followed or waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123  a descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _not_plain(path)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_plain(path: Path) -> BundleError:
    return BundleError(
        f"{path} is a link or special file, so nobody can vouch for what it holds. Replace it by a plain file.",
        path=path,
        code="link",
    )


def _sha256_of_all(files: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, checksum in files.items():
        raw = os.fsencode(name)
        digest.update(b"%d:%s:%s\n" % (len(raw), raw, checksum.encode()))
    return digest.hexdigest()


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."


def _remember(checksum: str) -> None:
    trusted = _read_store()
    if checksum not in trusted:
        path = store_path()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        write_text(path, json.dumps({"format": 1, "trusted": sorted({*trusted, checksum})}, indent=1) + "\n")
        path.chmod(0o600)


def _read_store() -> frozenset[str]:
    path = store_path()
    try:
        trusted = json.loads(read_bounded(path, MAX_STORE_BYTES, "list of trust", require=_require_own))["trusted"]
        if not isinstance(trusted, list) or not all(isinstance(checksum, str) for checksum in trusted):
            raise ValueError("no list of checksums")
        return frozenset(trusted)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, FileError) and error.code == "missing-file":
            return frozenset()
        if isinstance(error, FileError) and error.code == STORE_FAULT:
            raise
        raise FileError(
            f"{path}, where volseg keeps what you trust, can't be read. Repair or remove it, then trust again.",
            code=STORE_FAULT,
        ) from error


def _require_own(path: Path, found: os.stat_result) -> None:
    """Whoever else may write this file could trust bundles in this person's name."""
    if not hasattr(os, "getuid"):
        return
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileError(
            f"{path}, where volseg keeps what you trust, can be changed by others. Look at what it holds, "
            "then make it yours alone with chown and chmod 600, or remove it.",
            code=STORE_FAULT,
        )
