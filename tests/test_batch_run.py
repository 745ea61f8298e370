"""Cases mapped over an executor: what is told of them while they run, and where a worker was killed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.heard import Heard
from volseg.batch import advance_case, run_cases
from volseg.batch.executors import Lost
from volseg.batch.run import unforeseen
from volseg.outcomes import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterator


class Killing:
    """An executor whose worker is killed on the second of three cases, when the third waits."""

    workers, is_here = 2, False

    def run(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Generator[Any, None, None]:
        yield 0, work(items[0])
        yield Lost((1, 2))
        yield 2, work(items[2])
        yield 1, None


class Told:
    """A task that keeps how far it was told to be."""

    def __init__(self) -> None:
        self.shares: list[tuple[float, str]] = []

    def advance(self, amount: float = 1.0, name: str = "") -> None:
        self.shares.append((amount, name))

    @contextmanager
    def task(self, *_: object, **__: object) -> Iterator[Told]:
        yield self

    def say(self, line: str) -> None:
        raise AssertionError(line)


def done(case: str) -> Outcome:
    return Outcome(case, Status.DONE, "done")


def test_a_killed_worker_is_told_at_once_and_each_case_has_its_outcome_in_order() -> None:
    heard, came = Heard(), list[str]()
    outcomes = run_cases(
        done, ["a", "b", "c"], name_of=str, private_of=lambda case: f"{case}.dcm", title="Working",
        executor=Killing(), progress=heard, on_outcome=lambda one: came.append(one.case),
    )  # fmt: skip
    assert [(one.case, one.code) for one in outcomes] == [("a", "done"), ("b", "killed"), ("c", "done")]
    assert outcomes[1].private == "b.dcm"
    assert came == ["a", "c", "b"]
    (line,) = heard.lines
    assert "on one of b, c." in line


def test_a_case_that_tells_more_than_there_is_counts_as_one() -> None:
    def work(case: str) -> Outcome:
        for _ in range(3):
            advance_case(0.4)
        return done(case)

    told = Told()
    run_cases(work, ["a", "b"], name_of=str, title="Working", progress=told)
    advance_case(0.5)  # of no case
    for name in "ab":
        assert sum(share for share, of in told.shares if of == name) == 1.0


def test_what_nobody_foresaw_is_told_without_its_words() -> None:
    outcome = unforeseen("a", "a.dcm", KeyError("Doe^Jane"))
    assert (outcome.status, outcome.code, outcome.private) == (Status.FAILED, "unexpected", "a.dcm")
    assert "Doe" not in outcome.message
    short = unforeseen("a", "", MemoryError())
    assert short.code == "out-of-memory"
