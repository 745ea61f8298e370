"""Whether the values of an image can be what a model was made for, where nothing else tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.volume import read_volume

if TYPE_CHECKING:
    from pathlib import Path

STEP = 3
"""Every third voxel along each axis is enough."""
LEAST_RANGE_HU = 100.0
"""Any crop of a body spans more, from fat or air to tissue or bone; values scaled to a few units don't."""
LEAST_BELOW = 0.02
"""Of the highest values: how far the lowest of a CT go below zero, by air, fat or noise. Resampling by splines makes
MR undershoot by less than this."""


def is_no_ct(image: Path) -> bool:
    """Whether the values of an image are certainly no Hounsfield units: none is negative, or they span next to nothing.

    Raises:
        FileError, InputError: the image can't be read.
    """
    values = read_volume(image).array[::STEP, ::STEP, ::STEP]
    low, high = np.percentile(values[np.isfinite(values)], (0.5, 99.5)) if np.isfinite(values).any() else (0.0, 0.0)
    return bool(high - low < LEAST_RANGE_HU or low > -LEAST_BELOW * abs(high))
