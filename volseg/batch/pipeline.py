"""Cases in three steps each, those of neighbouring cases at the same time: one is read while the one before it is
computed and the one before that is written.

The middle step runs in the thread that asked, where an interrupt reaches it, and cases keep their order. No more than three
are in work, and the next one is only begun early where its memory allows.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Generic, TypeVar

from volseg.batch.run import CaseProgress, case_under_way, unforeseen
from volseg.errors import DiskFullError, VolsegError
from volseg.outcomes import Outcome
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from concurrent.futures import Future

    from volseg.progress import Task

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


def run_overlapping(
    work: Callable[[T], Generator[R | None, None, Outcome]],
    cases: Sequence[T],
    *,
    name_of: Callable[[T], str],
    title: str,
    private_of: Callable[[T], str] = lambda _: "",
    may_overlap: Callable[[T, R | None], bool] = lambda _, __: True,
    progress: Progress = SILENT,
    on_outcome: Callable[[Outcome], object] | None = None,
) -> tuple[Outcome, ...]:
    """Call ``work`` on each case and collect one outcome each; as ``run_cases``, but that steps of neighbours overlap.

    Args:
        work: gives control back twice, before and after its middle step, and returns the outcome; a case that ends early
            needn't. Its steps run in different threads, one after the other. What it gives the first time is for
            ``may_overlap``.
        cases: what to work on.
        name_of: the public name of a case.
        title: of the task, for a person.
        private_of: what only stderr may show of a case that fails; see ``Outcome``.
        may_overlap: whether there is memory to begin a case while the one before it is computed; asked right then, with
            the case and with what the first step of the one before gave.
        progress: receives the progress.
        on_outcome: called with each outcome as soon as it is there, one after the other in the order of the cases, in the
            thread of the last steps.

    Raises:
        DiskFullError: no space is left on the disk.
        KeyboardInterrupt: the person interrupted; what was half-written is removed, and a case that was being written is
            whole.
    """
    outcomes: list[Outcome] = []

    def take(one: _Staged[T, R]) -> None:
        outcomes.append(one.result())
        task.advance(1.0 - one.told, one.name)

    begun: list[_Staged[T, R]] = []
    with progress.task(title, len(cases), "cases") as task:
        ahead, behind = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        try:
            for number, case in enumerate(cases):
                if len(begun) == number:
                    begun.append(_Staged(work, case, name_of(case), private_of(case), ahead))
                current = begun[number]
                current.wait()
                follows = number + 1 < len(cases)
                given = current.take_given()
                if follows and not current.ended and may_overlap(cases[number + 1], given):
                    after = cases[number + 1]
                    begun.append(_Staged(work, after, name_of(after), private_of(after), ahead))
                del given
                current.compute(task)
                if number:
                    take(begun[number - 1])
                current.finish(behind, on_outcome)
            if begun:
                take(begun[-1])
        finally:
            ahead.shutdown(cancel_futures=True)
            behind.shutdown()  # what the network has found is written
            for one in begun:
                one.close()
    return tuple(outcomes)


class _Staged(Generic[T, R]):
    """A case, one step after the other. What ends a step ends the case alone, but for a full disk."""

    def __init__(
        self,
        work: Callable[[T], Generator[R | None, None, Outcome]],
        case: T,
        name: str,
        private: str,
        ahead: ThreadPoolExecutor,
    ) -> None:
        self.name, self._private = name, private
        self.told = 0.0
        self._steps = work(case)
        self._outcome: Outcome | None = None
        self._given: R | None = None
        self._under_way: Future[None] = ahead.submit(self._step)

    def _step(self) -> None:
        if self._outcome is not None:
            return
        try:
            self._given = next(self._steps)
        except StopIteration as end:
            self._outcome = end.value
        except DiskFullError:
            raise
        except VolsegError as error:
            self._outcome = Outcome.of_error(self.name, error, private=self._private)
        except Exception as error:
            log.debug("case %s failed", self.name, exc_info=True)
            self._outcome = unforeseen(self.name, self._private, error)

    @property
    def ended(self) -> bool:
        """Whether it needs no further step."""
        return self._outcome is not None

    def take_given(self) -> R | None:
        """What the last step gave, which is let go."""
        given, self._given = self._given, None
        return given

    def wait(self) -> None:
        """Wait for what runs elsewhere."""
        self._under_way.result()

    def compute(self, task: Task) -> None:
        """Take the middle step in this thread, where it tells how far it is."""
        progress = CaseProgress(task, self.name)
        token = case_under_way.set(progress)
        try:
            self._step()
        finally:
            case_under_way.reset(token)
            self.told = progress.done

    def finish(self, behind: ThreadPoolExecutor, on_outcome: Callable[[Outcome], object] | None) -> None:
        """Take the last step elsewhere."""

        def end() -> None:
            self._step()
            if on_outcome is not None and self._outcome is not None:
                on_outcome(self._outcome)

        self._under_way = behind.submit(end)

    def result(self) -> Outcome:
        """The outcome, once it is there."""
        self.wait()
        assert self._outcome is not None, "work has three steps at most"
        return self._outcome

    def close(self) -> None:
        """Let a case that is not through remove what it had half-written."""
        with closing(self._steps):
            pass
