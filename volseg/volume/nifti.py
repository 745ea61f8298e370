"""NIfTI on disk: headers through nibabel, gzip through isal."""

from __future__ import annotations

import io
import math
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from isal.igzip_lib import IsalError

from volseg.atomic import atomic_path
from volseg.errors import FileError, GeometryError, InputError
from volseg.files import open_plain
from volseg.grid import Grid
from volseg.volume.bounds import MAX_DEFLATE_RATIO, damaged, require_bounded
from volseg.volume.model import ImageHeader, Volume, storable
from volseg.volume.qform import axes_to_reverse, reversed_along

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nibabel.nifti1 import Nifti1Header
    from numpy.typing import NDArray

GZIP_LEVEL = 2
"""Of isal's 0 to 3."""
GZIP_THREADS = 2
"""Fixed, since the bytes of a file must not depend on the machine."""

SQUARE_TOLERANCE = 1e-6
"""Of the cosine between two axes of a grid that are square to each other; rounding leaves 1e-16."""

_READ_ERRORS = (OSError, EOFError, zlib.error, cast("type[Exception]", IsalError))

_MM_OF_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
"""Metres, millimetres, micrometres (NIfTI-1, UNITS OF SPATIAL AND TEMPORAL DIMENSIONS)."""

_GEOMETRY_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


def read_nifti_header(path: Path) -> ImageHeader:
    """Read an image's grid, channels and stored type.

    Raises:
        FileError, InputError, GeometryError: as ``volseg.volume.read_header``.
    """
    with _opened(path) as file:
        header = _nifti_header(path, file)
        shape, channels = _layout(path, header)
        grid = _nifti_grid(path, header, shape)
        return ImageHeader(grid, channels, header.get_data_dtype(), _forms_apart_mm(header, grid), _oddity(header))


def read_nifti(path: Path) -> Volume:
    """Read an image.

    Raises:
        FileError, InputError, GeometryError: as ``volseg.volume.read_volume``.
    """
    with _opened(path) as file:
        header = _nifti_header(path, file)
        shape, channels = _layout(path, header)
        grid = _nifti_grid(path, header, shape)
        position = 540 if int(header["sizeof_hdr"]) == 540 else 348
        offset = float(header["vox_offset"])
        if not position <= offset <= path.stat().st_size * MAX_DEFLATE_RATIO:
            raise damaged(path, "has a header that makes no sense")
        file.seek(int(offset))
        dtype = header.get_data_dtype()
        if dtype.kind not in "biuf":
            raise InputError(
                f"{path} stores colours or complex numbers. Convert it to one number in each voxel.",
                code="not-scalar",
                path=path,
            )
        count = int(np.prod(shape, dtype=np.int64)) * channels
        raw = file.read(count * dtype.itemsize)
    if len(raw) < count * dtype.itemsize:
        raise damaged(path, "ends before its last voxel")
    full = shape if channels == 1 else (*shape, channels)
    array = np.frombuffer(raw, dtype=dtype).reshape(full, order="F")
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    return Volume(_scaled(path, header, array), grid)


def for_nifti(volume: Volume) -> Volume:
    """The volume as NIfTI holds it: itself, or a view with two voxel axes reversed; see ``axes_to_reverse``."""
    axes = axes_to_reverse(volume.grid)
    return Volume(np.flip(volume.array, axes), reversed_along(volume.grid, axes)) if axes else volume


def write_nifti(path: Path, array: NDArray[np.generic], grid: Grid, *, slope: float = 1.0) -> None:
    """Write voxels on a grid, as ``for_nifti`` gives them: sform and qform both set, equal, code 1.

    Readers multiply the numbers by ``slope``.

    Raises:
        GeometryError: the grid is sheared, which a qform can't hold.
        FileError: the file can't be written.
    """
    held = for_nifti(Volume(storable(array), grid))
    header = _new_header(held.array, slope)
    _set_grid(header, held.grid)
    _write(path, header, held.array)


