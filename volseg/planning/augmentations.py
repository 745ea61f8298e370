"""The augmentations that a plan may choose: random transforms of a patch and its labels."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from volseg.planning.component import Choice, Component, by_name, component

AugmentationName = Literal["none", "light"]
ROTATION_RADIANS = 15 * math.pi / 180


@dataclass(frozen=True)
class Augmentation(Choice):
    """Random transforms.

    Args:
        spacing_mm: of the patch, along R, A, S.
    """

    spacing_mm: tuple[float, float, float]

    @abstractmethod
    def components(self) -> list[Component]:
        """Their targets and arguments, in order; the keys are ``image`` and ``label``."""


@dataclass(frozen=True)
class NoChanges(Augmentation):
    """None."""

    name: ClassVar[str] = "none"
    words: ClassVar[str] = "patches as they are"

    def components(self) -> list[Component]:
        """None."""
        return []


@dataclass(frozen=True)
class SmallChanges(Augmentation):
    """Small rotations, scalings and changes of intensity, which hold for any organ in any modality."""

    name: ClassVar[str] = "light"
    words: ClassVar[str] = "rotation, scaling, noise, blur, brightness, contrast; no mirroring, since sides matter"

    def components(self) -> list[Component]:
        """Their targets and arguments, in order."""
        # Across slices that lie far apart a rotation would tear structures: only the one about the thick axis stays.
        thick = [step > 2 * min(self.spacing_mm) for step in self.spacing_mm]
        return [
            component(
                "monai.transforms.RandAffined",
                keys=["image", "label"],
                prob=0.6,
                rotate_range=[
                    ROTATION_RADIANS if not any(thick[:axis] + thick[axis + 1 :]) else 0.0 for axis in range(3)
                ],
                scale_range=[0.15, 0.15, 0.15],
                mode=["bilinear", "nearest"],
                padding_mode=["border", "zeros"],
            ),
            component("monai.transforms.RandGaussianNoised", keys="image", prob=0.2, std=0.1),
            component("monai.transforms.RandGaussianSmoothd", keys="image", prob=0.1),
            component("monai.transforms.RandScaleIntensityd", keys="image", prob=0.3, factors=0.25),
            component("monai.transforms.RandShiftIntensityd", keys="image", prob=0.3, offsets=0.1),
            component("monai.transforms.RandAdjustContrastd", keys="image", prob=0.2, gamma=[0.7, 1.5]),
        ]


AUGMENTATIONS: dict[str, type[Augmentation]] = by_name(NoChanges, SmallChanges)
