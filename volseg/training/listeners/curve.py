"""The history as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.training.listeners.listener import Listener

if TYPE_CHECKING:
    from volseg.training.checkpoint import RunState


class Curve(Listener):
    """Draws ``curve.png`` with every checkpoint."""

    def saved(self, state: RunState) -> None:
        """Draw loss and validation over time."""
        from volseg.pictures.curve import draw_curve

        if not state.history:
            return
        found = [(row.minutes, row.validation) for row in state.history if row.validation is not None]
        draw_curve(
            self.run.folder.curve,
            [(row.minutes, row.loss) for row in state.history],
            [(minutes, validation.score) for minutes, validation in found],
            {
                label: [(minutes, one.per_label[number]) for minutes, one in found if number < len(one.per_label)]
                for number, label in enumerate(self.run.labels)
            },
        )
