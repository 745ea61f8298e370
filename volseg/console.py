"""Progress on a console: bars on a terminal or in a notebook, sparse lines in a file."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress as RichProgress

    from volseg.progress import Task

SPARSE_SECONDS = 10.0
"""Into a file, a task under way writes a line at most this often."""
BAR_WIDTH = 20
"""Narrow, so that the note has room beside it; it wraps rather than being cut."""


class ConsoleProgress:
    """Progress on stderr: bars with the time left on a terminal, sparse lines elsewhere.

    Args:
        stream: where to; stderr by default.
        in_notebook: bars below the notebook's cell instead.
    """

    def __init__(self, stream: TextIO | None = None, *, in_notebook: bool = False) -> None:
        self._stream = stream
        self._in_notebook = in_notebook
        self._bars: RichProgress | None = None
        self._open = 0

    @property
    def _file(self) -> TextIO:
        return self._stream if self._stream is not None else sys.stderr

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        """Show work of ``total`` units until the block ends. Work inside other work is shown while it lasts."""
        title, is_inner = printable(title), self._open > 0
        self._open += 1
        try:
            if self._in_notebook or self._file.isatty():
                with self._live() as bars:
                    yield (bar := _Bar(bars, title, total, unit, done))
                    bar.stop(remove=is_inner)
            else:
                lines = _Lines(self._file, title, total, unit, done)
                if not is_inner:
                    lines.start()
                try:
                    yield lines
                except BaseException:
                    lines.stop("stopped")
                    raise
                lines.stop("done")
        finally:
            self._open -= 1

    def say(self, line: str) -> None:
        """Show one line, above any bar."""
        if self._bars is not None:
            self._bars.console.print(printable(line), markup=False, highlight=False, emoji=False)
        else:
            print(printable(line), file=self._file, flush=True)

    @contextmanager
    def _live(self) -> Iterator[RichProgress]:
        """One set of bars for all tasks, nested ones too."""
        if self._bars is not None:
            yield self._bars
            return
        self._bars = _new_bars(None if self._in_notebook else self._file)
        try:
            with self._bars:
                yield self._bars
        finally:
            self._bars = None


def _new_bars(file: TextIO | None) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console: Console = Console(file=file, force_terminal=True) if file else Console(force_jupyter=True)
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(BAR_WIDTH),
        TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, overflow="fold")),
        console=console,
        expand=True,
    )


def _count(done: float, total: float, unit: str) -> str:
    """``3/12 cases``; a share where there is no unit to count in."""
    if not unit:
        return f"{100 * done / total if total else 100:.0f} %"
    # A case under way is not done yet; the sum of its shares may fall short of it by rounding.
    return f"{int(done + 1e-6)}/{total:.0f} {unit.removesuffix('s') if total == 1 and unit != 'series' else unit}"


class _Shown:
    """A task, shown in one way or the other."""

    def __init__(self, title: str, total: float, unit: str, done: float) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before = self._done = done
        self._note = ""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self._done += amount
        self._note = printable(note) if note else self._note

    @property
    def _count(self) -> str:
        return _count(self._done, self._total, self._unit)

    @property
    def _last_note(self) -> str:
        """What stays of the notes at the end: of cases it would be the name of the last one, by chance."""
        return "" if self._unit == "cases" else self._note


class _Bar(_Shown):
    """A task on a terminal."""

    def __init__(self, bars: RichProgress, title: str, total: float, unit: str, done: float) -> None:
        super().__init__(title, total, unit, done)
        self._bars = bars
        self._task = bars.add_task(title, total=total, completed=int(done), count=self._count, note="")

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        super().advance(amount, note)
        self._bars.update(self._task, advance=amount, count=self._count, note=self._note)

    def stop(self, *, remove: bool) -> None:
        self._bars.update(self._task, note=self._last_note, refresh=True)
        if remove:
            self._bars.remove_task(self._task)


class _Lines(_Shown):
    """A task in a file."""

    def __init__(self, file: TextIO, title: str, total: float, unit: str, done: float) -> None:
        super().__init__(title, total, unit, done)
        self._file = file
        self._began = self._last = time.monotonic()
        self._is_told = False

    def start(self) -> None:
        self._print(self._count)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        super().advance(amount, note)
        now = time.monotonic()
        if now - self._last >= SPARSE_SECONDS and self._done < self._total:
            self._last = now
            made = self._done - self._before
            left = (now - self._began) * (self._total - self._done) / made if made else None
            self._print(
                self._count
                + (f", about {duration(left)} left" if left is not None else "")
                + (f", {self._note}" if self._note else "")
            )

    def stop(self, how: str) -> None:
        if self._is_told:
            note = self._last_note
            self._print(f"{how}, {self._count} in {duration(time.monotonic() - self._began)}" + (note and f", {note}"))

    def _print(self, text: str) -> None:
        self._is_told = True
        print(f"{self._title}: {text}", file=self._file, flush=True)


def duration(seconds: float) -> str:
    """A time for a person: ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
