"""What every way from class values to a mask has to hold to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from monai.data import MetaTensor

from volseg.errors import BundleError
from volseg.labels import MAX_INDEX

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

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
