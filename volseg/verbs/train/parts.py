"""Parts of a bundle that training takes where they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volseg.training.average import WeightAverage
from volseg.training.budget import Budget

if TYPE_CHECKING:
    from volseg.bundle.parser import BundleParser
    from volseg.verbs.train.options import TrainOptions


def budget_of(parser: BundleParser, trainer: Any, options: TrainOptions) -> Budget:
    """The budget that the bundle's handlers share; one of our own for bundles that know nothing of it."""
    if parser.has("budget"):
        found = parser.build("budget")
        if isinstance(found, Budget):
            found.steps_per_epoch = trainer.state.epoch_length  # an edited config may say two things
            return found
    epochs = options.epochs or trainer.state.max_epochs
    trainer.state.max_epochs = epochs
    return Budget(epochs, trainer.state.epoch_length, options.minutes)


def average_of(parser: BundleParser) -> WeightAverage | None:
    """The average of the weights; None where the bundle keeps none."""
    found = parser.build("average") if parser.has("average") else None
    return found if isinstance(found, WeightAverage) else None
