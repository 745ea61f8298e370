"""Publication: which run's model becomes the one that inference loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.bundle.published import Published, publish
from volseg.training.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.nn import Module

    from volseg.bundle.folder import Bundle
    from volseg.progress import Progress
    from volseg.verbs.train.options import TrainOptions


class Publisher(Listener):
    """Writes each better model to ``models/model.pt``."""

    def __init__(self, bundle: Bundle, run: str, network: Module | None) -> None:
        self._bundle, self._name, self._network = bundle, run, network

    @classmethod
    def of(
        cls, bundle: Bundle, run: str, network: Module | None, options: TrainOptions, progress: Progress
    ) -> tuple[Publisher, ...]:
        """The listener of a run that is to be published, else none; a model of another origin stays, and that is said."""
        stays = None if options.publish else _what_stays(bundle, run)
        if stays is None:
            return (cls(bundle, run, network),)
        if stays:
            progress.say(f"{stays} It stays; with --publish this run's model takes its place.")
        return ()

    def improved(self, weights: Mapping[str, Tensor], score: float | None) -> None:
        """Publish the best so far."""
        publish(self._bundle, self._network, weights, self._name, score)


def published_run(bundle: Bundle) -> str | None:
    """The run whose model is in ``models/``; None where there is none, or of no run that volseg knows."""
    model = bundle.model_path
    record = Published.read(bundle) if model.is_file() else None
    return record.run if record is not None and record.is_of(model) else None


def _what_stays(bundle: Bundle, run: str) -> str | None:
    """What is known of a model that was not made by this run, in a sentence; None where nothing is in its way."""
    model = bundle.model_path
    if not model.is_file():
        return None
    record = Published.read(bundle)
    if record is None:
        return f"{model} is of no run of this bundle."
    if not record.is_of(model):
        return f"{model} is not the file that {record.run} published: it was changed under its name."
    return None if record.run == run else f"{model} is the model of {record.run}."
