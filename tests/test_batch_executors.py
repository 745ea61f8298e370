"""Where work runs: every item once, in any order, and an error ends the run."""

from __future__ import annotations

import threading

import pytest

from volseg.batch import SERIAL, Executor, Processes, Threads

EXECUTORS = (SERIAL, Threads(2), Processes(2))


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda one: type(one).__name__)
def test_each_item_comes_once_with_its_number(executor: Executor) -> None:
    assert dict(executor.run(abs, [-3, 4, -5])) == {0: 3, 1: 4, 2: 5}  # type: ignore[arg-type]
    assert list(executor.run(abs, [])) == []


@pytest.mark.parametrize("executor", EXECUTORS[:2], ids=lambda one: type(one).__name__)
def test_an_error_ends_the_run_and_what_waits_is_never_begun(executor: Executor) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError
        return threading.Event().wait(0.05) or item

    with pytest.raises(ValueError, match=r"^$"):
        list(executor.run(work, range(100)))
    assert len(begun) < 10


def test_threads_work_at_once_and_give_what_is_ready_first() -> None:
    ready = threading.Event()

    def work(item: str) -> str:
        if item == "slow":
            assert ready.wait(10)
        return item

    results = Threads(2).run(work, ["slow", "quick"])
    assert next(results) == (1, "quick")
    ready.set()
    assert next(results) == (0, "slow")


def test_a_single_item_takes_no_other_process() -> None:
    here: list[int] = []
    assert list(Processes(8).run(here.append, [7])) == [(0, None)]
    assert here == [7]  # a process of its own would have had a list of its own
