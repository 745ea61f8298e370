"""Random patches: cut with a margin, then rotated, scaled and deformed in one resampling."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandCropByLabelClassesd, Randomizable
from monai.utils import convert_to_tensor
from torch.nn import functional as F

from volseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

DEFORMATION_STEP = 16
"""Voxels of the finest axis between the points that are moved; nnU-Net's Gaussians are about as wide."""
UNCHANGED = (1.0, 1.0)


class RandMarginCropd(RandCropByLabelClassesd):  # type: ignore[misc]
    """Crop around a voxel of a random class, as MONAI's transform does, with a margin that may lie outside the volume.

    MONAI moves a crop until it lies inside. So of a crop with a margin, its middle, which stays when the margin is cut
    off, would never show what lies near the volume's border. Here the middle is moved inside, and where the margin
    sticks out it is 0.

    Args:
        keys: what is cropped, each (channel, i, j, k).
        label_key: the mask.
        spatial_size: of the crop in voxels, with its margins.
        margin: voxels at either side of each axis.
        num_classes: of the mask, the background as well.
        indices_key: where ``ClassesToIndicesd`` keeps the voxels of the classes.
        ratios: how often each class is drawn; alike by default.

    Raises:
        UsageError: the margins leave nothing.
    """

    def __init__(
        self,
        keys: Sequence[str],
        label_key: str,
        spatial_size: Sequence[int],
        margin: Sequence[int],
        num_classes: int,
        indices_key: str,
        ratios: list[float] | None = None,
    ) -> None:
        inner = [size - 2 * side for size, side in zip(spatial_size, margin, strict=True)]
        if min(inner) < 1 or min(margin) < 0:
            raise UsageError(f"Margins of {list(margin)} voxels leave nothing of {list(spatial_size)}.")
        super().__init__(
            keys, label_key, inner, ratios=ratios, num_classes=num_classes, indices_key=indices_key, warn=False
        )
        self.size, self.margin = tuple(spatial_size), tuple(margin)

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> list[dict[Hashable, Any]]:
        """The dictionary with the crops in it, in a list as MONAI has it."""
        del lazy
        found = dict(data)
        self.randomize(found.get(self.label_key), found.pop(self.indices_key, None))
        [centre] = self.cropper.centers
        for key in self.key_iterator(found):
            found[key] = self._crop(found[key], centre)
        return [found]

    def _crop(self, volume: torch.Tensor, centre: Sequence[int]) -> torch.Tensor:
        places, outside = [slice(None)], []
        for voxel, size, side, length in zip(centre, self.size, self.margin, volume.shape[1:], strict=True):
            start = int(voxel) - (size - 2 * side) // 2 - side
            places.append(slice(max(start, 0), min(start + size, length)))
            outside.append((max(-start, 0), max(start + size - length, 0)))
        inside = convert_to_tensor(volume, track_meta=False)[tuple(places)]
        return F.pad(inside, list(itertools.chain.from_iterable(reversed(outside))))


