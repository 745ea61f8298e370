"""Long jobs side by side, each in a fresh process of its own that tells how far it is."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import time
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from volseg.batch.executors import _FreshContext, sigint_blocked
from volseg.causes import cause_of
from volseg.errors import VolsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from volseg.progress import Progress, Task

T = TypeVar("T")
R = TypeVar("R")
GRACE_SECONDS = 60.0
"""After an interrupt a job has this long to write down where it stands, then it is killed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended(Generic[R]):
    """How a job ended.

    Args:
        result: what it gave; None where it gave nothing.
        error: what ended it, for a person.
    """

    result: R | None = None
    error: VolsegError | None = None


@dataclass(eq=False)
class _Running:
    number: int
    title: str
    process: BaseProcess
    pipe: Connection
    tasks: dict[int, tuple[ExitStack, Task]] = field(default_factory=dict)
    titles: set[str] = field(default_factory=set)

    def is_leading(self, lead: str) -> bool:
        """Whether it is the first job, and has not come to where the others may begin."""
        return self.number == 0 and lead not in self.titles


def run_jobs(
    work: Callable[[T, Progress], R],
    jobs: Sequence[tuple[str, T]],
    workers: int,
    progress: Progress,
    *,
    lead: str | None = None,
) -> Generator[tuple[int, Ended[R]], None, None]:
    """Give the number of each job with its end as it comes. What ends one job, even a kill, leaves the others alone.

    An interrupt here interrupts the jobs under way (``KeyboardInterrupt`` is raised in each), waits for them and is
    raised again. Where this process is killed, each job is interrupted at its next word of progress.

    Args:
        work: called in another process with a job and its progress; picklable.
        jobs: a title, for a person, and what ``work`` takes, picklable.
        workers: how many run at once.
        progress: receives that of all, each line and bar with the job's title in front.
        lead: the title of a task: the others wait until the first job begins it, and find done what that did before.
    """
    waiting, running = deque(range(len(jobs))), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < workers and not (lead and running and running[0].is_leading(lead)):
                number = waiting.popleft()
                title, item = jobs[number]
                running.append(_start(number, title, work, item))
            ready = wait([one.pipe for one in running])
            for one in [one for one in running if one.pipe in ready]:
                ended: Ended[R] | None = _hear(one, progress)
                if ended is not None:
                    running.remove(one)
                    yield one.number, ended
    except BaseException:
        _interrupt(running, progress)
        raise


def _start(number: int, title: str, work: Callable[[T, Progress], R], item: T) -> _Running:
    here, there = multiprocessing.Pipe(duplex=False)
    with sigint_blocked():  # a terminal's Ctrl-C reaches all processes; this one hands it on
        process = _FreshContext.Process(target=_run, args=(there, work, item))
        process.start()
    there.close()
    return _Running(number, title, process, here)


def _hear(one: _Running, progress: Progress) -> Ended[Any] | None:
    """Take a message of a job; gives how it ended, once it has."""
    try:
        what, *said = one.pipe.recv()
    except (EOFError, OSError):
        _close(one)
        return Ended(error=VolsegError(
            "Its process was killed, most likely for lack of memory. Train fewer folds at once, with --at-once.",
            code="killed",
        ))  # fmt: skip
    if what == "ended":
        _close(one)
        return Ended(*said)
    if what == "say":
        progress.say(f"{one.title}: {said[0]}")
    elif what == "begin":
        task, title, total, unit, done = said
        one.titles.add(title)
        stack = ExitStack()
        one.tasks[task] = stack, stack.enter_context(progress.task(f"{one.title}: {title}", total, unit, done))
    elif what == "advance":
        task, amount, note = said
        one.tasks[task][1].advance(amount, note)
    elif what == "end":
        task, whole = said
        _end(one.tasks.pop(task)[0], whole=whole)
    return None


def _end(stack: ExitStack, *, whole: bool) -> None:
    """End the progress of a task; one that was stopped is shown as such."""
    if whole:
        stack.close()
    else:
        stopped = InterruptedError()
        stack.__exit__(InterruptedError, stopped, None)


def _close(one: _Running) -> None:
    for stack, _ in reversed(one.tasks.values()):  # it came to an end of none of them
        _end(stack, whole=False)
    one.tasks.clear()
    one.process.join()
    one.pipe.close()


def _interrupt(running: Sequence[_Running], progress: Progress) -> None:
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    left = list(running)
    try:
        while left and time.monotonic() < deadline:
            ready = wait([one.pipe for one in left], timeout=max(0.0, deadline - time.monotonic()))
            left = [one for one in left if one.pipe not in ready or _hear(one, progress) is None]
    finally:  # also where a second interrupt comes
        for one in left:
            one.process.kill()
            _close(one)


class _Told:
    """Progress that is told to another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._count = pipe, 0

    def tell(self, *message: object) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:  # nobody is there any more
            raise KeyboardInterrupt from error

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        self._count += 1
        number = self._count
        self.tell("begin", number, title, total, unit, done)
        try:
            yield _ToldTask(self, number)
        except BaseException:
            self.tell("end", number, False)
            raise
        self.tell("end", number, True)

    def say(self, line: str) -> None:
        self.tell("say", line)


@dataclass(frozen=True, eq=False)
class _ToldTask:
    progress: _Told
    number: int

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.progress.tell("advance", self.number, amount, note)


def _run(pipe: Connection, work: Callable[[T, Progress], R], item: T) -> None:
    """In the other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    logging.getLogger().addHandler(logging.NullHandler())  # libraries' words may quote a file
    logging.captureWarnings(capture=True)
    sys.stdout = sys.stderr  # stdout is for results
    told, ended = _Told(pipe), Ended[Any]()
    try:
        ended = Ended(work(item, told))
    except KeyboardInterrupt:
        pass
    except VolsegError as error:
        ended = Ended(error=error)
    except Exception as error:
        # Nobody foresaw it, and its text may quote a file.
        log.debug("a job failed", exc_info=True)
        cause = cause_of(error)
        ended = Ended(
            error=VolsegError(f"An unexpected {cause.clause} ended it. Train it alone with --debug to see where.")
        )
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(OSError):
        pipe.send(("ended", ended.result, ended.error))


def _stop(number: int, frame: object) -> None:
    del number, frame
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: what is written down next is not to be stopped
    raise KeyboardInterrupt
