"""Two masks, cut to what is in either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.labels import MAX_INDEX
from volseg.voxels import bounding_box, memory_order, union

if TYPE_CHECKING:
    from numpy.typing import NDArray


def crop(
    predicted: NDArray[np.generic], reference: NDArray[np.generic], margin: int = 0
) -> tuple[NDArray[np.generic], NDArray[np.generic], Literal["C", "F"], tuple[slice, ...]]:
    """Both masks inside the smallest box that holds what is in either, contiguous in one memory order; and the box."""
    if predicted.shape != reference.shape or predicted.ndim != 3:
        raise GeometryError(f"Two masks of different shapes, {predicted.shape} and {reference.shape}.")
    one, other = _whole(predicted), _whole(reference)
    smallest = union(bounding_box(one), bounding_box(other))
    box = tuple(slice(max(0, along.start - margin), along.stop + margin) for along in smallest)
    order = memory_order(predicted)
    return np.asarray(one[box], order=order), np.asarray(other[box], order=order), order, box


def _whole(mask: NDArray[np.generic]) -> NDArray[np.unsignedinteger]:
    if mask.dtype.kind not in "bui":
        raise InputError(f"A mask holds whole numbers, not {mask.dtype}.", code="mask-values")
    if mask.dtype in (np.uint8, np.uint16, np.bool_):
        return mask.view(np.uint8) if mask.dtype == np.bool_ else mask  # type: ignore[return-value]
    low, high = int(mask.min(initial=0)), int(mask.max(initial=0))
    if low < 0 or high > MAX_INDEX:
        raise InputError(f"A mask has labels from 0 to {MAX_INDEX}, not from {low} to {high}.", code="mask-values")
    return mask.astype(np.uint16)
