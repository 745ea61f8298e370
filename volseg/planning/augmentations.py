"""The augmentations that a plan may choose: random transforms of a patch and its labels."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from volseg.planning.component import Choice, Component, ConfigValue, by_name, component

AugmentationName = Literal["none", "light", "full"]
LIGHT_RADIANS = 15 * math.pi / 180
FULL_RADIANS = 30 * math.pi / 180
"""nnU-Net's, where voxels are about cubes; it turns by 180 degrees within thick slices, where no body lies so."""
SEEN_AT_MOST = 1.2
"""Margins hold what is seen of a patch that is scaled by so much, nnU-Net's value; rarer ones show some zeros."""

Triple = tuple[int, int, int]
NO_MARGIN: Triple = (0, 0, 0)


@dataclass(frozen=True)
class Augmentation(Choice):
    """Random transforms.

    Args:
        spacing_mm: of the patch, along R, A, S.
        mirrored: axes along which a mirrored patch is one that could be; see ``mirrored_axes``.
    """

    spacing_mm: tuple[float, float, float]
    mirrored: tuple[int, ...] = ()

    mirrors: ClassVar[bool] = False
    """Whether it mirrors where it may, without being asked to."""

    def margin(self, patch: Triple) -> Triple:
        """Voxels that a patch is cut larger at either side, so that no made-up voxels come in; none by default."""
        del patch
        return NO_MARGIN

    @abstractmethod
    def components(self, margin: Triple = NO_MARGIN) -> list[Component]:
        """Their targets and arguments, in order; the keys are ``image`` and ``label``.

        Args:
            margin: what the patch was cut larger.
        """

    def _mirrors(self) -> list[Component]:
        """A flip along each axis that is mirrored."""
        return [
            component("monai.transforms.RandFlipd", keys=["image", "label"], prob=0.5, spatial_axis=axis)
            for axis in self.mirrored
        ]

    def _rotations(self, largest: float) -> list[float]:
        """The largest angle about each axis.

        Across slices that lie far apart a rotation would tear structures: only the one about the thick axis stays.
        """
        thick = [step > 2 * min(self.spacing_mm) for step in self.spacing_mm]
        return [largest if not any(thick[:axis] + thick[axis + 1 :]) else 0.0 for axis in range(3)]


@dataclass(frozen=True)
class NoChanges(Augmentation):
    """None."""

    name: ClassVar[str] = "none"
    words: ClassVar[str] = "patches as they are"

    def components(self, margin: Triple = NO_MARGIN) -> list[Component]:
        """None."""
        del margin
        return []


@dataclass(frozen=True)
class SmallChanges(Augmentation):
    """Small rotations, scalings and changes of intensity, which hold for any organ in any modality."""

    name: ClassVar[str] = "light"
    words: ClassVar[str] = "rotation, scaling, noise, blur, brightness, contrast"

    def components(self, margin: Triple = NO_MARGIN) -> list[Component]:
        """Their targets and arguments, in order."""
        del margin
        return [
            component(
                "monai.transforms.RandAffined",
                keys=["image", "label"],
                prob=0.6,
                rotate_range=list(self._rotations(LIGHT_RADIANS)),
                scale_range=[0.15, 0.15, 0.15],
                mode=["bilinear", "nearest"],
                padding_mode=["border", "zeros"],
            ),
            component("monai.transforms.RandGaussianNoised", keys="image", prob=0.2, std=0.1),
            component("monai.transforms.RandGaussianSmoothd", keys="image", prob=0.1),
            component("monai.transforms.RandScaleIntensityd", keys="image", prob=0.3, factors=0.25),
            component("monai.transforms.RandShiftIntensityd", keys="image", prob=0.3, offsets=0.1),
            component("monai.transforms.RandAdjustContrastd", keys="image", prob=0.2, gamma=[0.7, 1.5]),
            *self._mirrors(),
        ]


@dataclass(frozen=True)
class AllChanges(Augmentation):
    """nnU-Net's list and its probabilities (Isensee et al., Nature Methods 18, 2021, supplement), elastic deformation
    as well.
    """

    name: ClassVar[str] = "full"
    words: ClassVar[str] = (
        "nnU-Net's: rotation, scaling, deformation, noise, blur, brightness, contrast, gamma, and low resolution where "
        "slices are thin"
    )
    mirrors: ClassVar[bool] = True

    def margin(self, patch: Triple) -> Triple:
        """What a rotation by the largest angle about any one axis brings in, but no more than half the patch."""
        lengths = [voxels * step for voxels, step in zip(patch, self.spacing_mm, strict=True)]
        seen = list(lengths)
        for axis, angle in enumerate(self._rotations(FULL_RADIANS)):
            for one, other in ((axis - 1, axis - 2), (axis - 2, axis - 1)):
                turned = lengths[one] * math.cos(angle) + lengths[other] * math.sin(angle)
                seen[one] = max(seen[one], turned)
        sides = [
            min(voxels // 2, math.ceil((SEEN_AT_MOST * length / step - voxels) / 2))
            for length, step, voxels in zip(seen, self.spacing_mm, patch, strict=True)
        ]
        return sides[0], sides[1], sides[2]

    def components(self, margin: Triple = NO_MARGIN) -> list[Component]:
        """Their targets and arguments, in order."""
        gamma: list[ConfigValue] = [0.7, 1.5]
        sigma: list[ConfigValue] = [0.5, 1.0]
        thick = max(self.spacing_mm) > 2 * min(self.spacing_mm)
        return [
            component(
                "volseg.training.RandSpatiald",
                keys=["image", "label"],
                mode=["bilinear", "nearest"],
                spacing=list(self.spacing_mm),
                margin=list(margin),
                rotate_prob=0.2,
                rotate_range=list(self._rotations(FULL_RADIANS)),
                scale_prob=0.2,
                scale_range=[0.7, 1.4],
                deform_prob=0.1,
                deform_range=[0.0, 2.5],
            ),
            component("monai.transforms.RandGaussianNoised", keys="image", prob=0.1, std=0.1),
            component(
                "monai.transforms.RandGaussianSmoothd", keys="image", prob=0.2, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma
            ),
            component("monai.transforms.RandScaleIntensityd", keys="image", prob=0.15, factors=0.25, channel_wise=True),
            component(
                "monai.transforms.RandScaleIntensityFixedMeand", keys="image", prob=0.15, factors=0.25,
                preserve_range=True, channel_wise=True,
            ),
            # nnU-Net takes the thick axis out, which MONAI's can't; and "nearest" would move the image by half a voxel.
            *([] if thick else [component(
                "monai.transforms.RandSimulateLowResolutiond", keys="image", prob=0.25, zoom_range=[0.5, 1.0],
                downsample_mode="nearest-exact", upsample_mode="trilinear",
            )]),
            component(
                "monai.transforms.RandAdjustContrastd", keys="image", prob=0.1, gamma=gamma, invert_image=True,
                retain_stats=True,
            ),
            component("monai.transforms.RandAdjustContrastd", keys="image", prob=0.3, gamma=gamma, retain_stats=True),
            *self._mirrors(),
        ]  # fmt: skip


AUGMENTATIONS: dict[str, type[Augmentation]] = by_name(NoChanges, SmallChanges, AllChanges)
