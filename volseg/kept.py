"""Reuse of results of an earlier run: kept where input, method and files are unchanged.

An output stays only if all three match. One that is just as volseg wrote it, of another input, is made anew. One that
a person has edited since is never replaced unasked.
"""

from __future__ import annotations

import time
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Self

from volseg.errors import FileError, OutputExistsError
from volseg.outcomes import ALREADY_DONE, FileDigest, Ledger, Made, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

CHUNK_BYTES = 2**18
SHARE_OF_TIME = 0.02
"""A ledger is written while work is under way as often as takes no more than this share of the time."""
EDITED = "Somebody has changed its files since they were made; they were left as they are."
ANEW = "Its input has changed since an earlier run, so it was made anew."


class State(Enum):
    """What there is of a case."""

    ABSENT = auto()
    """None of its files."""
    CURRENT = auto()
    """All of its files, as they were written, from this input by this method."""
    EDITED = auto()
    """All of its files, some changed since; input and method are the same."""
    STALE = auto()
    """Files as they were written, from another input, or not all of them."""
    OTHER_METHOD = auto()
    """Files as they were written, by another model or other options."""
    EDITED_STALE = auto()
    """Files that were changed since, from another input or by another method, or not all of them."""
    UNKNOWN = auto()
    """Files that nobody recorded."""


_REFUSALS = {
    State.OTHER_METHOD: ("exists", "Its files are there, made by another model or with other options."),
    State.EDITED_STALE: ("edited", "Somebody has changed its files, and they are not of this input and these options."),
    State.UNKNOWN: ("exists", "Files of its name are there, and nobody recorded what they were made from."),
}


def file_digest(path: Path) -> FileDigest:
    """The digest of a file, read in pieces.

    Raises:
        FileError: it can't be read.
    """
    from xxhash import xxh3_128

    size, checksum, buffer = 0, xxh3_128(), memoryview(bytearray(CHUNK_BYTES))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                size += count
                checksum.update(buffer[:count])
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}.", code="cannot-read", path=path) from error
    return FileDigest(size, checksum.hexdigest())


def state_of(before: Made | None, now: Made, folder: Path) -> State:
    """What there is of a case.

    Args:
        before: what an earlier run recorded; None where it recorded nothing.
        now: input and method of this run, and the names of the files that it would write, whatever their digests.
        folder: where the files lie.

    Raises:
        FileError: a file can't be read.
    """
    there = [name for name in now.files if (folder / name).is_file()]
    if not there:
        return State.ABSENT
    if before is None:
        return State.UNKNOWN
    is_same = (before.input, before.method) == (now.input, now.method)
    is_whole = len(there) == len(now.files)
    if any(before.files.get(name) != file_digest(folder / name) for name in there):
        return State.EDITED if is_same and is_whole else State.EDITED_STALE
    if before.method != now.method:
        return State.OTHER_METHOD
    return State.CURRENT if is_same and is_whole else State.STALE


def require_replaceable(state: State) -> None:
    """Refuse to replace files that are not known to be volseg's own, or that a person may want.

    Raises:
        OutputExistsError: with the code ``exists`` or ``edited``.
    """
    if state in _REFUSALS:
        code, message = _REFUSALS[state]
        raise OutputExistsError(f"{message} Replace them with --overwrite, or move them elsewhere.", code=code)


def kept_outcome(earlier: Outcome, state: State) -> Outcome:
    """The outcome of a case that stays as it is; a person is told where it was edited."""
    warnings = [warning for warning in earlier.warnings if warning != EDITED]
    if state is State.EDITED:
        warnings.append(EDITED)
    message = earlier.message if earlier.status is Status.DONE else ""  # it was refused meanwhile
    return replace(earlier, status=Status.DONE, code=ALREADY_DONE, message=message, warnings=tuple(warnings))


def merged(ledger: Ledger, earlier: Iterable[Outcome], folder: Path) -> Ledger:
    """The ledger to write: cases of earlier runs that this one had nothing to do with stay in it as they were.

    What was done before reads as done, so that a second run changes no byte. A case that is refused now keeps the
    record of what it was made from as long as its files are there.
    """
    kept = {
        outcome.case: outcome
        for outcome in earlier
        if (outcome.status is Status.DONE or outcome.made is not None)
        and all((folder / name).is_file() for name in outcome.outputs)
    }
    done_before = len(kept)
    for outcome in ledger.outcomes:
        before = kept.get(outcome.case)
        if outcome.code == ALREADY_DONE:
            outcome = replace(outcome, code="done")
        elif before is not None and outcome.status is not Status.DONE and outcome.made is None:
            outcome = replace(outcome, made=before.made, outputs=before.outputs)
        kept[outcome.case] = outcome
    return replace(ledger, outcomes=tuple(kept[case] for case in sorted(kept)), done_before=done_before)


class RunningLedger:
    """The ledger of a run under way, on the disk from its beginning to its end, whatever ends it.

    Args:
        path: of the ledger.
        ledger: what is known before the work.
        earlier: outcomes of earlier runs by case.
    """

    def __init__(self, path: Path, ledger: Ledger, earlier: Mapping[str, Outcome]) -> None:
        self._path, self._ledger, self._earlier = path, ledger, earlier
        self._outcomes = list(ledger.outcomes)
        self._write_at = 0.0

    def __enter__(self) -> Self:
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._write()
        except FileError:
            if error is None:
                raise

    def add(self, outcome: Outcome) -> None:
        """Take in one outcome."""
        self._outcomes.append(outcome)
        if time.monotonic() >= self._write_at:
            self._write()

    @property
    def ledger(self) -> Ledger:
        """This run's outcomes."""
        ledger = replace(self._ledger, outcomes=tuple(self._outcomes))
        return replace(ledger, done_before=merged(ledger, self._earlier.values(), self._path.parent).done_before)

    def _write(self) -> None:
        began = time.monotonic()
        ledger = replace(self._ledger, outcomes=tuple(self._outcomes))
        merged(ledger, self._earlier.values(), self._path.parent).write(self._path)
        now = time.monotonic()
        self._write_at = now + (now - began) / SHARE_OF_TIME
