"""Exponential moving average of a network's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.nn import Module


class WeightAverage:
    """An exponential moving average of a network's weights (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992).

    A short training ends while its weights still jump about an optimum; their mean lies nearer to it. The average is
    what is validated and published, the network itself is what the optimizer goes on with.

    Args:
        network: whose weights are averaged.
        decay: how much of the average stays at each step; early on it is less, so that the first steps are forgotten.
    """

    def __init__(self, network: Module, decay: float = 0.995) -> None:
        self.network = network
        self.decay = decay
        self.steps = 0
        self._average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self._kept: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of the step that was just made into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor, 1 - decay)
            else:
                self._average[name].copy_(tensor)

    def apply(self) -> None:
        """Put the average into the network and keep the network's own weights for ``restore``."""
        if self._kept is None:
            self._kept = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
            self.network.load_state_dict(self._average)

    def restore(self) -> None:
        """Give the network its own weights back; nothing happens when it has them."""
        if self._kept is not None:
            self.network.load_state_dict(self._kept)
            self._kept = None

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, under the names of the network's."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from an average of ``steps`` steps.

        Raises:
            KeyError, RuntimeError: it is another network's.
        """
        for name, tensor in self._average.items():
            tensor.copy_(state[name])
        self.steps = steps
