"""A mask of pieces of known sizes, and the sizes of what is left of it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def pieces() -> np.ndarray:
    """Label 1: pieces of 98, 4 and 1 voxels; label 2: of 3 and 2."""
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[1:6, 1:6, 1:6] = 1
    mask[2:5, 2:5, 2:5] = 0
    mask[8:12, 0, 0] = 1
    mask[11, 11, 11] = 1
    mask[8:11, 8, 8] = 2
    mask[8:10, 5, 5] = 2
    return mask


def sizes(mask: np.ndarray, label: int) -> list[int]:
    numbers, _ = ndimage.label(mask == label, np.ones((3, 3, 3)))
    return sorted(np.bincount(numbers.ravel())[1:].tolist())
