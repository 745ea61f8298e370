"""Headers of NRRD and MetaImage as programs write them, and what SimpleITK makes of such files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from volseg.errors import InputError
from volseg.grid import Grid
from volseg.volume import read_header, read_volume

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (2, 3, 4)
VOXELS = np.arange(24, dtype="<i2").reshape(SHAPE, order="F")
RAW = VOXELS.tobytes(order="F")

ITK = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 0 1 0 -1 0 0 0 0 1
Offset = -10.5 20.25 3e1
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 0.5 0.75 2.5
DimSize = 2 3 4
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
NRRD = """NRRD0004
# Complete NRRD file format specification at:
# http://teem.sourceforge.net/nrrd/format.html
type: short
dimension: 3
space: left-posterior-superior
sizes: 2 3 4
space directions: (0.5,0,0) (0,0.75,0) (0,0,2.5)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (-10.5,20.25,30)

"""


def by_simpleitk(path: Path) -> tuple[np.ndarray[Any, Any], Grid]:
    """Voxels (i, j, k) or (i, j, k, channel) and grid, by the format that the suffix names.

    Raises:
        RuntimeError: ITK refuses the file.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if path.suffix in (".nrrd", ".nhdr") else "MetaImageIO")
    reader.SetFileName(str(path))
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    voxels = array.T if array.ndim == 3 else np.moveaxis(array, -1, 0).T
    i, j, k = image.GetSize()
    return voxels, Grid.from_lps((i, j, k), image.GetOrigin(), image.GetDirection(), image.GetSpacing())


def refused_as(path: Path, content: bytes) -> set[str]:
    """The codes that a file with this content is refused with, its header and its voxels."""
    path.write_bytes(content)
    codes = set()
    for read in (read_header, read_volume):
        with pytest.raises(InputError) as caught:
            read(path)
        codes.add(caught.value.code)
    return codes
