"""Numbers that are not finite, in the loss, the weights or the data of a training: found within a step, and named."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from volseg.errors import BundleError
from volseg.finite import all_finite, not_finite
from volseg.training.steps import StepLoader
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ignite.engine import Engine


@dataclass(eq=False)
class LossWatch:
    """The losses of a training's steps, each looked at before it is counted.

    Args:
        trainer: whose steps they are.
        losses: of the steps since an epoch's last row.
    """

    trainer: Any
    losses: list[float] = field(default_factory=list)
    _latest: tuple[int, torch.Tensor | float, Any] | None = None

    @property
    def loader(self) -> StepLoader | None:
        """The loader of volseg's own bundles; None for others, whose batches depend on what was drawn before."""
        loader = getattr(self.trainer, "data_loader", None)
        return loader if isinstance(loader, StepLoader) else None

    def before_backward(self, engine: Engine, save: Callable[[], object]) -> None:
        """Stop before a loss that is no number spoils the weights; what was learned until now is saved.

        Raises:
            BundleError: the loss is no number.
        """
        loss = engine.state.output["loss"]
        if not isinstance(loss, torch.Tensor) or loss.device.type != "cpu":
            return  # to read it now would make the GPU wait; it is read a step later
        value = float(loss.detach())
        if math.isfinite(value):
            return
        bad = not_finite(self.trainer.network.state_dict())
        if bad is None:
            self.take()
            save()
            outputs = engine.state.output["pred"]
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            cause = (
                "The loss made it out of finite data, weights and outputs of the network"
                if all(bool(all_finite(one)) for one in outputs)
                else "The network made it out of finite data and weights"
            )
        else:
            cause = f"The weight {bad} is no number any more"
        raise self._error(value, engine.state.iteration, engine.state.batch, cause)

    def note(self, step: int, output: Any, batch: Any) -> None:
        """Keep the loss of a step, to be read one later: now the next batch would wait until the GPU is done with this."""
        loss = output[0].get("loss") if isinstance(output, list) else output.get("loss")
        if loss is not None:
            self._latest = step, loss.detach() if isinstance(loss, torch.Tensor) else loss, batch

    def take(self) -> None:
        """Count the loss of the step before.

        Raises:
            BundleError: it is no number any more.
        """
        if self._latest is None:
            return
        (step, loss, batch), self._latest = self._latest, None
        value = float(loss)
        if not math.isfinite(value):
            raise self._error(value, step, batch, "The data are finite, so the weights or the loss are not")
        self.losses.append(value)

    def _error(self, value: float, step: int, batch: Any, cause: str) -> BundleError:
        """The error that names the cases of a batch, and where numbers that are not finite came from."""
        names = () if self.loader is None else self.loader.names(step)
        told = f", on {listed(sorted(set(names)))}" if names else ""
        bad = not_finite(batch) if isinstance(batch, dict) else None
        if bad is not None:
            return BundleError(
                f"The loss became {value} at step {step}{told}: the {bad} of that batch has numbers that are not finite "
                "(NaN or infinity). Look at these cases and at the random transforms in the train config; the same "
                "command then goes on from the last checkpoint.",
                code="loss-not-finite",
            )
        return _not_finite(f"The loss became {value} at step {step}{told}. {cause}")


def require_finite(weights: Mapping[str, torch.Tensor], step: int) -> None:
    """Refuse weights that are no numbers after a step.

    Raises:
        BundleError: one is none.
    """
    bad = not_finite(weights)
    if bad is not None:
        raise _not_finite(f"The weight {bad} is no number any more after step {step}")


def _not_finite(what: str) -> BundleError:
    return BundleError(
        f"{what}, so training can't go on. Lower the learning rate in the train config, then type the same command to "
        "go on from the last checkpoint, or start over with --fresh.",
        code="loss-not-finite",
    )
