"""A bundle that nobody trained, and images of noise: random weights give masks of all labels, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage

SHAPE = (18, 14, 12)
AFFINE = np.diag([-1.5, 1.0, 1.25, 1.0])


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


def noise(write_image: WriteImage, *paths: Path) -> Path:
    """Images of random values, each of others; the first of them."""
    random = np.random.default_rng(0)
    for path in paths:
        write_image(path, random.normal(50, 80, SHAPE).astype(np.int16), AFFINE)
    return paths[0]
