"""A network that sees each window mirrored as well, and gives the mean of what it makes of all."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Mirrored(torch.nn.Module):
    """Averages logits over all mirrorings along some axes, as nnU-Net's predictor does (``use_mirroring``).

    Args:
        network: from windows (window, channel, i, j, k) to class values of the same size.
        axes: 0 to 2 for i, j, k of the network's grid; n of them make the work 2^n times as long.
    """

    def __init__(self, network: torch.nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.mirrorings = [
            [axis + 2 for axis in chosen] for count in range(1, len(axes) + 1) for chosen in combinations(axes, count)
        ]

    def forward(self, windows: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        """The mean, in float32.

        Raises:
            BundleError: the network gives something else than one tensor.
        """
        total = self._values(windows, *args, **named).float()
        for axes in self.mirrorings:
            total += self._values(windows.flip(axes), *args, **named).flip(axes)
        return total.div_(1 + len(self.mirrorings))

    def _values(self, windows: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        found = self.network(windows, *args, **named)
        if not isinstance(found, torch.Tensor):
            raise BundleError("The network gives several outputs, so --tta can't average them.", code="no-tta")
        return found
