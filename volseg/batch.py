"""Work over a cohort: one outcome for each case, and one bad case never costs the others."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from volseg.errors import DiskFullError, VolsegError
from volseg.outcomes import Outcome, Status
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path
    from types import FrameType

T = TypeVar("T")
SMALL_COHORT_BYTES = 2**26
"""Below this, starting workers takes longer than they save."""
SMALL_MASKS_BYTES = 2**21
"""The same for masks, which compress to a hundredth."""
GRACE_SECONDS = 10.0
"""After an interrupt a worker has this long to remove what it had half-written, then it is killed."""

log = logging.getLogger(__name__)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def jobs_that_pay(files: Iterable[Path], small_bytes: int = SMALL_COHORT_BYTES) -> int:
    """All cores, or 1 where the files together are so small that workers would take longer to start than they save.

    In one process a script also needs no ``if __name__ == "__main__"``, which Python's ``spawn`` asks for.
    """
    size = 0
    for file in files:
        size += file.stat().st_size
        if size > small_bytes:
            return available_cores()
    return 1


def run_cases(
    work: Callable[[T], Outcome],
    cases: Sequence[T],
    *,
    name_of: Callable[[T], str],
    title: str,
    jobs: int = 1,
    progress: Progress = SILENT,
) -> tuple[Outcome, ...]:
    """Call ``work`` on each case and collect one outcome each, in the order of ``cases``.

    With ``jobs`` above 1 the cases run in fresh processes, so ``work`` and the cases must be picklable, and a worker
    that the system kills costs its own case only. A full disk ends the whole run, since it would fail every case.

    Raises:
        DiskFullError: no space is left on the disk.
        KeyboardInterrupt: the person interrupted; cases under way leave nothing half-written.
    """
    if jobs <= 1 or len(cases) <= 1:
        outcomes = []
        with progress.task(title, len(cases), "cases") as task:
            for case in cases:
                outcomes.append(_guarded(work, case, name_of(case)))
                task.advance(1, name_of(case))
        return tuple(outcomes)
    return _run_in_processes(work, cases, name_of=name_of, title=title, jobs=jobs, progress=progress)


def _guarded(work: Callable[[T], Outcome], case: T, name: str) -> Outcome:
    try:
        return work(case)
    except DiskFullError:
        raise
    except VolsegError as error:
        return Outcome.of_error(name, error)
    except Exception as error:
        # The floor of the cohort's promise: what nobody foresaw is this case's failure, never the cohort's end.
        # The text of a foreign error may quote a file, so only its kind is kept; --debug shows the rest.
        log.debug("case %s failed", name, exc_info=True)
        message = f"An unexpected {type(error).__name__} ended this case. Run it alone with --debug to see where."
        return Outcome(name, Status.FAILED, "unexpected", message)


def _run_in_processes(
    work: Callable[[T], Outcome],
    cases: Sequence[T],
    *,
    name_of: Callable[[T], str],
    title: str,
    jobs: int,
    progress: Progress,
) -> tuple[Outcome, ...]:
    outcomes: dict[int, Outcome] = {}
    orphans: list[int] = []
    with progress.task(title, len(cases), "cases") as task:
        with _workers(min(jobs, len(cases))) as executor:
            with _sigint_blocked():
                pending: dict[Future[Outcome], int] = {
                    executor.submit(_guarded_in_worker, work, case, name_of(case)): number
                    for number, case in enumerate(cases)
                }
            while pending:
                ready, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in ready:
                    number = pending.pop(future)
                    try:
                        outcomes[number] = future.result()
                        task.advance(1, name_of(cases[number]))
                    except BrokenProcessPool:
                        orphans.append(number)
        # One killed worker breaks the whole pool: each case that was left gets a process of its own.
        for number in sorted(orphans):
            outcomes[number] = _in_own_process(work, cases[number], name_of(cases[number]))
            task.advance(1, name_of(cases[number]))
    return tuple(outcomes[number] for number in range(len(cases)))


def _in_own_process(work: Callable[[T], Outcome], case: T, name: str) -> Outcome:
    with _workers(1) as executor:
        try:
            with _sigint_blocked():
                future = executor.submit(_guarded_in_worker, work, case, name)
            return future.result()
        except BrokenProcessPool:
            message = (
                "The worker for this case was killed, most likely for lack of memory. Run it alone, with --jobs 1."
            )
            return Outcome(name, Status.FAILED, "killed", message)


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes; an error or interrupt stops them, and they remove what they had half-written."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker)
    try:
        yield executor
    except BaseException:
        _stop(executor, [child for child in multiprocessing.active_children() if child not in others])
        raise
    executor.shutdown()


def _stop(executor: ProcessPoolExecutor, workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        worker.terminate()
    executor.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which a terminal sends to all; here it waits for the block's end.

    A worker ends by this process's word alone, so that it prints no traceback, not even while it is starting.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_has_ended = False
"""In a worker: whether it was told to end. The pool would hand it the cases that wait in the queue."""


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_worker)


def _end_worker(number: int, frame: FrameType | None) -> None:
    del frame
    global _has_ended
    _has_ended = True
    raise SystemExit(128 + number)  # unwinds, so that half-written files are removed


def _guarded_in_worker(work: Callable[[T], Outcome], case: T, name: str) -> Outcome:
    if _has_ended:
        raise SystemExit
    return _guarded(work, case, name)
