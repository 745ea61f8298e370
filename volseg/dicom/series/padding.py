"""CT padding: pixels outside the field of view become air."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.file import tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.dicom.series.slices import Slice

AIR_HU = -1024
"""What padding becomes: the lowest value of 12-bit Hounsfield units, at which most scanners end."""
HIGHEST_HU = 30710
"""Of the extended scale of 16-bit CT; a padding value above it is no tissue or metal."""
CIRCLE_HU = (-2000.0, -3024.0)
"""What scanners put about their circle without a word in the header: -2000 as stored, with or without an intercept of
-1024."""
PADDING_TO_AIR, PADDING_LEFT = "padding-to-air", "padding-left"

Range = tuple[int, int]


def padding_to_air(
    values: NDArray[Any], slices: Sequence[Slice], slopes: Sequence[float], intercepts: Sequence[float]
) -> tuple[NDArray[Any], str]:
    """Set the padding of a CT series to air, in place where its type allows.

    Padding is the stored values from PixelPaddingValue to PixelPaddingRangeLimit (PS3.3, C.7.5.1.1.2), and -2000 where
    it is the lowest value of all. Where the header's padding lies among the values of tissue, such as a padding of 0
    that stands for water, nobody can tell it from tissue, and it is left.

    Args:
        values: (slices, rows, columns) after the rescale.
        slices: whose headers name the padding.
        slopes: of the rescale, one for each slice.
        intercepts: of the rescale, one for each slice.

    Returns:
        The values, and ``padding-to-air`` where voxels changed, ``padding-left`` where some were left; else an empty
        text.
    """
    done = left = False
    for number, (image, slope, intercept) in enumerate(zip(slices, slopes, intercepts, strict=True)):
        padding = stored_padding(image)
        if padding is None:
            continue
        low, high = sorted(_as(values.dtype, slope * stored + intercept) for stored in padding)
        if low == high == AIR_HU:
            continue
        plane = values[number]
        found = plane == low if low == high else (plane >= low) & (plane <= high)
        if not found.any():
            continue
        if high <= AIR_HU or low > HIGHEST_HU:
            if values.dtype.kind == "u":  # which has no room for air
                values = values.astype(np.int32)
            values[number][found] = AIR_HU
            done = True
        else:
            left = True
    lowest = float(values.min())
    if lowest in CIRCLE_HU:
        values[values == lowest] = AIR_HU
        done = True
    return values, PADDING_TO_AIR if done else PADDING_LEFT if left else ""


def stored_padding(image: Slice) -> Range | None:
    """The lowest and the highest stored value that stand for padding; None where the header names none."""
    header = image.header
    value = header.unsigned(tags.PIXEL_PADDING_VALUE)
    if value is None:
        return None
    limit = header.unsigned(tags.PIXEL_PADDING_RANGE_LIMIT)
    signed = header.unsigned(tags.PIXEL_REPRESENTATION) == 1
    bits = min(16, header.unsigned(tags.BITS_STORED) or 16)
    one, other = (_stored(word, bits, signed=signed) for word in (value, value if limit is None else limit))
    return min(one, other), max(one, other)


def _stored(word: int, bits: int, *, signed: bool) -> int:
    """The value of a word as pixels have it: the unused bits out, the sign extended."""
    word &= (1 << bits) - 1
    return word - (1 << bits) if signed and word >> (bits - 1) else word


def _as(dtype: np.dtype[Any], value: float) -> float:
    """A value as an array of that type would hold it, so that it compares equal."""
    return float(dtype.type(value)) if dtype.kind == "f" else value
