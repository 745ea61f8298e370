"""Masks that have something to clean."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

AFFINE = np.array([[0.0, 0.8, 0.1, -20], [-0.79, 0, 0.12, 31], [0.05, -0.1, 2.4, 5], [0, 0, 0, 1]])


def crumbs() -> np.ndarray:
    """Label 1: 27 voxels and a crumb; label 2: a hollow cube of 26 voxels and a crumb of 2."""
    mask = np.zeros((14, 12, 10), np.uint8)
    mask[1:4, 1:4, 1:4] = 1
    mask[12, 10, 8] = 1
    mask[6:9, 6:9, 6:9] = 2
    mask[7, 7, 7] = 0
    mask[11:13, 2, 2] = 2
    return mask


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 1)
    image.header["descrip"] = b"drawn by somebody"
    nibabel.save(image, path)
    return path


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def three_masks(folder: Path) -> Path:
    for name in ("a", "b", "c"):
        save(folder / f"{name}.nii.gz", crumbs())
    (folder / "labels.txt").write_text('    1   255    0    0        1  1  1    "liver"\n')
    return folder
