"""The files of a case in OUT_DIR: made in a hidden folder beside their places, and put there all at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from volseg.atomic import TEMPORARY_MARK, require_no_links, write_error, write_text
from volseg.files import read_bounded
from volseg.kept import State, file_digest, require_replaceable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from volseg.outcomes import FileDigest

PLACING = ".placing"
"""Lies in the hidden folder of a case from when its files are put in their places until the ledger knows of them, and holds
their digests: by these a run after a kill knows its own files."""
MAX_PLACING_BYTES = 2**22
"""A case has at most some hundred files."""


def path_in(place: str, name: str) -> str:
    """The path of a file in a folder of OUT_DIR, with slashes; the folder may be empty, for OUT_DIR itself."""
    return str(PurePosixPath(place, name))


@contextmanager
def hidden_folder(out_dir: Path, case: str) -> Iterator[Path]:
    """A hidden folder beside the results for what is not yet whole; what a killed run left in one is removed.

    Raises:
        FileError: it can't be made.
    """
    for left in _left(out_dir, case):
        _clear(left)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_hidden(case), dir=out_dir))
    except OSError as error:
        raise write_error(out_dir, error) from error
    try:
        yield folder
    finally:
        _clear(folder)


def _clear(folder: Path) -> None:
    """Remove a hidden folder, or all in it but for the digests of files that were put in their places."""
    if not (folder / PLACING).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != PLACING:
                path.unlink(missing_ok=True)


def forget_placed(out_dir: Path, cases: Iterable[str]) -> None:
    """Remove the hidden folders of cases that the ledger knows."""
    known = set(map(_hidden, cases))
    for left in out_dir.glob(f".*{TEMPORARY_MARK}*"):
        if left.name[: left.name.rindex(TEMPORARY_MARK) + len(TEMPORARY_MARK)] in known:
            shutil.rmtree(left, ignore_errors=True)


def being_placed(out_dir: Path, case: str) -> frozenset[tuple[str, str]] | None:
    """Names and digests of the files that killed runs were putting in their places; None where none was killed at that."""
    found: set[tuple[str, str]] | None = None
    for left in _left(out_dir, case):
        try:
            content = json.loads(read_bounded(left / PLACING, MAX_PLACING_BYTES, "file", follow=False))
            found = (found or set()) | {(str(name), str(digest)) for name, digest in content.items()}
        except (OSError, ValueError, AttributeError, RecursionError):  # VolsegErrors among them
            continue
    return None if found is None else frozenset(found)


def put_in_place(
    out_dir: Path,
    folder: Path,
    files: Mapping[str, FileDigest],
    gone: Mapping[str, FileDigest],
    *,
    masks_too: bool,
) -> None:
    """Move a case's files to their places all at once, so that a mask never lies beside another's image.

    What is replaced goes first: a run that is killed in between leaves no mask beside an image that it is not of.

    Args:
        out_dir: where to.
        folder: a hidden one, in which they lie as they will in ``out_dir``.
        files: what they hold.
        gone: files that an earlier run made; those that are not made again go, as far as they are as it wrote them.
        masks_too: whether image and mask are among them, so that the next run may finish this one.

    Raises:
        FileError: a file can't be written, or a folder is a link.
    """
    paths = [PurePosixPath(name) for name in (*files, *gone)]
    require_no_links(out_dir, dict.fromkeys(str(parent) for path in paths for parent in path.parents[:-1]))
    if masks_too:
        write_text(folder / PLACING, json.dumps({name: digest.xxh3 for name, digest in files.items()}))
    for name, digest in gone.items():
        # Such as the image of a series in whose place a file was given now.
        if name not in files and (out_dir / name).is_file() and file_digest(out_dir / name) == digest:
            (out_dir / name).unlink()
    for name in reversed(tuple(files)):
        try:
            (out_dir / name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(out_dir / name, error) from error
    for name in files:
        target = out_dir / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / name).replace(target)
        except OSError as error:
            raise write_error(target, error) from error


def require_same(out_dir: Path, files: Mapping[str, FileDigest], names: Iterable[str]) -> None:
    """Refuse to replace files that nobody recorded, unless they are what a run that was killed had just written.

    Raises:
        OutputExistsError: there are others.
    """
    for name in names:
        if (out_dir / name).exists() and file_digest(out_dir / name) != files[name]:
            require_replaceable(State.UNKNOWN)


def _left(out_dir: Path, case: str) -> list[Path]:
    """The hidden folders that killed runs left of a case."""
    return list(out_dir.glob(f"{_hidden(case)}*"))


def _hidden(case: str) -> str:
    """How the hidden folders of a case begin; those of no other case do, for neighbours are in work at once."""
    plain = "".join(character if character.isalnum() or character in "-_." else "_" for character in case)
    apart = "" if plain == case else f"-{hashlib.sha256(os.fsencode(case)).hexdigest()[:16]}"
    return f".{plain}{apart}{TEMPORARY_MARK}"
