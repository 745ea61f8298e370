"""What a person sees, on a terminal and in a file."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest

from volseg import console
from volseg.console import ConsoleProgress, duration

if TYPE_CHECKING:
    from volseg.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stand_in = Clock()
    monkeypatch.setattr(console, "time", stand_in)
    return stand_in


def test_lines_in_a_file_are_sparse(clock: Clock) -> None:
    stream = io.StringIO()
    progress: Progress = ConsoleProgress(stream)
    with progress.task("Converting", 100, "series") as task:
        for _ in range(100):
            clock.now += 0.25
            task.advance(1, "ct_001")
    assert stream.getvalue().splitlines() == [
        "Converting: 0/100 series",
        "Converting: 40/100 series, about 15 s left, ct_001",
        "Converting: 80/100 series, about 5 s left, ct_001",
        "Converting: done, 100/100 series in 25 s, ct_001",
    ]


def test_work_without_a_unit_is_told_as_a_share(clock: Clock) -> None:
    stream = io.StringIO()
    with ConsoleProgress(stream).task("training", 1000) as task:
        clock.now += 30
        task.advance(250.4, "loss 0.5")
    assert stream.getvalue().splitlines() == [
        "training: 0 %",
        "training: 25 %, about 1 min 30 s left, loss 0.5",
        "training: done, 25 % in 30 s, loss 0.5",
    ]


def test_a_long_note_beside_a_bar_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    words = [f"label_{number}" for number in range(12)]
    with ConsoleProgress(stream).task("training", 1000) as task:
        task.advance(500, " ".join(words))
    shown = plain(stream.getvalue())
    assert "50 %" in shown
    assert all(word in shown for word in words)


def test_lines_in_a_file_tell_when_work_stopped(clock: Clock) -> None:
    stream = io.StringIO()

    def work() -> None:
        with ConsoleProgress(stream).task("training", 10, "epochs") as task:
            clock.now += 11
            task.advance(0)
            clock.now += 60
            task.advance(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert stream.getvalue().splitlines() == [
        "training: 0/10 epochs",
        "training: 0/10 epochs",
        "training: 3/10 epochs, about 2 min 46 s left",
        "training: stopped, 3/10 epochs in 1 min 11 s",
    ]


def test_the_time_left_counts_from_what_was_done_before(clock: Clock) -> None:
    stream = io.StringIO()
    with ConsoleProgress(stream).task("training", 1000, done=600) as task:
        clock.now += 20
        task.advance(100, "loss 0.5")  # a fourth of what was left in 20 s
    assert stream.getvalue().splitlines()[:2] == ["training: 60 %", "training: 70 %, about 1 min 00 s left, loss 0.5"]


def test_work_inside_other_work_is_told_only_where_it_lasts(clock: Clock) -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(stream)
    with progress.task("training", 100) as outer:
        for seconds in (1, 20):
            with progress.task("validating", 2, "cases") as inner:
                clock.now += seconds
                inner.advance()
                inner.advance()
        outer.advance(100)
    assert stream.getvalue().splitlines() == [
        "training: 0 %",
        "validating: 1/2 cases, about 20 s left",
        "validating: done, 2/2 cases in 20 s",
        "training: done, 100 % in 21 s",
    ]


def test_the_bar_of_work_inside_other_work_goes_with_it() -> None:
    stream = Terminal()
    progress = ConsoleProgress(stream)
    with progress.task("training", 100) as outer:
        for _ in range(3):
            with progress.task("validating", 2, "cases") as inner:
                inner.advance(2)
        outer.advance(100)
    last = plain(stream.getvalue()).rsplit("training", 1)[1]
    assert "100 %" in last
    assert "validating" not in last


@pytest.mark.parametrize(
    ("total", "unit", "said"), [(1, "cases", "0/1 case"), (1, "series", "0/1 series"), (2, "steps", "0/2 steps")]
)
def test_one_thing_is_told_in_the_singular(total: int, unit: str, said: str) -> None:
    stream = io.StringIO()
    with ConsoleProgress(stream).task("reading", total, unit):
        pass
    assert stream.getvalue().splitlines()[0] == f"reading: {said}"


def test_a_done_line_names_no_case(clock: Clock) -> None:
    stream = io.StringIO()
    with ConsoleProgress(stream).task("checking", 2, "cases") as task:
        clock.now += 11
        task.advance(1, "case_0")
        task.advance(1, "case_1")
    assert stream.getvalue().splitlines()[1:] == [
        "checking: 1/2 cases, about 11 s left, case_0",
        "checking: done, 2/2 cases in 11 s",
    ]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_bars_on_a_terminal() -> None:
    stream = Terminal()
    progress = ConsoleProgress(stream)
    with progress.task("outer", 2, "folds") as outer, progress.task("inner", 4, "steps") as inner:
        progress.say("a line [bold]as it is[/bold] \x1b[2J")
        inner.advance(4, "loss 0.5 \x1b]0;title\x07")
        inner.advance(0)
        outer.advance()
    shown = stream.getvalue()
    assert "a line [bold]as it is[/bold] \\x1b[2J" in plain(shown)
    assert "4/4 steps" in plain(shown)
    assert "1/2 folds" in plain(shown)
    assert "loss 0.5" in plain(shown)
    assert "\x07" not in shown
    assert "\x1b]" not in shown
    assert shown.endswith("\x1b[?25h"), "the cursor comes back"


def test_say_in_a_file_and_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleProgress().say("[red]plain\x00")
    shown = capsys.readouterr()
    assert shown.err == "[red]plain\\x00\n"
    assert shown.out == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_case_counts_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.console.SPARSE_SECONDS", 0.0)
    stream = io.StringIO()
    with ConsoleProgress(stream).task("Predicting", 2, "cases") as task:
        for _ in range(10):
            task.advance(0.1, "a")
        task.advance(0.9, "b")
    lines = stream.getvalue().splitlines()
    assert lines[9].startswith("Predicting: 0/2 cases")
    assert lines[9].endswith(" left, a")
    assert lines[10].startswith("Predicting: 1/2 cases")
    assert lines[11].startswith("Predicting: 1/2 cases")
    assert lines[11].endswith(" left, b")
