"""What every way from class values to a mask has to hold to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from monai.data import MetaTensor

from volseg.errors import BundleError, GeometryError
from volseg.labels import MAX_INDEX
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from volseg.grid import Grid

AFFINE_TOLERANCE_MM = 0.01
"""How far the inverted mask's corner may lie from its image's; MONAI inverts in float32 and float64."""
NOT_FINITE = (
    "not finite (NaN or infinity), so no mask can be made of it. See whether the image is like those that the bundle "
    "was trained on, and whether its weights are whole; float32 has more room than float16 or bfloat16."
)


def whole_numbers(result: torch.Tensor) -> NDArray[np.unsignedinteger]:
    """Labels as uint8, or uint16 where one is above 255.

    Raises:
        BundleError: they are no labels.
    """
    values = result.as_tensor() if isinstance(result, MetaTensor) else result
    array = values.cpu().numpy()
    low, high = float(array.min()), float(array.max())
    is_mask = low >= 0 and high <= MAX_INDEX  # false for what is not a number
    mask: NDArray[np.unsignedinteger] = array.astype(np.uint8 if high <= 255 else np.uint16) if is_mask else array
    if not is_mask or not np.array_equal(mask, array):
        raise BundleError(
            "The bundle's postprocessing gives no whole numbers, so it is no mask. It has to end in a discrete label.",
            code="no-mask",
        )
    return mask


def require_outputs(found: int, wanted: int | None) -> None:
    """Refuse a network with other outputs than the configs say; None for any.

    Raises:
        BundleError: with the code ``channels``.
    """
    if wanted not in (None, found):
        raise BundleError(
            f"The network gives {found} outputs, and the bundle's configs say {wanted}. Repair num_channels "
            "and channel_def of the output named pred in configs/metadata.json.",
            code="channels",
        )


def require_place(
    found: int, shape: Sequence[int], affine: NDArray[np.float64] | None, grid: Grid, channels: int
) -> None:
    """Refuse masks that don't lie on the image's grid, or have other channels.

    Args:
        found: channels of what the bundle gives.
        shape: of each (i, j, k).
        affine: (4, 4) of their grid, to RAS millimetres; None where nothing tells.
        grid: of the image.
        channels: that there have to be.

    Raises:
        GeometryError: with the code ``mask-off-grid``.
    """
    if (found, *shape) != (channels, *grid.shape):
        raise GeometryError(
            f"The bundle gives a mask of shape {(found, *shape)} for an image of shape {grid.shape}. "
            f"Its postprocessing has to invert the preprocessing and give {counted(channels, 'channel')}.",
            code="mask-off-grid",
        )
    if affine is not None:
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(grid.shape) - 1)
        apart = corners @ affine[:3, :3].T + affine[:3, 3] - grid.corners_mm
        if float(np.abs(apart).max()) > AFFINE_TOLERANCE_MM:
            raise GeometryError(
                "The bundle's mask lies elsewhere than its image: its postprocessing doesn't invert its preprocessing.",
                code="mask-off-grid",
            )
