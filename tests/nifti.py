"""NIfTI through nibabel alone, for images to predict on and masks to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def save(path: Path, values: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    nibabel.save(image, path)
    return path


def voxels(path: Path) -> NDArray[Any]:
    return np.asarray(nibabel.load(path).dataobj)
