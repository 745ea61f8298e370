"""Progress reporting interface."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Task(Protocol):
    """The progress of one task."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Say that ``amount`` more units are done; ``note`` is a few words on the state, such as the loss."""
        ...


class Progress(Protocol):
    """Receiver of progress: a console, a log or nothing."""

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        """Begin work of ``total`` units, of which ``done`` were done before; it ends with the block.

        ``unit`` is a plural, such as ``cases``; without one, work is shown as a share.
        """
        ...

    def say(self, line: str) -> None:
        """Show one line to the person, above any bar."""
        ...


class _SilentTask:
    def advance(self, amount: float = 1.0, note: str = "") -> None:
        del amount, note


class Silent:
    """Progress that is discarded: the default from Python."""

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        """Begin a task whose progress is discarded."""
        del title, total, unit, done
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Discard a line."""
        del line


SILENT: Progress = Silent()