class RandSpatiald(Randomizable, MapTransform):  # type: ignore[misc]
    """Rotate, scale and deform in one resampling, and cut off the margin that was there for it.

    Each of the three is drawn by itself; where none is, the middle is cut out as it is. Rotations and deformations are
    of millimetres, so that they keep shapes where voxels are no cubes. One factor scales all axes. Outside the volume
    everything is 0.

    Args:
        keys: what is changed alike, each (channel, i, j, k).
        mode: ``bilinear`` or ``nearest`` for each key; labels need ``nearest``.
        spacing: of the voxels in mm, along i, j, k.
        margin: voxels that are cut off at either side of each axis.
        rotate_prob: the probability of a rotation.
        rotate_range: the largest angle about each axis, in radians.
        scale_prob: the probability of a scaling.
        scale_range: how much larger at least and at most what is seen gets to be than the patch; half of the
            factors are below 1.
        deform_prob: the probability of an elastic deformation.
        deform_range: how far points ``DEFORMATION_STEP`` voxels apart are moved along each axis, as the least and
            largest standard deviation in voxels of the finest axis; between them it is linear.
    """

    def __init__(
        self,
        keys: Sequence[str],
        mode: Sequence[str],
        spacing: Sequence[float],
        margin: Sequence[int] = (0, 0, 0),
        rotate_prob: float = 0.0,
        rotate_range: Sequence[float] = (0.0, 0.0, 0.0),
        scale_prob: float = 0.0,
        scale_range: Sequence[float] = UNCHANGED,
        deform_prob: float = 0.0,
        deform_range: Sequence[float] = (0.0, 0.0),
    ) -> None:
        MapTransform.__init__(self, keys)
        if len(mode) != len(self.keys):
            raise UsageError(f"{len(self.keys)} keys need as many modes, not {len(mode)}.")
        self.mode, self.spacing, self.margin = tuple(mode), np.array(spacing, float), tuple(margin)
        self.rotate_prob, self.rotate_range = rotate_prob, np.array(rotate_range, float)
        self.scale_prob, self.scale_range = scale_prob, tuple(scale_range)
        self.deform_prob, self.deform_range = deform_prob, tuple(deform_range)
        self._matrix: NDArray[np.float64] | None = None
        self._moved: NDArray[np.float64] | None = None

    def randomize(self, size: Sequence[int]) -> None:
        """Draw what is done.

        Args:
            size: of the patch in voxels.
        """
        rotates, scales, deforms = (
            bool(self.R.rand() < prob) for prob in (self.rotate_prob, self.scale_prob, self.deform_prob)
        )
        self._matrix = np.eye(3) if rotates or scales or deforms else None
        self._moved = None
        if rotates:
            turned = _rotation(self.R.uniform(-self.rotate_range, self.rotate_range))
            self._matrix = turned * self.spacing / self.spacing[:, None]
        if scales:
            low, high = self.scale_range
            pairs = [pair for pair in ((low, min(high, 1.0)), (max(low, 1.0), high)) if pair[0] < pair[1]] or [
                (low, high)
            ]
            self._matrix = self._matrix * self.R.uniform(*pairs[self.R.randint(len(pairs))])
        if deforms:
            finest = self.spacing.min()
            points = [
                math.ceil(n * min(1, step / finest / DEFORMATION_STEP))
                + 1  # no more than voxels, however thick they are
                for n, step in zip(size, self.spacing, strict=True)
            ]
            moved_mm = self.R.uniform(*self.deform_range) * finest * self.R.standard_normal((3, *points))
            self._moved = moved_mm / self.spacing[:, None, None, None]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the patches in it, as plain tensors of the same types."""
        found = dict(data)
        first = found[self.first_key(found)]
        size = [n - 2 * side for n, side in zip(first.shape[1:], self.margin, strict=True)]
        self.randomize(size)
        grid = None if self._matrix is None else self._grid(size, first.shape[1:]).to(first.device)
        middle = (slice(None), *(slice(side, side + n) for side, n in zip(self.margin, size, strict=True)))
        for key, mode in self.key_iterator(found, self.mode):
            volume = convert_to_tensor(found[key], track_meta=False)
            if grid is None:
                found[key] = volume[middle]
            else:
                sampled = F.grid_sample(
                    volume[None].float(), grid, mode=mode, padding_mode="zeros", align_corners=False
                )
                found[key] = sampled[0].to(volume.dtype)
        return found

    def _grid(self, size: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
        """Where in the volume each voxel of the patch lies, as ``grid_sample`` takes it: (1, i, j, k, 3), last axis first."""
        assert self._matrix is not None
        matrix = torch.as_tensor(self._matrix, dtype=torch.float32)
        offsets = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size]
        i, j, k = (
            offset.reshape([-1 if axis == own else 1 for axis in range(3)]) for own, offset in enumerate(offsets)
        )
        places = torch.stack([row[0] * i + row[1] * j + row[2] * k for row in matrix])
        if self._moved is not None:
            moved = torch.as_tensor(self._moved, dtype=torch.float32)[None]
            places += F.interpolate(moved, size=tuple(size), mode="trilinear", align_corners=True)[0]
        for axis, n in enumerate(shape):
            # From voxels about the middle to -1 .. 1 from border to border.
            places[axis] *= 2 / n
        return places.flip(0).movedim(0, -1)[None]


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation about the first axis, then the second, then the third."""
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[[one, other], [one, other]] = math.cos(angle)
        about[one, other], about[other, one] = -math.sin(angle), math.sin(angle)
        turned = about @ turned
    return turned