def write_nifti_like(path: Path, array: NDArray[np.generic], source: Path, *, slope: float = 1.0) -> None:
    """Write voxels with the header geometry of another NIfTI file, byte for byte.

    Readers multiply the numbers by ``slope``.

    Raises:
        FileError: a file can't be read or written.
    """
    header = _new_header(array, slope)
    with _opened(source) as file:
        geometry = _nifti_header(source, file)
    for name in _GEOMETRY_FIELDS:
        header[name] = geometry[name]
    header["pixdim"][:4] = geometry["pixdim"][:4]
    header["xyzt_units"] = int(geometry["xyzt_units"]) & 0x07  # the unit of space; a mask has no time
    _write(path, header, array)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read, unpacked; what goes wrong with it is told in its words.

    Raises:
        FileError: it is absent, no plain file, or can't be opened.
        InputError: it is cut short.
    """
    try:
        with open_plain(path) as plain:
            if not path.name.lower().endswith(".gz"):
                yield plain
                return
            from isal import igzip

            with igzip.open(plain, "rb") as file:
                yield cast("BinaryIO", file)
    except (FileError, InputError):
        raise
    except _READ_ERRORS as error:
        raise damaged(path, "is cut short or is not what its name says") from error


def _nifti_header(path: Path, file: BinaryIO) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    raw = file.read(348)
    if len(raw) < 348:
        raise damaged(path, "ends inside its header")
    kind = Nifti1Header
    if raw[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"):  # sizeof_hdr 540
        kind, raw = Nifti2Header, raw + file.read(192)
    try:
        header = kind.from_fileobj(io.BytesIO(raw), check=False)
        if int(header["sizeof_hdr"]) not in (348, 540) or not bytes(header["magic"]).startswith((b"n+1", b"n+2")):
            raise damaged(path, "is not a NIfTI file")
        shape = header.get_data_shape()
        header.get_data_dtype()
    except (HeaderDataError, KeyError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, "has a header that makes no sense") from error
    if not 2 <= len(shape) <= 5 or any(n < 1 for n in shape):
        raise damaged(path, f"declares the shape {tuple(shape)}, which is no volume")
    return header


def _layout(path: Path, header: Nifti1Header) -> tuple[tuple[int, int, int], int]:
    """The spatial shape and the count of channels."""
    shape = (*(int(n) for n in header.get_data_shape()), 1, 1, 1)
    spatial = (shape[0], shape[1], shape[2])
    channels = math.prod(shape[3:])
    can_hold = path.stat().st_size * (MAX_DEFLATE_RATIO if path.name.lower().endswith(".gz") else 1)
    require_bounded(path, spatial, channels, header.get_data_dtype().itemsize, can_hold)
    return spatial, channels


def _nifti_grid(path: Path, header: Nifti1Header, shape: tuple[int, int, int]) -> Grid:
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        raise GeometryError(
            f"{path} has neither an sform nor a qform, so nobody can tell its left from its right. "
            "Convert it again from its source, or set the orientation in a viewer and save it.",
            code="no-orientation",
            path=path,
        )
    from nibabel.spatialimages import HeaderDataError

    try:
        affine = header.get_best_affine()
    except (ValueError, HeaderDataError) as error:  # a quaternion longer than 1, a negative voxel size
        raise damaged(path, "has a qform that makes no sense") from error
    try:
        return Grid(shape, _in_mm(header, affine))
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code, path=path) from error


def _in_mm(header: Nifti1Header, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine of the header in mm: the bits 0 to 2 of xyzt_units name the unit, and 0, unknown, is taken as mm."""
    scale = _MM_OF_UNIT.get(int(header["xyzt_units"]) & 0x07, 1.0)
    return np.diag((scale, scale, scale, 1.0)) @ affine


def _oddity(header: Nifti1Header) -> str:
    """What nibabel hands on as it stands in the file, and MONAI takes for millimetres and for space."""
    if _MM_OF_UNIT.get(int(header["xyzt_units"]) & 0x07, 1.0) != 1.0:
        return "its lengths are not in millimetres"
    axes = len(header.get_data_shape())
    return f"it has {axes} axes" if axes not in (3, 4) else ""


def _forms_apart_mm(header: Nifti1Header, grid: Grid) -> float:
    if not int(header["sform_code"]) or not int(header["qform_code"]):
        return 0.0
    from nibabel.spatialimages import HeaderDataError

    try:
        other = Grid(grid.shape, _in_mm(header, header.get_qform()))
    except (ValueError, HeaderDataError):
        return float("inf")
    return float(np.linalg.norm(grid.corners_mm - other.corners_mm, axis=1).max())


def _scaled(path: Path, header: Nifti1Header, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The voxels by the header's slope and intercept, computed as float64 a slice at a time."""
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise damaged(path, "has a scale factor that makes no sense") from error
    if slope is None or (slope, inter or 0.0) == (1.0, 0.0):
        return array
    scaled = np.empty(array.shape, np.float64 if array.dtype.itemsize >= 8 else np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, which check tells
        for last in range(array.shape[-1]):
            scaled[..., last] = array[..., last].astype(np.float64) * slope + (inter or 0.0)
    return scaled


def _new_header(array: NDArray[np.generic], slope: float) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = slope, 0.0
    header.set_xyzt_units("mm")
    return header


def _set_grid(header: Nifti1Header, grid: Grid) -> None:
    header.set_qform(grid.affine, code=1, strip_shears=True)
    stored = Grid(grid.shape, header.get_qform())
    apart = stored.difference(grid)
    if apart is not None:
        if np.abs(grid.direction.T @ grid.direction - np.eye(3)).max() > SQUARE_TOLERANCE:
            raise GeometryError(
                f"The axes of the grid are not square to each other, which NIfTI's qform can't hold ({apart}). "
                "Resample it first."
            )
        raise GeometryError(f"The grid is too large or too far away for the 32-bit numbers of NIfTI ({apart}).")
    header.set_sform(stored.affine, code=1)


def _write(path: Path, header: Nifti1Header, array: NDArray[np.generic]) -> None:
    buffer = io.BytesIO()
    header.write_to(buffer)
    body = np.ascontiguousarray(array.T)  # NIfTI runs i fastest; a transposed C array is written without a copy
    if not body.dtype.isnative:
        body = body.astype(body.dtype.newbyteorder("="))
    with atomic_path(path) as partial:
        if path.name.lower().endswith(".gz"):
            from isal import igzip_threaded

            with igzip_threaded.open(partial, "wb", compresslevel=GZIP_LEVEL, threads=GZIP_THREADS) as file:
                file.write(buffer.getvalue())
                file.write(body.data.cast("B"))
        else:
            with partial.open("wb") as plain:
                plain.write(buffer.getvalue())
                plain.write(body.data.cast("B"))
