"""Trust: a bundle's config is code, so one that goes beyond the vocabulary runs only when a person has said so.

Trust is kept by the SHA-256 of the whole tree: any change of any file revokes it, and the place doesn't matter.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from volseg.atomic import write_error, write_text
from volseg.bundle.folder import CONFIGS
from volseg.bundle.lint import JUDGED_CONFIGS, Finding, lint_config
from volseg.bundle.tree import TreeFile, read_tree, sha256_of_all
from volseg.errors import FileError, TrustError, VolsegError
from volseg.files import read_bounded
from volseg.personal import personal_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from volseg.bundle.folder import Bundle, ConfigFile

log = logging.getLogger(__name__)

MAX_STORE_BYTES = 2**24
STORE_FAULT = "trust-store"
SHOWN_FINDINGS = 40
SHOWN_CHARACTERS = 240
"""A refusal lists so many, each so long; volseg trust lists all of them whole."""
WRITTEN_BY_TRAINING = ("runs", "models", "eval")
WRITTEN_SUFFIXES = (".pt", ".csv", ".png", ".json", ".txt", ".log", ".nii", ".nii.gz")
"""What our own training and a foreign config's handlers write, and where, beside the scores in the README.

Nothing of it is code.
"""
WRITTEN_README = "docs/README.md"


@dataclass(frozen=True)
class Verdict:
    """What a bundle would run beyond the vocabulary, and whether a person trusts it.

    Args:
        findings: empty for a bundle as ``volseg plan`` writes it.
        trusted: whether this very tree was trusted.
        configs: the configs that were judged, by name; whoever builds takes these and reads no file again.
        files: every file by its path; empty when there are no findings.
    """

    findings: tuple[Finding, ...]
    trusted: bool
    configs: Mapping[str, ConfigFile] = field(default_factory=dict)
    files: Mapping[str, TreeFile] = field(default_factory=dict)

    @property
    def may_run(self) -> bool:
        """Whether the bundle may run."""
        return self.trusted or not self.findings

    @property
    def sha256(self) -> str:
        """Of the whole tree."""
        return sha256_of_all(self.files)

    @property
    def code(self) -> dict[str, TreeFile]:
        """The files that can run, beside the configs that were judged."""
        judged = {f"{CONFIGS}/{config.path.name}" for config in self.configs.values()}
        return {name: file for name, file in self.files.items() if file.kind and name not in judged}


def store_path() -> Path:
    """The file that keeps the checksums of trusted trees."""
    return personal_folder() / "trusted.json"


def judge(bundle: Bundle) -> Verdict:
    """Lint the bundle and look its tree up among the trusted. Nothing of it is run.

    Raises:
        BundleError: a config is malformed, or the tree holds links.
        FileError: a file, or the record of what is trusted, can't be read.
    """
    configs = {name: bundle.load_config(name) for name in JUDGED_CONFIGS if bundle.find_config(name) is not None}
    findings = tuple(finding for name, config in configs.items() for finding in lint_config(name, config.content))
    if not findings:
        return Verdict((), trusted=False, configs=configs)
    # The configs count with the bytes that were linted, whatever lies on the disk by now.
    files = read_tree(bundle.root)
    for config in configs.values():
        name = config.path.relative_to(bundle.root).as_posix()
        if name in files:
            files[name] = replace(files[name], sha256=config.sha256)
    return Verdict(findings, sha256_of_all(files) in remembered(), configs, files)


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
            f"{bundle.root} goes beyond what runs without trust, and nobody has trusted it:",
            lines=(
                *shown,
                *([f"  and {more} more"] if more > 0 else []),
                f"Read it. If you trust where it comes from, type: volseg trust {shlex.quote(str(bundle.root))}",
            ),
        )
    return verdict


def record_trust(verdict: Verdict) -> str:
    """Trust the very tree that was judged; gives its SHA-256.

    Raises:
        FileError: the record can't be read or written.
    """
    remember(verdict.sha256)
    return verdict.sha256


@contextmanager
def trust_kept(bundle: Bundle, verdict: Verdict, *, written: Sequence[str] = ()) -> Iterator[None]:
    """Keep a trusted bundle trusted over what our own training writes into it; any other change still revokes.

    Args:
        bundle: the bundle.
        verdict: from before.
        written: further files that are written meanwhile, by their paths in it.
    """
    try:
        yield
    finally:
        if verdict.trusted:
            try:
                files = read_tree(bundle.root)
                before, after = (
                    sha256_of_all({n: f for n, f in _not_written_by_training(tree).items() if n not in written})
                    for tree in (verdict.files, files)
                )
                if before == after:
                    remember(sha256_of_all(files))
            except VolsegError as error:  # what was trained is there all the same
                log.warning("%s is no longer trusted: %s", bundle.root, error)


def code_sha256(verdict: Verdict) -> str | None:
    """Of all files of a bundle that runs code of its own, but for what training writes; None for any other bundle."""
    return sha256_of_all(_not_written_by_training(verdict.files)) if verdict.findings else None


def _not_written_by_training(files: Mapping[str, TreeFile]) -> dict[str, TreeFile]:
    return {
        name: file
        for name, file in files.items()
        if name != WRITTEN_README
        and (name.split("/")[0] not in WRITTEN_BY_TRAINING or not name.endswith(WRITTEN_SUFFIXES))
    }


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."


def remember(checksum: str) -> None:
    """Add a checksum to what this person trusts.

    Raises:
        FileError: the record can't be read or written.
    """
    trusted = remembered()
    if checksum not in trusted:
        path = store_path()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        write_text(path, json.dumps({"format": 1, "trusted": sorted({*trusted, checksum})}, indent=1) + "\n")
        path.chmod(0o600)


def remembered() -> frozenset[str]:
    """The checksums of what this person trusts.

    Raises:
        FileError: the record can't be read.
    """
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
