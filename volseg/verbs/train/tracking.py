"""What else is told of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volseg.bundle.outputs import Outputs
from volseg.training.listeners.trackers import MLflow, TensorBoard, Tracker

if TYPE_CHECKING:
    from volseg.progress import Progress
    from volseg.verbs.train.fold import Fold


def trackers_of(fold: Fold, trainer: Any, evaluator: Any, progress: Progress) -> tuple[Tracker, ...]:
    """The tracker that was asked for."""
    asked = fold.options.tracker
    if asked is None:
        return ()
    name, uri = asked
    regions = fold.bundle.meaning.outputs is Outputs.REGIONS
    if name == "tensorboard":
        return (TensorBoard(trainer, evaluator, progress, regions=regions),)
    return (MLflow(trainer, evaluator, progress, regions=regions, uri=uri),)
