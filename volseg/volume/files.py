"""Reading and writing images and masks of any format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.volume.metaimage import read_metaimage
from volseg.volume.model import ImageHeader, Volume
from volseg.volume.naming import NRRD_SUFFIXES, is_nifti
from volseg.volume.nifti import read_nifti, read_nifti_header, write_nifti, write_nifti_like
from volseg.volume.nrrd import read_nrrd
from volseg.volume.segmentation import is_segmentation, overlapping

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.volume.raw import Stored

WHOLE_NUMBER_TOLERANCE = 1e-3
"""Labels stored as floats or through a scale factor come back as 0.99999994. What is this near to a whole number is
that number, for every reader: ``as_mask`` here, and the rounding that the configs of bundles begin with."""


def read_header(path: Path) -> ImageHeader:
    """Read an image's grid, channels and stored type, not its voxels.

    Raises:
        FileError: the file is absent or can't be opened.
        InputError: the file is damaged, or declares more than it can hold.
        GeometryError: the voxels have no certain place in the patient.
    """
    return read_nifti_header(path) if is_nifti(path) else _stored(path).header


def _stored(path: Path) -> Stored:
    return read_nrrd(path) if path.name.lower().endswith(NRRD_SUFFIXES) else read_metaimage(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that make an image: itself, and the one beside it that a NRRD or MetaImage header names.

    Raises:
        FileError: a file is absent.
        InputError: the header names voxels elsewhere.
    """
    return (path,) if is_nifti(path) else _stored(path).files


def read_volume(path: Path) -> Volume:
    """Read an image: NIfTI through nibabel's header, NRRD and MetaImage by their own grammars.

    Voxels keep their stored type unless the file scales them, which gives float32 (float64 for 64-bit types).
    Several channels lie on a fourth axis.

    Raises:
        FileError: the file is absent or can't be opened.
        InputError: the file is damaged, or declares more than it can hold.
        GeometryError: the voxels have no certain place in the patient.
    """
    return read_nifti(path) if is_nifti(path) else _stored(path).read()


def read_mask(path: Path) -> Volume:
    """Read a mask as whole numbers: uint8, or uint16 when a label is above 255.

    Raises:
        FileError: the file is absent or can't be opened.
        InputError: the file is damaged, has several channels, or a voxel is not a whole number from 0 to 65535.
        GeometryError: the voxels have no certain place in the patient.
    """
    return as_mask(read_volume(path), path)


def as_mask(volume: Volume, path: Path) -> Volume:
    """What was read from a file as whole numbers: uint8, or uint16 when a label is above 255.

    Args:
        volume: voxels (i, j, k) of any type, no further from whole numbers than ``WHOLE_NUMBER_TOLERANCE``.
        path: where it was read from, for messages.

    Raises:
        InputError: there are several channels, or a voxel is not a whole number from 0 to 65535.
    """
    if volume.array.ndim != 3 and is_segmentation(path):
        raise overlapping(path)
    if volume.array.ndim != 3:
        raise InputError(f"{path} has several channels, and a mask has one.", code="mask-channels", path=path)
    values = volume.array
    if values.dtype == np.uint8:
        return volume
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InputError(
                f"{path} has voxels that are not numbers, and a mask has labels.", code="mask-values", path=path
            )
        rounded = np.rint(values)
        if float(np.abs(values - rounded).max(initial=0.0)) > WHOLE_NUMBER_TOLERANCE:
            raise InputError(
                f"{path} has voxels between whole numbers, so it was interpolated or is no mask. "
                "Resample masks with the nearest neighbour.",
                code="mask-values",
                path=path,
            )
        values = rounded
    elif values.dtype.kind not in "iub":
        raise InputError(f"{path} stores {values.dtype}, and a mask has whole numbers.", code="mask-values", path=path)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise InputError(
            f"{path} has labels from {low} to {high}; a mask has 0 to 65535.", code="mask-values", path=path
        )
    return Volume(values.astype(np.uint8 if high <= 255 else np.uint16), volume.grid)


def write_image(path: Path, volume: Volume) -> None:
    """Write an image as NIfTI: sform and qform both set, equal, code 1, no free text, no time stamp.

    Two voxel axes of an oblique grid are reversed where NIfTI holds it in no other way, as ``for_nifti`` does; no voxel
    changes its value or place.

    Raises:
        GeometryError: the grid is sheared, which a qform can't hold.
        FileError: the file can't be written.
    """
    write_nifti(path, volume.array, volume.grid)


def write_mask(path: Path, mask: NDArray[np.generic], image_path: Path, *, slope: float = 1.0) -> None:
    """Write a mask (i, j, k) with the header geometry of its image byte for byte.

    ITK-SNAP compares spacing and origin exactly and ignores a mask's header when they differ, so nothing is computed
    anew where the image is NIfTI. On the grid of another format it is written as ``write_image`` would write the image.

    Args:
        path: where to; ``.nii.gz``.
        mask: uint8 or uint16.
        image_path: the image that the mask belongs to.
        slope: what readers multiply the numbers by; of a mask 1.

    Raises:
        GeometryError: the mask's shape is not its image's.
        FileError: a file can't be read or written.
    """
    described = read_header(image_path)
    if mask.shape != described.grid.shape:
        raise GeometryError(f"The mask's shape {mask.shape} is not its image's, {described.grid.shape}.")
    if is_nifti(image_path):
        write_nifti_like(path, mask, image_path, slope=slope)
    else:
        write_nifti(path, mask, described.grid, slope=slope)
