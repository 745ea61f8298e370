"""Cases mapped over an executor."""

from __future__ import annotations

import functools
import logging
from contextlib import closing
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from volseg.batch.executors import SERIAL, Executor, Lost
from volseg.causes import cause_of
from volseg.device import memory_short
from volseg.errors import DiskFullError, VolsegError
from volseg.outcomes import Outcome, Status
from volseg.progress import SILENT, Progress
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volseg.progress import Task

T = TypeVar("T")
SHORT_REMEDY = (
    "Close other programs, work on fewer cases at once with --jobs, or at a coarser --spacing (of convert, or of plan)."
)
NAMED_CASES = 3
AGAIN = "Each case that was left is tried again alone."

log = logging.getLogger(__name__)
case_under_way: ContextVar[CaseProgress | None] = ContextVar("case_under_way", default=None)


def run_cases(
    work: Callable[[T], Outcome],
    cases: Sequence[T],
    *,
    name_of: Callable[[T], str],
    title: str,
    private_of: Callable[[T], str] = lambda _: "",
    executor: Executor = SERIAL,
    progress: Progress = SILENT,
    on_outcome: Callable[[Outcome], object] | None = None,
) -> tuple[Outcome, ...]:
    """Call ``work`` on each case and collect one outcome each, in the order of ``cases``.

    A ``VolsegError`` that ``work`` raises is the outcome of its case, and so is what nobody foresaw. A full disk ends
    the whole run, since it would fail every case.

    Args:
        work: for executors beyond this process it must be picklable, and so must the cases.
        cases: what to work on.
        name_of: the public name of a case.
        private_of: what only stderr may show of a case that fails; see ``Outcome``.
        title: of the task, for a person.
        executor: where the work runs.
        progress: receives the progress.
        on_outcome: called in this thread with each outcome as it comes.

    Raises:
        DiskFullError: no space is left on the disk.
        KeyboardInterrupt: the person interrupted; cases under way leave nothing half-written.
    """
    outcomes: dict[int, Outcome] = {}
    named = [(name_of(case), private_of(case), case) for case in cases]
    with progress.task(title, len(cases), "cases") as task:
        # Only in this thread can a case tell how far it is.
        shown = task if executor.is_here else None
        # Closed by name, so that its workers end here, whatever keeps the generator alive.
        with closing(executor.run(functools.partial(_guarded, work, shown), named)) as results:
            for found in results:
                if isinstance(found, Lost):
                    names = listed([named[number][0] for number in found.numbers], NAMED_CASES)
                    progress.say(f"A worker was killed, most likely for lack of memory, on one of {names}. {AGAIN}")
                    continue
                number, result = found
                name, private, _ = named[number]
                outcome = _killed(name, private) if result is None else result[0]
                outcomes[number] = outcome
                if on_outcome is not None:
                    on_outcome(outcome)
                task.advance(1.0 if result is None else 1.0 - result[1], name)
    return tuple(outcomes[number] for number in range(len(cases)))


def advance_case(share: float) -> None:
    """Tell that a further share, of 1 in all, of the case under way is done; nobody hears it in other processes."""
    case = case_under_way.get()
    if case is not None:
        case.advance(share)


class CaseProgress:
    """How far a case is, told to the cohort's task."""

    def __init__(self, task: Task, name: str) -> None:
        self._task, self._name = task, name
        self.done = 0.0
        task.advance(0.0, name)

    def advance(self, share: float) -> None:
        """Add a further share, of 1 in all."""
        share = min(share, 1.0 - self.done)
        self.done += share
        self._task.advance(share, self._name)


def _guarded(work: Callable[[T], Outcome], task: Task | None, named: tuple[str, str, T]) -> tuple[Outcome, float]:
    """The outcome of a case, whatever happens to it, and the share of it that was told while it ran."""
    name, private, case = named
    under_way = None if task is None else CaseProgress(task, name)
    token = case_under_way.set(under_way)
    try:
        outcome = work(case)
    except DiskFullError:
        raise
    except VolsegError as error:
        outcome = Outcome.of_error(name, error, private=private)
    except Exception as error:
        log.debug("case %s failed", name, exc_info=True)
        outcome = unforeseen(name, private, error)
    finally:
        case_under_way.reset(token)
    return outcome, under_way.done if under_way else 0.0


def unforeseen(name: str, private: str, error: Exception) -> Outcome:
    """The outcome of a case that an error ended which nobody foresaw.

    The floor of the cohort's promise: it is this case's failure, never the cohort's end. The text of a foreign error may
    quote a file, so only what is recognised is kept; --debug shows the rest.
    """
    short = memory_short(error, SHORT_REMEDY)
    cause = cause_of(error)
    what = f"This case ended: {cause.clause}" if cause.known else f"An unexpected {cause.clause} ended this case"
    code = "missing-package" if cause.module else "cannot-run" if cause.known else "unexpected"
    message = f"{what}. Run it alone with --debug to see where."
    outcome = Outcome(name, Status.FAILED, code, message, private=private)
    return Outcome.of_error(name, short, private=private) if short else outcome


def _killed(name: str, private: str) -> Outcome:
    message = "The worker for this case was killed, most likely for lack of memory. Run it alone, with --jobs 1."
    return Outcome(name, Status.FAILED, "killed", message, private=private)
