"""Stored words to values: unused and overlay bits masked, signs extended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.dicom.pixels.layout import PixelLayout


def values_in_place(words: NDArray[Any], layout: PixelLayout) -> None:
    """Turn words into values, in place (PS3.5, 8.1.1).

    What lies above the highest bit, such as the overlays of old files (retired from PS3.5, 8.1.2), is dropped, and
    so is what lies below the lowest. Signed values get their sign extended.

    Args:
        words: of ``layout.dtype``, any shape.
        layout: the layout of the file that they come from.
    """
    if layout.floating:
        return
    high = layout.high_bit if layout.keeps_words else layout.bits_stored - 1
    above = layout.bits_allocated - 1 - high
    if above:
        np.left_shift(words, above, out=words)
    if layout.bits_allocated - layout.bits_stored:
        np.right_shift(words, layout.bits_allocated - layout.bits_stored, out=words)
