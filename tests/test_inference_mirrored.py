"""The mean over mirrored windows, each turned back."""

from __future__ import annotations

import pytest
import torch

from volseg.errors import BundleError
from volseg.inference.mirrored import Mirrored


def test_the_mean_is_over_all_mirrorings() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    windows = torch.randn(2, 1, 5, 6, 7)
    with torch.inference_mode():
        found = Mirrored(network, (0, 2))(windows)
        each = [
            network(windows),
            network(windows.flip(2)).flip(2),
            network(windows.flip(4)).flip(4),
            network(windows.flip((2, 4))).flip((2, 4)),
        ]
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0))
    with pytest.raises(BundleError, match="several outputs"):
        Mirrored(torch.nn.Sequential(network, Pair()), (0,))(windows)


class Pair(torch.nn.Module):
    def forward(self, found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return found, found
