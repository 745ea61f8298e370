"""Masks to compare: boxes, of which one side's lie a little beside the other's."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
LABELS = '    1   255    0    0        1  1  1    "liver"\n    2     0  255    0        1  1  1    "spleen"\n'


def box(start: int, label: int = 1) -> np.ndarray:
    mask = np.zeros((16, 12, 10), np.uint8)
    mask[start : start + 5, 2:8, 2:8] = label
    return mask


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def two_sides(folder: Path) -> tuple[Path, Path]:
    """Case a is right, b is off by a voxel, c misses label 2."""
    predicted, reference = folder / "predicted", folder / "reference"
    for name, start, also in (("a", 3, 2), ("b", 4, 2), ("c", 3, 0)):
        save(predicted / f"{name}.nii.gz", box(start) + box(10, also))
        save(reference / f"{name}.nii.gz", box(3) + box(10, 2))
    (reference / "labels.txt").write_text(LABELS)
    return predicted, reference
