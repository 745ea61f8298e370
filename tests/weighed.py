"""A bundle that nobody trained: random weights give masks of all labels, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def weighed(bundle: Path, seed: int = 5) -> Path:
    """The bundle with random weights, always the same for a seed."""
    import torch

    from volseg.bundle.folder import open_bundle
    from volseg.bundle.parser import BundleParser

    network = BundleParser(open_bundle(bundle), "inference", {"device": "cpu"}).build("network_def")
    torch.manual_seed(seed)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    (bundle / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return bundle
