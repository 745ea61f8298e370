"""Who is told, from Python, how far work is."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from volseg.errors import UsageError
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.progress import Task

SPARSE_SECONDS = 10.0
"""A task under way logs a line at most this often."""

log = logging.getLogger("volseg")


def listener(progress: Progress | bool) -> Progress:
    """Who is meant: True for a bar in a terminal or notebook and the log elsewhere, False for nobody.

    Raises:
        UsageError: it is none of them, nor a listener.
    """
    if not isinstance(progress, bool):
        if not hasattr(progress, "task") or not hasattr(progress, "say"):
            raise UsageError(f"progress takes True, False or a listener, not {progress!r}.")
        return progress
    if not progress:
        return SILENT
    notebook = _in_notebook()
    if not notebook and not sys.stderr.isatty():
        return LogProgress()
    from volseg.cli.console import ConsoleProgress

    # Without ipywidgets, rich would leave a warning in place of the bars.
    return ConsoleProgress(in_notebook=notebook and find_spec("ipywidgets") is not None)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class LogProgress:
    """Progress as lines of the log "volseg": the start and end of a task, and between them one now and then."""

    @contextmanager
    def task(self, title: str, total: float, unit: str = "", done: float = 0.0) -> Iterator[Task]:
        """Log work of ``total`` units until the block ends."""
        task = _LoggedTask(title, total, unit, done)
        task.tell()
        yield task
        task.tell()

    def say(self, line: str) -> None:
        """Log one line."""
        log.info("%s", line)


class _LoggedTask:
    def __init__(self, title: str, total: float, unit: str, done: float) -> None:
        self._title, self._total, self._unit, self._done = title, total, unit, done
        self._note = ""
        self._told = time.monotonic()

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        if time.monotonic() - self._told >= SPARSE_SECONDS and self._done < self._total:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        share = (
            f"{int(self._done + 1e-6)}/{self._total:.0f} {self._unit}"
            if self._unit
            else f"{self._done / self._total:.0%}"
        )
        log.info("%s: %s%s", self._title, share, f", {self._note}" if self._note else "")
