"""What is measured of one training case while its voxels are in memory for the check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from nibabel.orientations import io_orientation, ornt2axcodes
from pydantic import ConfigDict

from volseg.components import find_components

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from volseg.grid import Grid

Number = TypeVar("Number", int, float)
Triple = tuple[int, int, int]

SINGLE_PIECE_SHARE = 0.95
"""A label counts as one piece in a case when its largest component holds this share of it: annotators leave specks."""
SAMPLE_TYPE = "<f4"


@dataclass(frozen=True)
class CaseMeasures:
    """One training case, its axes permuted to the nearest RAS order.

    Args:
        shape: voxels along R, A, S.
        spacing_mm: along R, A, S.
        samples: foreground intensities of each channel, taken evenly, as float32; see ``foreground``.
        zero_share: the share of voxels that are exactly 0, for each channel.
        label_volumes_mm3: for each label present.
        single_piece: the labels that are one piece in this case.
        resampled: whether its sidecar says that it was resampled before.
        ct_like: whether its first channel looks like CT.
        cropped: voxels along R, A, S of the smallest box with all that is not 0 in any channel; empty means ``shape``.
        orientation: where the stored axes run to, such as LPS.
        components: how many connected components each label present has; voxels touch across faces, edges or corners.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}

    name: str
    shape: Triple
    spacing_mm: tuple[float, float, float]
    samples: tuple[bytes, ...]
    zero_share: tuple[float, ...]
    label_volumes_mm3: dict[int, float]
    single_piece: frozenset[int]
    resampled: bool = False
    ct_like: bool = False
    cropped: Triple | None = None
    orientation: str = "RAS"
    components: dict[int, int] | None = None

    def foreground(self, channel: int) -> NDArray[np.float32]:
        """The sampled foreground intensities of a channel."""
        return np.frombuffer(self.samples[channel], SAMPLE_TYPE)


@dataclass(frozen=True)
class ChannelMeasures:
    """One channel of one case.

    Args:
        sample: intensities where the mask is not 0, as float32.
        zero_share: the share of voxels that are exactly 0.
        filled: for each axis of the array, (n,) whether a plane across it holds anything but 0.
    """

    sample: bytes
    zero_share: float
    filled: tuple[NDArray[np.bool_], ...]


def measure_channels(
    image: NDArray[np.generic], mask: NDArray[np.generic], foreground: int, sampled: int
) -> Iterator[ChannelMeasures]:
    """Measure an image (i, j, k) or (i, j, k, channel), a slice at a time.

    Args:
        image: the voxels.
        mask: (i, j, k) of whole numbers.
        foreground: how many voxels of the mask are not 0.
        sampled: how many intensities are kept at most.
    """
    step = max(1, -(-foreground // sampled))
    channels = image[..., np.newaxis] if image.ndim == 3 else image
    for channel in range(channels.shape[3]):
        filled = tuple(np.zeros(length, np.bool_) for length in mask.shape)
        kept: list[NDArray[np.generic]] = []
        seen = zeros = 0
        for k in range(mask.shape[2]):
            slab = channels[:, :, k, channel]
            nonzero = slab != 0
            zeros += slab.size - int(np.count_nonzero(nonzero))
            filled[0][:] |= nonzero.any(axis=1)
            filled[1][:] |= nonzero.any(axis=0)
            filled[2][k] = nonzero.any()
            inside = mask[:, :, k] != 0
            if inside.any():
                values = slab.T[inside.T]
                kept.append(values[-seen % step :: step])  # every n-th, so that the same file gives the same sample
                seen += len(values)
        sample = np.concatenate(kept) if kept else np.empty(0)
        yield ChannelMeasures(sample.astype(SAMPLE_TYPE).tobytes(), zeros / max(1, mask.size), filled)


def measure_case(
    name: str, grid: Grid, mask: NDArray[np.generic], channels: Sequence[ChannelMeasures], *, ct_like: bool
) -> CaseMeasures:
    """Put together what was measured of a case.

    Args:
        name: the case's.
        grid: of image and mask.
        mask: (i, j, k) of whole numbers.
        channels: what was measured of each.
        ct_like: whether an image of it looks like CT.
    """
    axes = io_orientation(grid.affine)
    order = np.argsort(axes[:, 0].astype(int))  # the voxel axes that run along R, A and S
    box = [np.flatnonzero(np.any([one.filled[axis] for one in channels], axis=0)) for axis in range(3)]
    found = find_components(mask).by_label
    return CaseMeasures(
        name=name,
        shape=_permuted(grid.shape, order),
        spacing_mm=_permuted(grid.spacing_mm, order),
        samples=tuple(one.sample for one in channels),
        zero_share=tuple(one.zero_share for one in channels),
        label_volumes_mm3={one.label: one.voxels * grid.voxel_volume_mm3 for one in found},
        single_piece=frozenset(one.label for one in found if one.largest_share >= SINGLE_PIECE_SHARE),
        ct_like=ct_like,
        cropped=_permuted(_lengths(box), order) if all(map(len, box)) else None,
        orientation="".join(map(str, ornt2axcodes(axes))),
        components={one.label: one.components for one in found},
    )


def _lengths(box: Sequence[NDArray[np.int64]]) -> Triple:
    i, j, k = (int(places[-1] - places[0]) + 1 for places in box)
    return i, j, k


def _permuted(values: tuple[Number, Number, Number], order: NDArray[np.int64]) -> tuple[Number, Number, Number]:
    return values[order[0]], values[order[1]], values[order[2]]
