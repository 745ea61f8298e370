"""Neighbouring cases overlap, each fails alone, and no more than three are in work."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from volseg.batch import advance_case, run_overlapping
from volseg.errors import DiskFullError, InputError
from volseg.outcomes import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

WAIT_SECONDS = 20.0


def done(case: int) -> Outcome:
    return Outcome(f"c{case}", Status.DONE, "done")


def test_neighbours_overlap_and_three_are_in_work_at_most() -> None:
    """Reading a case waits for the network of the one before it, and writing for that of the one after it."""
    computing = [threading.Event() for _ in range(6)]
    read = [threading.Event() for _ in range(6)]
    written = [threading.Event() for _ in range(6)]
    in_work, most, lock = 0, 0, threading.Lock()
    threads: dict[int, list[threading.Thread]] = {}
    main = threading.current_thread()

    def work(case: int) -> Generator[None, None, Outcome]:
        nonlocal in_work, most
        with lock:
            in_work += 1
            most = max(most, in_work)
        if case:
            assert computing[case - 1].wait(WAIT_SECONDS)
        read[case].set()
        threads.setdefault(case, []).append(threading.current_thread())
        yield
        threads[case].append(threading.current_thread())
        computing[case].set()
        if case < 5:
            assert read[case + 1].wait(WAIT_SECONDS), "the next case was not read meanwhile"
        if case:
            assert written[case - 1].wait(WAIT_SECONDS), "the case before was not written meanwhile"
        yield
        threads[case].append(threading.current_thread())
        written[case].set()
        with lock:
            in_work -= 1
        return done(case)

    outcomes = run_overlapping(work, range(6), name_of=lambda case: f"c{case}", title="x")
    assert [one.case for one in outcomes] == [f"c{case}" for case in range(6)]
    assert most <= 3
    assert all(found[1] is main and main not in (found[0], found[2]) for found in threads.values())


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("error", [InputError("bad", code="bad"), ValueError("secret")])
def test_what_ends_a_step_ends_its_case_alone(step: int, error: Exception) -> None:
    told: list[str] = []

    def work(case: int) -> Generator[None, None, Outcome]:
        for at in range(3):
            if case == 1 and at == step:
                raise error
            if at < 2:
                yield
        return done(case)

    def tell(outcome: Outcome) -> None:
        told.append(outcome.code)

    outcomes = run_overlapping(work, range(4), name_of=lambda case: f"c{case}", title="x", on_outcome=tell)
    bad = "bad" if isinstance(error, InputError) else "unexpected"
    assert [one.code for one in outcomes] == told == ["done", bad, "done", "done"]
    assert "secret" not in outcomes[1].message


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("error", [DiskFullError("full"), KeyboardInterrupt()])
def test_a_full_disk_and_an_interrupt_end_all_and_leave_nothing_half_made(step: int, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt) and step != 1:
        pytest.skip("Python interrupts the main thread alone")
    half, whole = set[int](), list[int]()

    def work(case: int) -> Generator[None, None, Outcome]:
        half.add(case)
        try:
            for at in range(3):
                if case == 2 and at == step:
                    raise error
                if at < 2:
                    yield
        finally:
            half.remove(case)
        whole.append(case)
        return done(case)

    with pytest.raises(type(error)):
        run_overlapping(work, range(9), name_of=str, title="x")
    assert not half
    assert whole[:2] == [0, 1]
    assert len(whole) < 9


def test_a_case_that_memory_has_no_room_for_waits() -> None:
    order: list[tuple[str, int]] = []

    def work(case: int) -> Generator[None, None, Outcome]:
        order.append(("read", case))
        yield
        order.append(("computed", case))
        yield
        return done(case)

    run_overlapping(work, range(3), name_of=str, title="x", may_overlap=lambda *_: False)
    assert order == [(what, case) for case in range(3) for what in ("read", "computed")]
    assert run_overlapping(work, [], name_of=str, title="x") == ()


def test_whether_there_is_room_is_asked_with_what_the_first_step_gave() -> None:
    asked: list[tuple[int, str | None]] = []

    def work(case: int) -> Generator[str | None, None, Outcome]:
        yield f"read {case}"
        yield None
        return done(case)

    def may_overlap(case: int, given: str | None) -> bool:
        asked.append((case, given))
        return True

    run_overlapping(work, range(3), name_of=str, title="x", may_overlap=may_overlap)
    assert asked == [(1, "read 0"), (2, "read 1")]


def test_a_case_that_ends_early_and_the_progress_of_the_others() -> None:
    told = []

    class Task:
        def advance(self, amount: float = 1.0, note: str = "") -> None:
            told.append((round(amount, 3), note))

    class Shown:
        def task(self, *_: object, **__: object) -> Shown:
            return self

        def __enter__(self) -> Task:
            return Task()

        def __exit__(self, *_: object) -> None:
            pass

    def work(case: int) -> Generator[None, None, Outcome]:
        if case == 1:
            return done(case)
        yield
        advance_case(0.25)
        yield
        return done(case)

    run: Callable[..., tuple[Outcome, ...]] = run_overlapping
    assert len(run(work, range(3), name_of=str, title="x", progress=Shown())) == 3
    assert sorted(one for one in told if one[0]) == [(0.25, "0"), (0.25, "2"), (0.75, "0"), (0.75, "2"), (1.0, "1")]
