"""Publication: which run's model becomes the one that inference loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.bundle.published import Published, publish
from volseg.bundle.weights import read_state_dict
from volseg.training.history import best_epoch, steps_of_model
from volseg.training.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.nn import Module

    from volseg.bundle.folder import Bundle
    from volseg.progress import Progress
    from volseg.training.listeners import RunView
    from volseg.verbs.train.options import TrainOptions


class Publisher(Listener):
    """Writes each better model to ``models/model.pt``.

    A model of another origin stays unless its replacement was asked for, also one that comes while this run goes on.
    """

    def __init__(
        self, bundle: Bundle, run: str, network: Module | None, options: TrainOptions, progress: Progress
    ) -> None:
        self._bundle, self._name, self._network, self._progress = bundle, run, network, progress
        self._insists, self._told = options.publish, False

    def began(self, run: RunView) -> None:
        """Publish the best so far of a run that goes on, where another model is in its place."""
        super().began(run)
        there = published_run(self._bundle)  # a damaged record is told before training
        if not self._may_publish() or not run.history or not run.folder.best.exists():
            return
        best, steps = best_epoch(run.history), steps_of_model(run.history)
        # A run that went back to the checkpoint before may have published what it has yet to learn again.
        if there != self._name or (best is not None and _published_steps(self._bundle) not in (steps, None)):
            score = None if best is None or best.validation is None else best.validation.score
            self._publish(read_state_dict(run.folder.best), score, steps)

    def improved(self, weights: Mapping[str, Tensor], score: float | None, steps: int) -> None:
        """Publish the best so far."""
        if self._may_publish():
            self._publish(weights, score, steps)

    def _publish(self, weights: Mapping[str, Tensor], score: float | None, steps: int | None) -> None:
        publish(self._bundle, self._network, weights, self._name, score, steps)

    def _may_publish(self) -> bool:
        stays = None if self._insists else _what_stays(self._bundle, self._name)
        if stays and not self._told:
            self._progress.say(f"{stays} It stays; with --publish this run's model takes its place.")
            self._told = True
        return stays is None


def published_run(bundle: Bundle) -> str | None:
    """The run whose model is in ``models/``; None where there is none, or of no run that volseg knows."""
    model = bundle.model_path
    record = Published.read(bundle) if model.exists() else None
    return None if record is None else record.run_of(model)


def _published_steps(bundle: Bundle) -> int | None:
    record = Published.read(bundle)
    return None if record is None else record.steps_of(bundle.model_path)


def _what_stays(bundle: Bundle, run: str) -> str | None:
    """What is known of a model that was not made by this run, in a sentence; None where nothing is in its way."""
    model = bundle.model_path
    if not model.exists():
        return None
    record = Published.read(bundle)
    if record is None:
        return f"{model} is of no run of this bundle."
    if not record.is_of(model):
        return f"{model} is not the file that {record.run} published: it was changed under its name."
    # A kill in the midst of publishing leaves the model of before.
    there = record.run_of(model)
    if run in (record.run, there):
        return None
    return f"{model} is the model of {there}." if there else f"{model} is of no run of this bundle."
