"""Which voxels of the network's grid each voxel of the image lies between, one axis at a time.

A preprocessing turns, crops, pads and resamples, all of it along the axes. So its inverse is a matrix for each axis with at
most two numbers in a row, and nothing of a volume is needed to know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.networks.layers import AffineTransform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monai.data import MetaTensor
    from numpy.typing import NDArray

UNCHANGED = 1e-3
"""MONAI resamples nothing where no number of the affine map differs by more (its AFFINE_TOL)."""
ACROSS_VOXELS = 1e-4
"""How far axes may run across one another over the whole image and still count as parallel."""
PADS = ("Pad", "SpatialPad", "BorderPad", "DivisiblePad")
CROPS = ("Crop", "SpatialCrop", "CenterSpatialCrop")


class UnknownWayError(Exception):
    """A preprocessing did what can't be undone axis by axis; says what."""


@dataclass(frozen=True, eq=False)
class Taps:
    """Along one axis: the voxels that each voxel of the target is made of.

    Args:
        index: (targets, 2) voxels of the source.
        weight: (targets, 2) float64, what each counts; 0 and 0 where the target lies outside what was cropped.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def same(cls, count: int) -> Taps:
        """Each voxel is itself."""
        place = np.arange(count)
        return cls(np.stack((place, place), axis=1), np.tile([1.0, 0.0], (count, 1)))

    def __len__(self) -> int:
        return len(self.index)

    def picked(self, rows: NDArray[np.int64]) -> Taps:
        """The targets in another order; those before the first or after the last are zero."""
        inside = (rows >= 0) & (rows < len(self))
        chosen = np.clip(rows, 0, len(self) - 1)
        return Taps(self.index[chosen], self.weight[chosen] * inside[:, None])

    def between(self, places: NDArray[np.float64]) -> Taps:
        """Targets at fractional places among these.

        Raises:
            UnknownWayError: these are interpolated already.
        """
        if self.weight[:, 1].any():
            raise UnknownWayError("it resamples the image more than once")
        below = np.floor(places).astype(int)
        part = places - below
        above = np.minimum(below + (part > 0), len(self) - 1)
        index = np.stack((self.index[below, 0], self.index[above, 0]), axis=1)
        weight = np.stack(((1 - part) * self.weight[below, 0], part * self.weight[above, 0]), axis=1)
        return Taps(index, weight)

    @property
    def is_same(self) -> bool:
        """Whether nothing happens along this axis, whatever the source's length."""
        place = np.arange(len(self))
        return bool((self.index[:, 0] == place).all() and (self.weight == [1.0, 0.0]).all())


