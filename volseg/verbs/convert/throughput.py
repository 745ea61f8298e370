"""Progress of a conversion in series, files and MB/s."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from volseg.progress import Progress, Task


@dataclass(frozen=True)
class Load:
    """What a series costs: how many files, and how many bytes of them are read."""

    files: int
    size: int


NOTHING = Load(0, 0)


@dataclass
class _Bar:
    """Takes the names of series as they are done, and notes files and speed."""

    task: Task
    loads: Mapping[str, Load]
    began: float = field(default_factory=lambda: time.monotonic())
    files: int = 0
    size: int = 0

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Count one series, whose name is the note; one that only begins counts for nothing yet."""
        load = self.loads.get(note, NOTHING) if amount else NOTHING
        self.files += load.files
        self.size += load.size
        seconds = max(time.monotonic() - self.began, 1e-3)
        total = sum(one.files for one in self.loads.values())
        self.task.advance(amount, f"{self.files}/{total} files, {self.size / 1e6 / seconds:.0f} MB/s")


class Throughput:
    """Progress whose tasks count in series and note files and MB/s.

    Args:
        progress: receives the progress.
        loads: of each series by its case's name.
    """

    def __init__(self, progress: Progress, loads: Mapping[str, Load]) -> None:
        self._progress, self._loads = progress, loads

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        """Begin work of ``total`` series; ``unit`` gives way to that word."""
        del unit
        with self._progress.task(title, total, "series", done) as task:
            yield _Bar(task, self._loads)

    def say(self, line: str) -> None:
        """Show one line to the person."""
        self._progress.say(line)
