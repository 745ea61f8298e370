"""Checkpoints: the weights of the best validation and of the end, and the state to go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.training.checkpoint import write_best, write_state, write_tensors
from volseg.training.listeners.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from volseg.training.checkpoint import RunState


class Checkpoint(Listener):
    """Writes ``best.pt``, ``final.pt`` and ``last.pt``, each atomically; ``previous.pt`` is the ``last.pt`` before."""

    def improved(self, weights: Mapping[str, Tensor], score: float | None, steps: int) -> None:
        """Write the flat state dict of the best."""
        del score, steps
        write_best(self.run.folder, weights)

    def saved(self, state: RunState) -> None:
        """Write the state to go on from."""
        write_state(self.run.folder, state)

    def ended(self, weights: Mapping[str, Tensor], *, complete: bool) -> None:
        """Write the flat state dict of the end."""
        del complete
        write_tensors(self.run.folder.final, weights)