@dataclass(frozen=True, eq=False)
class WayBack:
    """From the network's grid to the image's.

    Args:
        taps: for each axis of the network's grid, its voxels for those of the image along it.
        axes: for each axis of the image (i, j, k), the axis of the network's grid that it is.
        affine: (4, 4) of the grid that comes out, to RAS millimetres.
    """

    taps: tuple[Taps, Taps, Taps]
    axes: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what comes out (i, j, k)."""
        i, j, k = (len(self.taps[axis]) for axis in self.axes)
        return i, j, k

    def seen(self, box: Sequence[range]) -> tuple[range, range, range]:
        """The network's voxels that a box of the image's (i, j, k) is made of."""
        found: dict[int, range] = {}
        for axis, rows in zip(self.axes, box, strict=True):
            index = self.taps[axis].index[rows.start : rows.stop]
            found[axis] = range(int(index.min()), int(index.max()) + 1)
        return found[0], found[1], found[2]


def way_back(image: MetaTensor, *, nearest: bool) -> WayBack:
    """How MONAI's ``Invertd`` would bring what lies on the grid of a preprocessed image back to the image's own.

    Args:
        image: (channel, i, j, k), with the operations that were applied to it.
        nearest: whether resampling takes the nearest voxel, else it is linear.

    Raises:
        UnknownWayError: an operation is another than turning, cropping, padding and linear resampling along the axes.
    """
    if image.pending_operations:
        raise UnknownWayError("it leaves operations for later")
    taps = [Taps.same(count) for count in image.shape[1:]]
    axes, affine = [0, 1, 2], np.asarray(image.affine.cpu(), np.float64)
    for operation in reversed(image.applied_operations):
        name, extra = str(operation["class"]), operation["extra_info"]
        before = [int(size) for size in operation["orig_size"]]
        if name == "Orientation":
            taps, axes, affine = _turned_back(taps, axes, affine, extra)
        elif name == "SpatialResample":
            taps, affine = _resampled_back(taps, affine, extra, before, nearest=nearest)
        elif name in CROPS or name == "CropForeground" or name in PADS:
            if name == "CropForeground":
                taps, affine = _shifted_back(taps, affine, _starts(extra["pad_info"]["extra_info"]), None)
            starts = _starts(extra)
            taps, affine = _shifted_back(taps, affine, starts, before)
        else:
            raise UnknownWayError(f"it has {name}")
        if [len(one) for one in taps] != before:
            raise UnknownWayError(f"sizes of {name} don't fit")
    by_network = dict(zip(axes, taps, strict=True))
    return WayBack((by_network[0], by_network[1], by_network[2]), (axes[0], axes[1], axes[2]), affine)


def _turned_back(
    taps: Sequence[Taps], axes: Sequence[int], affine: NDArray[np.float64], extra: Mapping[str, Any]
) -> tuple[list[Taps], list[int], NDArray[np.float64]]:
    from nibabel.orientations import io_orientation, ornt_transform

    original = np.asarray(extra["original_affine"], np.float64)
    turn = ornt_transform(io_orientation(affine), io_orientation(original))
    if np.isnan(turn).any():
        raise UnknownWayError("the axes of the image are not known")
    flipped = [
        one.picked(np.arange(len(one))[::-1]) if sign < 0 else one for one, sign in zip(taps, turn[:, 1], strict=True)
    ]
    order = np.argsort(turn[:, 0])
    return [flipped[axis] for axis in order], [axes[axis] for axis in order], original


def _resampled_back(
    taps: Sequence[Taps], affine: NDArray[np.float64], extra: Mapping[str, Any], before: Sequence[int], *, nearest: bool
) -> tuple[list[Taps], NDArray[np.float64]]:
    if extra["mode"] != "bilinear" or extra["padding_mode"] != "border":
        raise UnknownWayError(f"it resamples by {extra['mode']} with {extra['padding_mode']}")
    target = np.asarray(extra["src_affine"], np.float64)
    change = np.linalg.solve(affine, target)
    same = any(np.allclose(one, other, atol=UNCHANGED) for one, other in ((affine, target), (change, np.eye(4))))
    if same and [len(one) for one in taps] == list(before):
        return list(taps), target
    steps = np.diag(change[:3, :3])
    across = np.abs(change[:3, :3] - np.diag(steps)) @ np.asarray(before)
    if (steps <= 0).any() or (across > ACROSS_VOXELS).any():
        raise UnknownWayError("it resamples across the axes")
    align = extra["align_corners"] is True
    return [
        one.between(places_of(len(one), count, change[axis, axis], change[axis, 3], nearest=nearest, align=align))
        for axis, (one, count) in enumerate(zip(taps, before, strict=True))
    ], target


def places_of(
    count: int, targets: int, step: float, start: float, *, align: bool, nearest: bool = False
) -> NDArray[np.float64]:
    """(targets,) where each lies among the source's voxels, as MONAI has it.

    It is asked for a ramp where it takes the nearest voxel: its own rounding decides on a target halfway between two.
    """
    places: NDArray[np.float64] = np.clip(np.arange(targets) * step + start, 0, count - 1)
    if nearest and targets == 1:
        places = np.rint(places)
    elif nearest:
        theta = torch.eye(4, dtype=torch.float64)
        theta[0, 0], theta[0, 3] = step, start
        sample = AffineTransform(
            normalized=False, mode="nearest", padding_mode="border", align_corners=align, reverse_indexing=True
        )
        ramp = torch.arange(count, dtype=torch.float64).reshape(1, 1, count, 1, 1).expand(1, 1, count, 2, 2)
        places = sample(ramp, theta=theta, spatial_size=(targets, 2, 2))[0, 0, :, 0, 0].numpy()
    return places


def _starts(extra: Mapping[str, Any]) -> list[tuple[int, int]]:
    """For each axis, how many voxels an operation took away at its begin and its end; less than none where it added."""
    if "cropped" in extra:
        cut = [int(size) for size in extra["cropped"]]
        return list(pairwise(cut))[::2]
    padded = [tuple(map(int, pair)) for pair in extra["padded"]]
    if padded[0] != (0, 0):
        raise UnknownWayError("it adds channels")
    return [(-begin, -end) for begin, end in padded[1:]]


def _shifted_back(
    taps: Sequence[Taps], affine: NDArray[np.float64], cut: Sequence[tuple[int, int]], before: Sequence[int] | None
) -> tuple[list[Taps], NDArray[np.float64]]:
    """Undo cropping, by zeros, or padding."""
    result = []
    for axis, (one, (begin, end)) in enumerate(zip(taps, cut, strict=True)):
        count = len(one) + begin + end if before is None else before[axis]
        result.append(one.picked(np.arange(count) - begin))
    shift = np.eye(4)
    shift[:3, 3] = [-begin for begin, _ in cut]
    return result, affine @ shift
