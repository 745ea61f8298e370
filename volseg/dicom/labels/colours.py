"""Colours as DICOM codes them: CIELab in 16 bits (PS3.3, C.10.7.1.1)."""

from __future__ import annotations

import numpy as np

_WHITE = np.array((0.95047, 1.0, 1.08883))
"""D65, sRGB's own: what the writers at hand, dcmqi and highdicom, take for the white of PS3.3, C.10.7.1.1."""
_SRGB_FROM_XYZ = np.array(
    (
        (3.2404542, -1.5371385, -0.4985314),
        (-0.9692660, 1.8760108, 0.0415560),
        (0.0556434, -0.2040259, 1.0572252),
    )
)
"""IEC 61966-2-1."""
_SCALE, _OFFSET = np.array((100, 255, 255)), np.array((0, 128, 128))
_EDGE = 6 / 29


def rgb_of(coded: bytes, *, big: bool = False) -> tuple[int, int, int] | None:
    """8-bit sRGB for three coded words; None where there are fewer."""
    if len(coded) < 6:
        return None
    words = np.frombuffer(coded[:6], ">u2" if big else "<u2").astype(float)
    lightness, a, b = words / 65535 * _SCALE - _OFFSET
    middle = (lightness + 16) / 116
    ratios = np.array((middle + a / 500, middle, middle - b / 200))
    xyz = _WHITE * np.where(ratios > _EDGE, ratios**3, 3 * _EDGE**2 * (ratios - 4 / 29))
    linear = np.clip(_SRGB_FROM_XYZ @ xyz, 0, 1)
    red, green, blue = np.rint(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
    return int(red), int(green), int(blue)


def cielab_of(rgb: tuple[int, int, int]) -> list[int]:
    """The three words for a colour of 8-bit sRGB."""
    share = np.array(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratios = np.linalg.inv(_SRGB_FROM_XYZ) @ linear / _WHITE
    x, y, z = np.where(ratios > _EDGE**3, np.cbrt(ratios), ratios / (3 * _EDGE**2) + 4 / 29)
    coded = (np.array((116 * y - 16, 500 * (x - y), 200 * (y - z))) + _OFFSET) / _SCALE * 65535
    return [int(word) for word in np.clip(np.rint(coded), 0, 65535)]
