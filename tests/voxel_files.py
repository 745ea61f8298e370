"""Affines and voxels that are hard to write, and what ITK makes of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (5, 6, 7)


def rotated(seed: int, spacing_mm: tuple[float, float, float] = (0.7123456789, 0.8, 2.5000001)) -> np.ndarray:
    """A rotated affine whose numbers float32 can't hold exactly, so that bits can differ."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = (q * np.sign(np.diag(r))) * spacing_mm
    affine[:3, 3] = np.random.default_rng(seed + 1).uniform(-300, 300, 3)
    return affine


def voxels(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    kind = np.dtype(dtype)
    random = np.random.default_rng(9)
    if kind.kind == "f":
        return random.normal(0, 1000, shape).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    array = random.integers(low, high, shape, dtype=kind, endpoint=True)
    array.flat[0], array.flat[1] = low, high
    return array


def geometry(image: Any) -> tuple[tuple[float, ...], ...]:
    """What ITK makes of a file, to the last bit."""
    return tuple(
        tuple(value.hex() for value in values)
        for values in (image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    )


def by_simpleitk(path: Path) -> Any:
    import SimpleITK as sitk

    return sitk.ReadImage(str(path))
