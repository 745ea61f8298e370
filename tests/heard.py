"""Progress that keeps what it is told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from volseg.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.progress import Task


class Heard:
    """Keeps lines, and the titles, totals and units of tasks."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, float, str]] = []

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        self.tasks.append((title, total, unit))
        with SILENT.task(title, total, unit, done) as task:
            yield task

    def say(self, line: str) -> None:
        self.lines.append(line)
