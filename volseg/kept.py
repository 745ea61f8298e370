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
from volseg.files import open_plain
from volseg.outcomes import ALREADY_DONE, FileDigest, Ledger, Made, Outcome, Provenance, Status

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
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
    State.OTHER_METHOD: ("exists", "Its files are there, made {otherwise}."),
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
        with open_plain(path) as file:
            while count := file.readinto(buffer):
                size += count
                checksum.update(buffer[:count])
    except FileError:
        raise
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
    there = [name for name in now.files if (folder / name).exists()]
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


def require_replaceable(state: State, otherwise: str = "with other options") -> None:
    """Refuse to replace files that are not known to be volseg's own, or that a person may want.

    Args:
        state: of the case.
        otherwise: what another method is, for the message.

    Raises:
        OutputExistsError: with the code ``exists`` or ``edited``.
    """
    if state in _REFUSALS:
        code, message = _REFUSALS[state]
        message = message.format(otherwise=otherwise)
        raise OutputExistsError(f"{message} Replace them with --overwrite, or move them elsewhere.", code=code)


def kept_outcome(earlier: Outcome, state: State) -> Outcome:
    """The outcome of a case that stays as it is; a person is told where it was edited."""
    warnings = [warning for warning in earlier.warnings if warning != EDITED]
    if state is State.EDITED:
        warnings.append(EDITED)
    return replace(earlier, status=Status.DONE, code=ALREADY_DONE, warnings=tuple(warnings), run=0, since="")


def merged(
    ledger: Ledger,
    before: Ledger | None,
    folder: Path,
    there: Iterable[Outcome] | None = None,
    *,
    origin: str = "",
    aside: Container[str] = (),
    under_way: Container[str] = (),
) -> Ledger:
    """The ledger to write: the record of all that lies in the folder, and what this run says of the rest.

    What earlier runs made stays recorded as they made it, with how they did, as long as its files are there, whatever
    this run says of the case: where it refuses or fails, that is told in ``since``. What was done before reads as done,
    so that a second run changes no byte. What earlier runs refused or skipped stays too, where it comes from another
    input or this run put it aside; of the same input, this run alone tells what is wrong.

    Args:
        ledger: of this run.
        before: what earlier runs wrote.
        folder: where the outputs lie.
        there: what lies there, where it is known from elsewhere than ``before``.
        origin: the keyed mark of this run's input folder; of an input without one, earlier refusals are dropped.
        aside: cases of this input that this run was told to leave out.
        under_way: cases that this run works on. What is known of one isn't forgotten before its outcome is there, nor where
            that is ``edited``, even if some of its files are gone: what a person edited is known by it.
    """
    now = {outcome.case: outcome.code for outcome in ledger.outcomes}
    told = {outcome.case: outcome for outcome in before.outcomes} if before else {}
    how = {case: before.provenance_of(outcome) for case, outcome in told.items()} if before else {}
    unknown = Provenance(ledger.provenance.command, {}, {})
    whole = {
        outcome.case: (replace(outcome, since=_since(told, outcome.case)), how.get(outcome.case, unknown))
        for outcome in (told.values() if there is None else there)
        if outcome.status is Status.DONE
        and (
            all((folder / name).is_file() for name in outcome.outputs)
            or (outcome.case in under_way and now.get(outcome.case, "edited") == "edited")
        )
    }
    done_before = len(whole)
    for case, outcome in told.items():
        if outcome.status is not Status.DONE and (outcome.origin not in ("", origin) or case in aside):
            whole.setdefault(case, (outcome, how[case]))
    for outcome in ledger.outcomes:
        was, by = whole.get(outcome.case, (None, unknown))
        is_there = was is not None and was.status is Status.DONE
        if outcome.code == ALREADY_DONE:
            by = by if is_there and by.versions else ledger.provenance
            whole[outcome.case] = replace(outcome, code="done", since=""), by
        elif was is not None and is_there and outcome.status is not Status.DONE:
            since = f"{outcome.status} [{outcome.code}] {outcome.message}".rstrip()
            whole[outcome.case] = replace(was, since=since), by
        else:
            came_from = "" if outcome.status is Status.DONE else origin
            whole[outcome.case] = replace(outcome, origin=came_from), ledger.provenance
    runs = _Runs(ledger.provenance)
    outcomes = tuple(replace(outcome, run=runs.number(by)) for _, (outcome, by) in sorted(whole.items()))
    return replace(ledger, outcomes=outcomes, done_before=done_before, earlier=tuple(runs.all[1:]))


def _since(told: Mapping[str, Outcome], case: str) -> str:
    return told[case].since if case in told else ""


class _Runs:
    """The provenances of a ledger, each once, by their numbers."""

    def __init__(self, first: Provenance) -> None:
        self.all: list[Provenance] = []
        self._numbers: dict[str, int] = {}
        self._known: dict[int, int] = {}
        self.number(first)

    def number(self, one: Provenance) -> int:
        """The number of a provenance, which is added where it is new."""
        if id(one) not in self._known:  # a hundred thousand cases name a few
            number = self._known[id(one)] = self._numbers.setdefault(one.to_json(), len(self.all))
            if number == len(self.all):
                self.all.append(one)
        return self._known[id(one)]


class RunningLedger:
    """The ledger of a run under way, on the disk from its beginning to its end, whatever ends it.

    Args:
        path: of the ledger.
        ledger: what is known before the work.
        before: what earlier runs wrote.
        origin: the keyed mark of the input folder; see ``merged``.
        aside: cases that were left out; see ``merged``.
        under_way: cases that this run works on; see ``merged``.
    """

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        before: Ledger | None,
        origin: str = "",
        aside: Container[str] = (),
        under_way: Container[str] = (),
    ) -> None:
        self._path, self._ledger, self._before, self._origin, self._aside = path, ledger, before, origin, aside
        self._under_way = under_way
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
        return replace(ledger, done_before=self._merged(ledger).done_before)

    def _merged(self, ledger: Ledger) -> Ledger:
        return merged(
            ledger,
            self._before,
            self._path.parent,
            origin=self._origin,
            aside=self._aside,
            under_way=self._under_way,
        )

    def _write(self) -> None:
        began = time.monotonic()
        ledger = replace(self._ledger, outcomes=tuple(self._outcomes))
        self._merged(ledger).write(self._path)
        now = time.monotonic()
        self._write_at = now + (now - began) / SHARE_OF_TIME
