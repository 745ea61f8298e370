"""The places of a sliding window, in layers along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monai.data.utils import dense_patch_slices
from monai.utils import ensure_tuple_rep, fall_back_tuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Place = tuple[int, int, int]


@dataclass(frozen=True)
class Windows:
    """As MONAI's ``sliding_window_inference`` places them.

    Args:
        size: of a window.
        shape: of the image, padded to a window at least.
        before: how many voxels of padding lie before the image's first, along each axis.
        axis: along which the layers follow each other: where a layer is the smallest part of the image.
        layers: where the windows of each layer begin; those of one layer begin at one voxel of ``axis``.
    """

    size: Place
    shape: Place
    before: Place
    axis: int
    layers: tuple[tuple[Place, ...], ...]

    @classmethod
    def of(cls, sliding: Any, shape: Sequence[int]) -> Windows:
        """Place them.

        Args:
            sliding: MONAI's ``SlidingWindowInferer``.
            shape: of the image that the network sees (i, j, k).
        """
        size = tuple(int(one) for one in fall_back_tuple(sliding.roi_size, shape))
        padded = tuple(max(one, other) for one, other in zip(shape, size, strict=True))
        before = tuple((one - other) // 2 for one, other in zip(padded, shape, strict=True))
        overlap = ensure_tuple_rep(sliding.overlap, 3)
        steps = [
            one if one == all_of else max(1, int(one * (1 - share)))
            for one, all_of, share in zip(size, padded, overlap, strict=True)
        ]
        axis = min(range(3), key=lambda one: size[one] / padded[one])
        layers: dict[int, list[Place]] = {}
        for place in dense_patch_slices(padded, size, steps):
            i, j, k = (int(one.start) for one in place)
            layers.setdefault((i, j, k)[axis], []).append((i, j, k))
        return cls(
            (size[0], size[1], size[2]),
            (padded[0], padded[1], padded[2]),
            (before[0], before[1], before[2]),
            axis,
            tuple(tuple(layers[begin]) for begin in sorted(layers)),
        )

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self.layers))

    @property
    def slab_shape(self) -> Place:
        """Of what a layer adds to, and one plane before it."""
        i, j, k = (
            size + 1 if axis == self.axis else all_of
            for axis, (size, all_of) in enumerate(zip(self.size, self.shape, strict=True))
        )
        return i, j, k
