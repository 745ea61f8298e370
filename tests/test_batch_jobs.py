"""Jobs side by side, each in a process of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.heard import Heard
from volseg.batch.jobs import run_jobs
from volseg.errors import BundleError
from volseg.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.progress import Progress, Task


def work(item: str, progress: Progress) -> str:
    """Something else for each word."""
    progress.say(f"at {item}")
    if item == "killed":
        with progress.task("Dying", 2):
            os.kill(os.getpid(), signal.SIGKILL)
    if item == "refused":
        with progress.task("Refusing", 2):
            raise BundleError("It is refused.", code="bad")
    if item == "unforeseen":
        raise RuntimeError("/home/a patient's name")
    if item.startswith("/"):
        try:
            Path(item).write_text("begun")
            with progress.task("Waiting", 600) as task:
                for _ in range(600):
                    time.sleep(0.1)
                    task.advance()
        except KeyboardInterrupt:
            Path(item).write_text("saved")
            raise
    with progress.task("Working", 2, "parts") as task:
        task.advance()
        task.advance(1, "a note")
    return item.upper()


class Ends(Heard):
    """Notes how each task ended, too."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, str] = {}

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        self.ends[title] = "stopped"
        with super().task(title, total, unit, done) as task:
            yield task
        self.ends[title] = "done"


def test_what_ends_one_job_leaves_the_others_alone() -> None:
    heard = Ends()
    jobs = [(f"job {item}", item) for item in ("one", "killed", "refused", "unforeseen", "two")]
    ended = dict(run_jobs(work, jobs, 3, heard))
    assert (ended[0].result, ended[4].result) == ("ONE", "TWO")
    errors = [ended[number].error for number in (1, 2, 3)]
    assert all(ended[number].result is None for number in (1, 2, 3))
    killed, refused, unforeseen = (str(error) for error in errors)
    assert killed.startswith("Its process was killed, most likely for lack of memory.")
    assert refused == "It is refused."
    assert isinstance(errors[1], BundleError)
    assert "RuntimeError" in unforeseen
    assert "patient" not in unforeseen
    assert ("job one: Working", 2, "parts") in heard.tasks
    assert "job two: at two" in heard.lines
    ends = {"one: Working": "done", "two: Working": "done", "killed: Dying": "stopped", "refused: Refusing": "stopped"}
    assert heard.ends == {f"job {title}": end for title, end in ends.items()}


@pytest.mark.parametrize("how", ["interrupt", "close"])
def test_an_interrupt_lets_each_job_write_down_where_it_stands(tmp_path: Path, how: str) -> None:
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    jobs = run_jobs(work, [("quick", "one"), *((place, place) for place in places)], 3, SILENT)
    with closing(jobs):
        assert next(jobs)[0] == 0
        deadline = time.monotonic() + 60
        while not all(Path(place).exists() for place in places) and time.monotonic() < deadline:
            time.sleep(0.05)
        if how == "interrupt":
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                next(jobs)
    assert [Path(place).read_text() for place in places] == ["saved", "saved"]


def test_the_others_wait_for_what_the_first_does_before_its_task() -> None:
    order: list[str] = []

    class Noted(Heard):
        def say(self, line: str) -> None:
            order.append(line)

        def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> object:  # type: ignore[override]
            order.append(title)
            return super().task(title, total, unit, done)

    ended = dict(run_jobs(work, [("a", "one"), ("b", "two")], 2, Noted(), lead="Working"))
    assert [ended[n].result for n in range(2)] == ["ONE", "TWO"]
    assert order.index("a: Working") < order.index("b: at two")
    assert len(dict(run_jobs(work, [("a", "refused"), ("b", "two")], 2, SILENT, lead="Working"))) == 2
