"""A small volume on an oblique grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from volseg import Grid, Volume

OBLIQUE = np.array([[1.2, -0.5, 0.1, -30], [0.4, 1.4, -0.2, 12], [-0.2, 0.3, 2.5, 7], [0, 0, 0, 1]])


def make_volume(shape: tuple[int, ...] = (5, 6, 7), dtype: str = "int16") -> Volume:
    values = np.random.default_rng(3).integers(0, 100, shape).astype(dtype)
    return Volume(values, Grid(shape[:3], _orthogonal()))  # type: ignore[arg-type]


def _orthogonal() -> Any:
    left, _, right = np.linalg.svd(OBLIQUE[:3, :3])
    affine = OBLIQUE.copy()
    affine[:3, :3] = left @ right * (0.9, 1.3, 2.5)
    return affine
