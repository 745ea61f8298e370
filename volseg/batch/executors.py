"""Where the work on cases runs: in this thread, in several threads, in fresh processes."""

from __future__ import annotations

import multiprocessing
import signal
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from volseg.batch.children import safe_children

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from multiprocessing.process import BaseProcess
    from types import FrameType

T = TypeVar("T")
R = TypeVar("R")
GRACE_SECONDS = 10.0
"""After an interrupt a worker has this long to remove what it had half-written, then it is killed."""


@dataclass(frozen=True)
class Lost:
    """A worker was killed: one of these items was its, and each that was left is tried again alone."""

    numbers: tuple[int, ...]


class Executor(Protocol):
    """Where work runs; one for a cluster has the same three members."""

    @property
    def workers(self) -> int:
        """How many items are worked on at once."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether items are worked on one after the other in the thread that asked."""
        ...

    def run(self, work: Callable[[T], R], items: Sequence[T]) -> Generator[tuple[int, R | None] | Lost, None, None]:
        """Give the number of each item with its result as it comes; None where its worker was killed, and ``Lost`` at once
        where one was, if items are to be tried again.

        What ``work`` raises ends the run and is raised here; so does an interrupt. Items under way then leave nothing
        half-written.
        """
        ...


@dataclass(frozen=True)
class Serial:
    """One item after the other in this thread."""

    workers: int = 1
    is_here: bool = True

    def run(self, work: Callable[[T], R], items: Sequence[T]) -> Generator[tuple[int, R | None] | Lost, None, None]:
        """See ``Executor``."""
        for number, item in enumerate(items):
            yield number, work(item)


SERIAL = Serial()


@dataclass(frozen=True)
class Threads:
    """Several items at once in threads, for work that waits or leaves Python's lock to others."""

    workers: int
    is_here: bool = False

    def run(self, work: Callable[[T], R], items: Sequence[T]) -> Generator[tuple[int, R | None] | Lost, None, None]:
        """See ``Executor``; an interrupt waits for the items under way, since threads can't be ended."""
        pool = ThreadPoolExecutor(self.workers)
        try:
            number_of = {pool.submit(work, item): number for number, item in enumerate(items)}
            for future in as_completed(number_of):
                yield number_of[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Processes:
    """Several items at once in fresh processes: a worker that the system kills costs its own item only.

    Work and items must be picklable. A single item runs in this process.
    """

    workers: int
    is_here: bool = False

    def run(self, work: Callable[[T], R], items: Sequence[T]) -> Generator[tuple[int, R | None] | Lost, None, None]:
        """See ``Executor``."""
        if min(self.workers, len(items)) <= 1:
            yield from SERIAL.run(work, items)
            return
        orphans: list[int] = []
        with _workers(min(self.workers, len(items))) as executor:
            with sigint_blocked():
                pending: dict[Future[R], int] = {
                    executor.submit(_unless_ended, work, item): number for number, item in enumerate(items)
                }
            while pending:
                ready, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in ready:
                    number = pending.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        orphans.append(number)
                    else:
                        yield number, result
        # One killed worker breaks the whole pool: each item that was left gets a process of its own.
        orphans.sort()
        if orphans:
            yield Lost(tuple(orphans[: self.workers]))
        for number in orphans:
            yield number, _in_own_process(work, items[number])


def _in_own_process(work: Callable[[T], R], item: T) -> R | None:
    with _workers(1) as executor:
        try:
            with sigint_blocked():
                future = executor.submit(_unless_ended, work, item)
            return future.result()
        except BrokenProcessPool:
            return None


class _FreshProcess(SpawnProcess):
    """A process that never imports from the folder one stands in, nor runs the caller's script again.

    Python's own run that script where it lacks a main guard. What workers run lives in importable modules.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        with safe_children():
            return SpawnProcess._Popen(process_obj)


class _FreshContext(SpawnContext):
    Process = _FreshProcess


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes; an error or interrupt stops them, and they remove what they had half-written."""
    others = set(multiprocessing.active_children())
    with safe_children():  # its queues start a process, too
        executor = ProcessPoolExecutor(count, mp_context=_FreshContext(), initializer=_begin_worker)
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
def sigint_blocked() -> Iterator[None]:
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
"""In a worker: whether it was told to end. The pool would hand it the items that wait in the queue."""


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_worker)


def _end_worker(number: int, frame: FrameType | None) -> None:
    del frame
    global _has_ended
    _has_ended = True
    raise SystemExit(128 + number)  # unwinds, so that half-written files are removed


def _unless_ended(work: Callable[[T], R], item: T) -> R:
    if _has_ended:
        raise SystemExit
    return work(item)
