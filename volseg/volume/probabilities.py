"""Probabilities as NIfTI, which has no 16-bit floats: whole numbers of 16 bits with a scale factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.volume.files import write_mask

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

PROBABILITY_ONE = 2**15
"""The stored number that stands for 1. As a power of two it makes a scale factor that floats hold exactly, so that 0, 1/2 and 1
come back as they are in every reader; 65535 would not."""


def write_probabilities(path: Path, stored: NDArray[np.uint16], image_path: Path) -> None:
    """Write probabilities with the header geometry of their image byte for byte; readers give them as values from 0 to 1.

    Args:
        path: where to; ``.nii.gz``.
        stored: (i, j, k), of which ``PROBABILITY_ONE`` stands for 1.
        image_path: the image on whose grid they lie.

    Raises:
        GeometryError: their shape is not the image's.
        FileError: a file can't be read or written.
    """
    write_mask(path, stored, image_path, slope=1 / PROBABILITY_ONE)
