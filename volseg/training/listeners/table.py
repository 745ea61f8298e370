"""The history as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.training.history import write_history
from volseg.training.listeners.listener import Listener, RunView

if TYPE_CHECKING:
    from volseg.training.checkpoint import RunState


class Table(Listener):
    """Writes ``history.csv`` with every checkpoint; ``read_history`` reads it back."""

    def began(self, run: RunView) -> None:
        """Note where to."""
        self._run = run

    def saved(self, state: RunState) -> None:
        """Write all rows."""
        if state.history:
            write_history(self._run.folder.history, state.history, self._run.labels)
