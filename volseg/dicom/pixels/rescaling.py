"""The modality rescale: stored values to Hounsfield units, activity or plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EXACT_TYPES = (np.int16, np.uint16, np.int32)
"""Tried in this order for whole results; int16 first, since that is what CT is."""


def rescale(
    frames: NDArray[Any], slope: float | Sequence[float], intercept: float | Sequence[float], *, reuse: bool = False
) -> NDArray[Any]:
    """Apply the modality rescale, value = slope * stored + intercept (PS3.3, C.11.1.1.2).

    Args:
        frames: (frames, rows, columns) stored values.
        slope: one number, or one for each frame.
        intercept: one number, or one for each frame.
        reuse: whether the result may lie in the memory of ``frames``, which are lost then.

    Returns:
        ``frames`` themselves where nothing changes. For a whole slope and intercept that all frames share, the first
        of int16, uint16 and int32 that holds every value that occurs. Else float32, computed in float64 and rounded
        once; different slopes give float32 even where each is whole.
    """
    slopes = np.broadcast_to(np.asarray(slope, dtype=np.float64), len(frames))
    intercepts = np.broadcast_to(np.asarray(intercept, dtype=np.float64), len(frames))
    shared = bool((slopes == slopes[0]).all() and (intercepts == intercepts[0]).all())
    if shared and slopes[0] == 1 and intercepts[0] == 0:
        return frames
    if shared and frames.dtype.kind in "iu" and slopes[0].is_integer() and intercepts[0].is_integer():
        factor, offset = int(slopes[0]), int(intercepts[0])
        low, high = sorted(factor * int(bound) + offset for bound in (frames.min(), frames.max()))
        for kind in EXACT_TYPES:
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return _whole(frames, factor, offset, np.dtype(kind), reuse=reuse)
    result = np.empty(frames.shape, np.float32)
    for number, frame in enumerate(frames):
        result[number] = frame * slopes[number] + intercepts[number]
    return result


def _whole(frames: NDArray[Any], factor: int, offset: int, dtype: np.dtype[Any], *, reuse: bool) -> NDArray[Any]:
    """Whole numbers modulo the word's size: since each result fits, the wraps on the way cancel out."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if frames.dtype.itemsize == dtype.itemsize:
        words = frames.view(unsigned)
        result = words if reuse and frames.flags.writeable else np.empty_like(words)
    else:
        words = result = frames.astype(dtype).view(unsigned)
    modulus = 1 << (8 * dtype.itemsize)
    for number in range(len(words)):  # frame by frame, so that each stays in the processor's cache
        if factor != 1:
            np.multiply(words[number], unsigned.type(factor % modulus), out=result[number])
            np.add(result[number], unsigned.type(offset % modulus), out=result[number])
        else:
            np.add(words[number], unsigned.type(offset % modulus), out=result[number])
    return result.view(dtype)
