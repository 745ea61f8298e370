"""One outcome for each case, whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volseg.batch import (
    SERIAL,
    Executor,
    Processes,
    Threads,
    advance_case,
    run_cases,
)
from volseg.errors import DiskFullError, FileError, GeometryError
from volseg.outcomes import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from volseg.progress import Task

WORK = """
import errno, os, signal, time
from volseg.errors import DiskFullError, FileError, GeometryError
from volseg.outcomes import Outcome, Status

def work(case):
    name, what = case
    if what == "refused":
        raise GeometryError("a slice is missing", code="missing-slice")
    if what == "failed":
        raise FileError("gone", code="missing-file")
    if what == "unforeseen":
        raise RuntimeError("quotes /data/Doe^Jane")
    if what == "large":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes.")
    if what == "full":
        raise DiskFullError("full")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupted":
        raise KeyboardInterrupt
    if what == "slow":
        time.sleep(0.3)
    if what == "endless":
        from pathlib import Path
        from volseg.atomic import atomic_path
        with atomic_path(Path("out") / (name + ".nii.gz")) as partial:
            partial.write_text("half")
            time.sleep(600)
    return Outcome(name, Status.DONE, "done", message=what)

def name_of(case):
    return case[0]
"""


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.lines: list[str] = []
        self.total = -1.0

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Task]:
        assert (title, unit) == ("Working", "cases")
        self.total = total
        yield self

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        if amount:  # a case that begins tells its name with none
            assert amount == 1
            self.notes.append(note)

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that fresh processes can import as well: spawned ones get this process's path."""
    import importlib

    (tmp_path / "volseg_test_bench.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("volseg_test_bench", None)
    return importlib.import_module("volseg_test_bench")


EXECUTORS: dict[str, Executor] = {"serial": SERIAL, "threads": Threads(2), "processes": Processes(2)}
everywhere = pytest.mark.parametrize("executor", EXECUTORS.values(), ids=EXECUTORS)


def run(
    bench: ModuleType, *whats: str, executor: Executor = SERIAL, listener: Listener | None = None
) -> tuple[Outcome, ...]:
    cases = [(f"case_{number}", what) for number, what in enumerate(whats)]
    return run_cases(
        bench.work, cases, name_of=bench.name_of, title="Working", executor=executor, progress=listener or Listener()
    )


@everywhere
def test_each_case_gets_its_outcome_in_order(executor: Executor, bench: ModuleType) -> None:
    listener = Listener()
    outcomes = run(bench, "slow", "refused", "failed", "unforeseen", "well", executor=executor, listener=listener)
    assert [(outcome.case, outcome.status, outcome.code) for outcome in outcomes] == [
        ("case_0", Status.DONE, "done"),
        ("case_1", Status.REFUSED, "missing-slice"),
        ("case_2", Status.FAILED, "missing-file"),
        ("case_3", Status.FAILED, "unexpected"),
        ("case_4", Status.DONE, "done"),
    ]
    assert outcomes[1].message == "a slice is missing"
    assert listener.total == 5
    assert sorted(listener.notes) == [f"case_{number}" for number in range(5)]


@everywhere
def test_a_case_that_needs_more_memory_than_there_is_says_so(executor: Executor, bench: ModuleType) -> None:
    short, well = run(bench, "large", "well", executor=executor)
    assert (short.status, short.code, well.status) == (Status.FAILED, "out-of-memory", Status.DONE)
    assert short.message.startswith("Memory ran out: 4 GiB more were needed at once. Close other programs")


@everywhere
def test_the_text_of_an_unforeseen_error_is_not_kept(executor: Executor, bench: ModuleType) -> None:
    failed = run(bench, "unforeseen", "well", executor=executor)[0]
    assert "RuntimeError" in failed.message
    assert "Doe" not in failed.message


def test_a_killed_worker_costs_its_own_case_only(bench: ModuleType) -> None:
    listener = Listener()
    outcomes = run(bench, "well", "killed", "slow", "well", "well", executor=Processes(2), listener=listener)
    assert [(outcome.status, outcome.code) for outcome in outcomes] == [
        (Status.DONE, "done"),
        (Status.FAILED, "killed"),
        (Status.DONE, "done"),
        (Status.DONE, "done"),
        (Status.DONE, "done"),
    ]
    assert "memory" in outcomes[1].message
    assert len(listener.notes) == 5
    (said,) = listener.lines
    assert said.startswith("A worker was killed, most likely for lack of memory, on one of case_")
    assert "case_1" in said


@everywhere
def test_a_full_disk_ends_the_run(executor: Executor, bench: ModuleType) -> None:
    listener = Listener()
    with pytest.raises(DiskFullError):
        run(bench, "full", *["slow"] * 20, executor=executor, listener=listener)
    assert len(listener.notes) < 20


@everywhere
def test_an_interrupt_passes_through(executor: Executor, bench: ModuleType) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(bench, "interrupted", "well", executor=executor)


@everywhere
def test_nothing_to_do(executor: Executor, bench: ModuleType) -> None:
    assert run(bench, executor=executor) == ()


def test_one_case_takes_no_process(bench: ModuleType) -> None:
    here = os.getpid()

    def work(case: tuple[str, str]) -> Outcome:
        return Outcome(case[0], Status.DONE, "done", message=str(os.getpid() == here))

    outcomes = run_cases(work, [("a", "b")], name_of=bench.name_of, title="Working", executor=Processes(8))
    assert outcomes[0].message == "True"


def test_a_case_under_way_tells_how_far_it_is() -> None:
    told: list[tuple[float, str]] = []

    class Watching(Listener):
        def advance(self, amount: float = 1.0, note: str = "") -> None:
            told.append((amount, note))

    def work(case: str) -> Outcome:
        for _ in range(3):
            advance_case(0.5)  # more than there is
        return Outcome(case, Status.DONE, "done")

    run_cases(work, ["a", "b"], name_of=str, title="Working", progress=Watching())
    assert told == [(share, name) for name in "ab" for share in (0.0, 0.5, 0.5, 0.0, 0.0)]
    advance_case(0.5)  # nobody is there to hear it


def test_each_outcome_is_handed_on_as_it_comes(bench: ModuleType) -> None:
    came: list[str] = []
    cases = [("slow", "slow"), ("quick", "well")]
    outcomes = run_cases(
        bench.work,
        cases,
        name_of=bench.name_of,
        title="Working",
        executor=Threads(2),
        on_outcome=lambda outcome: came.append(outcome.case),
    )
    assert came == ["quick", "slow"]
    assert [outcome.case for outcome in outcomes] == ["slow", "quick"]


def test_errors_have_a_status_each() -> None:
    assert Outcome.of_error("a", GeometryError("x")).status is Status.REFUSED
    assert Outcome.of_error("a", FileError("x")).status is Status.FAILED


def living(group: int) -> list[str]:
    """The command lines of a process group's members that have not ended; of all Linux tells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # After the name in parentheses, which may hold anything: state, parent, process group.
            state, _, of_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append((folder / "cmdline").read_text())
    return found


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("to_group", [True, False], ids=["Ctrl-C", "kill -INT"])
def test_an_interrupt_ends_the_workers_soon_and_without_a_word(
    to_group: bool, tmp_path: Path, bench: ModuleType
) -> None:
    """A terminal sends SIGINT to the whole group, so the workers get it as well and must not print tracebacks."""
    del bench
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from volseg.batch import Processes, run_cases
        import volseg_test_bench as bench

        class Loud:
            from contextlib import contextmanager
            @contextmanager
            def task(self, title, total, unit=""):
                yield self
            def advance(self, amount=1.0, note=""):
                print(note, flush=True)
            def say(self, line):
                pass

        if __name__ == "__main__":
            cases = [("a", "well"), ("b", "well"), ("c", "endless"), ("d", "endless"), ("e", "endless")]
            try:
                run_cases(bench.work, cases, name_of=bench.name_of, title="t", executor=Processes(2), progress=Loud())
            except KeyboardInterrupt:
                print("interrupted")
                sys.exit(130)
        """)
    )
    # Measured for coverage, the processes would have words of their own on stderr.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
        env=environment,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        while len(list(tmp_path.glob("out/.*.partial-*"))) < 2:
            time.sleep(0.05)
        (os.killpg if to_group else os.kill)(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=15)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130
    assert out == "interrupted\n"
    assert err == ""
    assert list((tmp_path / "out").iterdir()) == []
    until = time.monotonic() + 5
    while (left := living(process.pid)) and time.monotonic() < until:  # Python's resource tracker ends a little later
        time.sleep(0.05)
    assert left == []
