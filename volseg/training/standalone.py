"""Training by another program than ``volseg train``, such as MONAI's own runner or MONAI Label."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from volseg.atomic import atomic_path
from volseg.errors import BundleError
from volseg.finite import not_finite
from volseg.training.checkpoint import write_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ignite.engine import Engine

    from volseg.training.average import WeightAverage
    from volseg.training.budget import Budget

BEFORE = "model_before"
"""The name, without its suffix, under which the weights that were there before are kept."""
log = logging.getLogger("volseg")


class Standalone:
    """A handler that does what ``volseg train`` does beside the trainer, where another program runs it.

    It counts the budget, which the learning rate follows, averages the weights, and writes those of the best validation,
    or of the end where no case is held out, for inference. The weights that were there before are kept beside them.

    Args:
        budget: how long; its epochs become those of the trainer.
        average: of the weights of the trainer's network.
        evaluator: what validates; its key metric chooses the best weights.
        path: where they are written; None for nothing of all this, as in ``volseg train``, which does it itself.
        leave_out: parts of names of weights that only training needs, such as heads of deep supervision.
    """

    def __init__(
        self,
        budget: Budget,
        average: WeightAverage,
        evaluator: Any,
        path: str | Path | None,
        leave_out: Sequence[str] = (),
    ) -> None:
        self.budget, self.average, self.evaluator = budget, average, evaluator
        self.path = None if path is None else Path(path)
        self.leave_out = tuple(leave_out)
        self._best, self._validated_at_step, self._is_saved = -math.inf, 0, False

    def attach(self, engine: Engine) -> None:
        """Do it, unless nobody asks for it."""
        if self.path is None:
            return
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._end)
        self.evaluator.add_event_handler(Events.STARTED, self._before_validation)
        self.evaluator.add_event_handler(Events.COMPLETED, self._after_validation)

    def _begin(self, engine: Engine) -> None:
        # A handler may have loaded weights to go on from, and a program may have set other lengths than the config's.
        self.average.load_state_dict(self.average.network.state_dict(), 0)
        self.budget.epochs, self.budget.steps_per_epoch = engine.state.max_epochs, engine.state.epoch_length
        self.budget.start(before_seconds=0.0, steps=0)
        self.budget.begin_steps()

    def _step(self, engine: Engine) -> None:
        self.budget.step()
        self.average.update()
        if self.budget.minutes is not None and self.budget.is_spent:
            engine.terminate()

    def _before_validation(self, _: Engine) -> None:
        self.average.apply()

    def _after_validation(self, engine: Engine) -> None:
        self.average.restore()
        self._validated_at_step = self.budget.steps
        score = float(engine.state.metrics.get(engine.state.key_metric_name, math.nan))
        log.info("Validation after %d steps: %.4f", self.budget.steps, score)
        if math.isfinite(score) and score > self._best:
            self._best = score
            self._save()

    def _end(self, engine: Engine) -> None:
        if self._validated_at_step != self.budget.steps and len(self.evaluator.data_loader):
            self.evaluator.run(engine.state.epoch)
        if not self._is_saved:
            self._save()

    def _save(self) -> None:
        """Write the averaged weights, atomically.

        Raises:
            BundleError: a weight is no number any more; the file that was there stays.
            FileError: they can't be written.
        """
        assert self.path is not None
        weights = {
            name: tensor.cpu()
            for name, tensor in self.average.state_dict().items()
            if not any(part in name for part in self.leave_out)
        }
        if not_finite(weights) is not None:
            raise BundleError(
                f"Weights are no numbers any more after step {self.budget.steps}. Lower the learning rate in the train "
                "config and start over.",
                code="not-finite",
            )
        if not self._is_saved and self.path.is_file():
            with atomic_path(self.path.with_stem(BEFORE)) as kept:
                shutil.copyfile(self.path, kept)
        write_tensors(self.path, weights)
        self._is_saved = True
        log.info("Wrote %s", self.path)
