"""What predicts slab by slab in tests: images, preprocessing by MONAI, small networks, and steps after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    MapLabelValued,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
)

from tests.conftest import OBLIQUE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage

SHAPE = (19, 15, 22)
THIN = np.array([[0.9, 0, 0, 5], [0, -0.8, 0, 7], [0, 0, 1.7, -3], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, 1.4, 5], [-0.7, 0, 0, 7], [0, 1.1, 0, -3], [0, 0, 0, 1]])
AFFINES = {"thin": THIN, "sagittal": SAGITTAL, "oblique": OBLIQUE}
SLIDING = SlidingWindowInferer((8, 10, 8), 3, 0.5, mode="gaussian")
CPU = torch.device("cpu")


class Mixed(torch.nn.Module):
    """Smooth values of several classes that differ from place to place."""

    def __init__(self, classes: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.one = torch.nn.Conv3d(1, 4, 3, padding=1)
        self.two = torch.nn.Conv3d(4, classes, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = 20 * self.two(torch.sin(4 * self.one(image)))
        return found


def smooth_image(write_image: WriteImage, path: Path, affine: Any, shape: tuple[int, ...] = SHAPE) -> Path:
    """An image whose values change little from voxel to voxel."""
    random = np.random.default_rng(0)
    smooth = torch.nn.functional.avg_pool3d(torch.from_numpy(random.normal(0, 900, (1, *shape))), 5, 1, 2)[0]
    return write_image(path, smooth.numpy().astype(np.int16), affine)


def loading(*steps: Any, axes: str = "RAS") -> Compose:
    return Compose(
        [
            LoadImaged("image", reader="NibabelReader", image_only=True),
            EnsureChannelFirstd("image"),
            Orientationd("image", axes, labels=None),
            *steps,
            EnsureTyped("image"),
        ]
    )


SPACING = Spacingd("image", (1.2, 1.1, 1.3), mode="bilinear")
SCALED = ScaleIntensityRanged("image", -200, 300, 0, 1, clip=True)
PREPROCESSING = {
    "resampled": loading(SPACING, NormalizeIntensityd("image")),
    "finer": loading(Spacingd("image", (0.6, 0.9, 0.7), mode="bilinear"), NormalizeIntensityd("image")),
    "other axes, corners aligned": loading(
        Spacingd("image", (1.2, 1.1, 1.3), mode="bilinear", align_corners=True), SCALED, axes="PLI"
    ),
    "cropped, then resampled": loading(SCALED, CropForegroundd("image", "image", margin=1), SPACING),
    "resampled, then cropped": loading(SPACING, SCALED, CropForegroundd("image", "image", k_divisible=4)),
    "padded": loading(SPACING, SCALED, SpatialPadd("image", (24, 10, 44))),
    "padded at the end": loading(SCALED, SpatialPadd("image", (20, 19, 25), method="end")),
    "as it is": loading(NormalizeIntensityd("image")),
}


def back(preprocessing: Compose, *, nearest: bool) -> Invertd:
    return Invertd("pred", preprocessing, "image", nearest_interp=nearest, to_tensor=True)


def steps_of(words: str, preprocessing: Compose) -> Compose:
    """Postprocessing of these words, in their order."""
    steps = {
        "linear": back(preprocessing, nearest=False),
        "nearest": back(preprocessing, nearest=True),
        "softmax": Activationsd("pred", softmax=True),
        "sigmoid": Activationsd("pred", sigmoid=True),
        "argmax": AsDiscreted("pred", argmax=True),
        "cut": AsDiscreted("pred", threshold=0.5),
        "cut-at-0": AsDiscreted("pred", threshold=0.0),
        "numbers": MapLabelValued("pred", [0, 1, 2, 3, 4], [0, 7, 300, 2, 7]),
    }
    return Compose([steps[word] for word in words.split()])
