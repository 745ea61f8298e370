"""The history as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.training.history import write_history
from volseg.training.listeners.listener import Listener

if TYPE_CHECKING:
    from volseg.training.checkpoint import RunState


class Table(Listener):
    """Writes ``history.csv`` with every checkpoint; ``read_history`` reads it back."""

    def saved(self, state: RunState) -> None:
        """Write all rows."""
        if state.history:
            write_history(self.run.folder.history, state.history, self.run.labels)
