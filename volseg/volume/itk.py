"""NRRD and MetaImage on disk, through SimpleITK."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from volseg.errors import FileError, GeometryError, InputError
from volseg.grid import Grid
from volseg.volume.bounds import MAX_DEFLATE_RATIO, damaged, require_bounded
from volseg.volume.model import ImageHeader, Volume

if TYPE_CHECKING:
    from pathlib import Path

MAX_HEADER_BYTES = 2**16
"""A header of either format is some hundred bytes of text before the voxels."""
_DATA_FILE = re.compile(rb"^[ \t]*(?:ElementDataFile[ \t]*=|data ?file:)(?P<name>[^\n]*)", re.MULTILINE | re.IGNORECASE)
_ITK_TYPES = {
    "8-bit unsigned": "u1", "8-bit signed": "i1", "16-bit unsigned": "u2", "16-bit signed": "i2",
    "32-bit unsigned": "u4", "32-bit signed": "i4", "64-bit unsigned": "u8", "64-bit signed": "i8",
    "32-bit": "f4", "64-bit": "f8",
}  # fmt: skip


def read_itk_header(path: Path) -> ImageHeader:
    """Read an image's grid, channels and stored type.

    Raises:
        FileError, InputError, GeometryError: as ``volseg.volume.read_header``.
    """
    import SimpleITK as sitk

    can_hold = itk_data_file(path).stat().st_size * MAX_DEFLATE_RATIO
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise damaged(path, "can't be read as an image") from error
    if reader.GetDimension() != 3:
        raise InputError(
            f"{path} has {reader.GetDimension()} dimensions; volseg reads volumes.", code="not-a-volume", path=path
        )
    try:
        name = sitk.GetPixelIDValueAsString(reader.GetPixelID()).rsplit(" ", 1)[0]
        dtype = np.dtype(_ITK_TYPES[name.replace("vector of ", "")])
    except KeyError as error:
        raise InputError(
            f"{path} stores a kind of voxel that volseg doesn't read.", code="bad-input", path=path
        ) from error
    size = tuple(int(n) for n in reader.GetSize())
    require_bounded(path, size, reader.GetNumberOfComponents(), dtype.itemsize, can_hold)
    # ITK turns every anatomical space into LPS, and takes any other, or none, for LPS as it is.
    if path.name.lower().endswith(".nrrd") and (
        not reader.HasMetaDataKey("NRRD_space") or reader.GetMetaData("NRRD_space") != "left-posterior-superior"
    ):
        raise GeometryError(
            f"{path} does not say which way its axes point in the patient. Convert it again from its source.",
            code="no-orientation",
            path=path,
        )
    try:
        grid = Grid.from_lps(
            (size[0], size[1], size[2]), reader.GetOrigin(), reader.GetDirection(), reader.GetSpacing()
        )
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code, path=path) from error
    return ImageHeader(grid, reader.GetNumberOfComponents(), dtype)


def itk_data_file(path: Path) -> Path:
    """The file that holds the voxels: the image itself, or the one that its header names.

    NRRD and MetaImage may name another file for them. One beside the header is followed; any other place, a list or a
    pattern of files is not, since a stranger's header could name any file of this machine.

    Raises:
        InputError: the header names such a place.
        FileError: a file is not there.
    """
    if not path.is_file():
        raise FileError(f"{path} does not exist.", code="missing-file", path=path)
    with path.open("rb") as file:
        text = file.read(MAX_HEADER_BYTES).replace(b"\r", b"")
    found = _DATA_FILE.search(text.split(b"\n\n", 1)[0] if path.suffix.lower() == ".nrrd" else text)
    name = found["name"].strip().decode("utf-8", "replace") if found else "LOCAL"
    if name == "LOCAL":
        return path
    data = path.parent / name
    if data.name != name or data.is_symlink() or name.startswith("LIST") or "%" in name:
        raise InputError(
            f"{path} names voxels outside of its folder or in several files, which volseg doesn't follow. "
            "Save it as one file, such as .nii.gz.",
            code="detached-data",
            path=path,
        )
    if not data.is_file():
        raise FileError(
            f"{data}, which holds the voxels of {path.name}, does not exist.", code="missing-file", path=data
        )
    return data


def read_itk(path: Path) -> Volume:
    """Read an image.

    Raises:
        FileError, InputError, GeometryError: as ``volseg.volume.read_volume``.
    """
    import SimpleITK as sitk

    header = read_itk_header(path)
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise damaged(path, "can't be read as an image") from error
    voxels = array.T if header.channels == 1 else np.moveaxis(array, -1, 0).T
    return Volume(voxels, header.grid)
