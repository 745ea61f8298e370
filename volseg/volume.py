"""A volume: voxels and the grid they lie on; reading and writing images and masks."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from isal.igzip_lib import IsalError

from volseg.atomic import atomic_path
from volseg.errors import FileError, GeometryError, InputError
from volseg.grid import Grid

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header
    from numpy.typing import NDArray

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
IMAGE_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES

MAX_VOXELS = 2**33
"""A volume of 2048 cubed: above any scanner's, and a bound for headers that lie."""
MAX_DEFLATE_RATIO = 1032
"""Deflate can't grow by more than this (RFC 1951: 258 bytes from 2 bits)."""
GZIP_LEVEL = 2
"""Of isal's 0 to 3."""
GZIP_THREADS = 2
"""Fixed, since the bytes of a file must not depend on the machine."""
WHOLE_NUMBER_TOLERANCE = 1e-3
"""Labels stored as floats through a scale factor come back as 0.9999999."""

_READ_ERRORS = (OSError, EOFError, zlib.error, cast("type[Exception]", IsalError))

_MM_OF_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
"""Metres, millimetres, micrometres (NIfTI-1, UNITS OF SPATIAL AND TEMPORAL DIMENSIONS)."""

_GEOMETRY_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid.

    Args:
        array: (i, j, k), or (i, j, k, channel).
        grid: where the voxels lie.
    """

    array: NDArray[np.generic]
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.array.shape[:3]) != self.grid.shape:
            raise GeometryError(f"The voxels {self.array.shape} don't fit the grid {self.grid.shape}.")


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What a file says about its voxels before they are read.

    Args:
        grid: where the voxels lie; in NIfTI by the sform, or by the qform without one, as nibabel has it.
        channels: how many values each voxel has.
        dtype: the stored type.
        forms_apart_mm: how far apart NIfTI's sform and qform place a corner voxel, where both are set. ITK and
            ITK-SNAP go by the qform unless the sform has code 1, so above rounding nobody is certain.
    """

    grid: Grid
    channels: int
    dtype: np.dtype[np.generic]
    forms_apart_mm: float = 0.0


def stem_of(path: Path) -> str:
    """The file's name without its image suffix: ``case_1`` for ``case_1.nii.gz``."""
    for suffix in IMAGE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_image(path: Path) -> bool:
    """Whether the name is that of an image volseg reads; hidden and unfinished files are not."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name; empty when the folder is absent."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def _open(path: Path) -> BinaryIO:
    if path.name.lower().endswith(".gz"):
        from isal import igzip

        return cast("BinaryIO", igzip.open(path, "rb"))
    return path.open("rb")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}. Export or copy the file again.", code="damaged-file")


def _nifti_header(path: Path, file: BinaryIO) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    raw = file.read(348)
    if len(raw) < 348:
        raise _damaged(path, "ends inside its header")
    kind = Nifti1Header
    if raw[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"):  # sizeof_hdr 540
        kind, raw = Nifti2Header, raw + file.read(192)
    try:
        header = kind.from_fileobj(io.BytesIO(raw), check=False)
        if int(header["sizeof_hdr"]) not in (348, 540) or not bytes(header["magic"]).startswith((b"n+1", b"n+2")):
            raise _damaged(path, "is not a NIfTI file")
        shape = header.get_data_shape()
        header.get_data_dtype()
    except (HeaderDataError, KeyError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path, "has a header that makes no sense") from error
    if not 2 <= len(shape) <= 5 or any(n < 1 for n in shape):
        raise _damaged(path, f"declares the shape {tuple(shape)}, which is no volume")
    return header


def _layout(path: Path, header: Nifti1Header) -> tuple[tuple[int, int, int], int]:
    """The spatial shape and the count of channels."""
    shape = (*(int(n) for n in header.get_data_shape()), 1, 1, 1)
    spatial = (shape[0], shape[1], shape[2])
    channels = math.prod(shape[3:])
    voxels = math.prod(spatial) * channels
    size = path.stat().st_size
    can_hold = size * (MAX_DEFLATE_RATIO if path.name.lower().endswith(".gz") else 1)
    if voxels > MAX_VOXELS or voxels * header.get_data_dtype().itemsize > can_hold:
        raise _damaged(path, f"declares {spatial} voxels, more than the file can hold")
    return spatial, channels


def _nifti_grid(path: Path, header: Nifti1Header, shape: tuple[int, int, int]) -> Grid:
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        raise GeometryError(
            f"{path} has neither an sform nor a qform, so nobody can tell its left from its right. "
            "Convert it again from its source, or set the orientation in a viewer and save it.",
            code="no-orientation",
        )
    from nibabel.spatialimages import HeaderDataError

    try:
        affine = header.get_best_affine()
    except (ValueError, HeaderDataError) as error:  # a quaternion longer than 1, a negative voxel size
        raise _damaged(path, "has a qform that makes no sense") from error
    try:
        return Grid(shape, _in_mm(header, affine))
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code) from error


def _in_mm(header: Nifti1Header, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine of the header in mm: the bits 0 to 2 of xyzt_units name the unit, and 0, unknown, is taken as mm."""
    scale = _MM_OF_UNIT.get(int(header["xyzt_units"]) & 0x07, 1.0)
    return np.diag((scale, scale, scale, 1.0)) @ affine


def _forms_apart_mm(header: Nifti1Header, grid: Grid) -> float:
    if not int(header["sform_code"]) or not int(header["qform_code"]):
        return 0.0
    from nibabel.spatialimages import HeaderDataError

    try:
        other = Grid(grid.shape, _in_mm(header, header.get_qform()))
    except (ValueError, HeaderDataError):
        return float("inf")
    return float(np.linalg.norm(grid.corners_mm - other.corners_mm, axis=1).max())


def _reading(path: Path, error: Exception) -> FileError | InputError:
    if isinstance(error, FileNotFoundError):
        return FileError(f"{path} does not exist.", code="missing-file")
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return FileError(f"{path} can't be read: {error.strerror}.", code="cannot-read")
    return _damaged(path, "is cut short or is not what its name says")


def read_header(path: Path) -> ImageHeader:
    """Read an image's grid, channels and stored type, not its voxels.

    Raises:
        FileError: the file is absent or can't be opened.
        InputError: the file is damaged, or declares more than it can hold.
        GeometryError: the voxels have no certain place in the patient.
    """
    if not _is_nifti(path):
        return _itk_header(path)
    try:
        with _open(path) as file:
            header = _nifti_header(path, file)
            shape, channels = _layout(path, header)
            grid = _nifti_grid(path, header, shape)
            return ImageHeader(grid, channels, header.get_data_dtype(), _forms_apart_mm(header, grid))
    except (FileError, InputError):
        raise
    except _READ_ERRORS as error:
        raise _reading(path, error) from error


def read_volume(path: Path) -> Volume:
    """Read an image: NIfTI through nibabel's header, NRRD and MetaImage through SimpleITK.

    Voxels keep their stored type unless the file scales them, which gives float32 (float64 for 64-bit types).
    Several channels lie on a fourth axis.

    Raises:
        FileError: the file is absent or can't be opened.
        InputError: the file is damaged, or declares more than it can hold.
        GeometryError: the voxels have no certain place in the patient.
    """
    if not _is_nifti(path):
        return _read_itk(path)
    try:
        with _open(path) as file:
            header = _nifti_header(path, file)
            shape, channels = _layout(path, header)
            grid = _nifti_grid(path, header, shape)
            position = 540 if int(header["sizeof_hdr"]) == 540 else 348
            offset = float(header["vox_offset"])
            if not position <= offset <= path.stat().st_size * MAX_DEFLATE_RATIO:
                raise _damaged(path, "has a header that makes no sense")
            file.seek(int(offset))
            dtype = header.get_data_dtype()
            if dtype.kind not in "biuf":
                raise InputError(
                    f"{path} stores colours or complex numbers. Convert it to one number in each voxel.",
                    code="not-scalar",
                )
            count = int(np.prod(shape, dtype=np.int64)) * channels
            raw = file.read(count * dtype.itemsize)
    except (FileError, InputError):
        raise
    except _READ_ERRORS as error:
        raise _reading(path, error) from error
    if len(raw) < count * dtype.itemsize:
        raise _damaged(path, "ends before its last voxel")
    full = shape if channels == 1 else (*shape, channels)
    array = np.frombuffer(raw, dtype=dtype).reshape(full, order="F")
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    return Volume(_scaled(path, header, array), grid)


def _scaled(path: Path, header: Nifti1Header, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The voxels by the header's slope and intercept, computed as float64 a slice at a time."""
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise _damaged(path, "has a scale factor that makes no sense") from error
    if slope is None or (slope, inter or 0.0) == (1.0, 0.0):
        return array
    scaled = np.empty(array.shape, np.float64 if array.dtype.itemsize >= 8 else np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, which check tells
        for last in range(array.shape[-1]):
            scaled[..., last] = array[..., last].astype(np.float64) * slope + (inter or 0.0)
    return scaled


def read_mask(path: Path) -> Volume:
    """Read a mask as whole numbers: uint8, or uint16 when a label is above 255.

    Raises:
        FileError: the file is absent or can't be opened.
        InputError: the file is damaged, has several channels, or a voxel is not a whole number from 0 to 65535.
        GeometryError: the voxels have no certain place in the patient.
    """
    volume = read_volume(path)
    if volume.array.ndim != 3:
        raise InputError(f"{path} has several channels, and a mask has one.", code="mask-channels")
    values = volume.array
    if values.dtype == np.uint8:
        return volume
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InputError(f"{path} has voxels that are not numbers, and a mask has labels.", code="mask-values")
        rounded = np.rint(values)
        if float(np.abs(values - rounded).max(initial=0.0)) > WHOLE_NUMBER_TOLERANCE:
            raise InputError(
                f"{path} has voxels between whole numbers, so it was interpolated or is no mask. "
                "Resample masks with the nearest neighbour.",
                code="mask-values",
            )
        values = rounded
    elif values.dtype.kind not in "iub":
        raise InputError(f"{path} stores {values.dtype}, and a mask has whole numbers.", code="mask-values")
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise InputError(f"{path} has labels from {low} to {high}; a mask has 0 to 65535.", code="mask-values")
    return Volume(values.astype(np.uint8 if high <= 255 else np.uint16), volume.grid)


def write_image(path: Path, volume: Volume) -> None:
    """Write an image as NIfTI: sform and qform both set, equal, code 1, no free text, no time stamp.

    Raises:
        GeometryError: the grid is sheared, which a qform can't hold.
        FileError: the file can't be written.
    """
    header = _new_header(volume.array)
    _set_grid(header, volume.grid)
    _write_nifti(path, header, volume.array)


def write_mask(path: Path, mask: NDArray[np.generic], image_path: Path) -> None:
    """Write a mask (i, j, k) with the header geometry of its image byte for byte.

    ITK-SNAP compares spacing and origin exactly and ignores a mask's header when they differ, so nothing is computed
    anew where the image is NIfTI.

    Args:
        path: where to; ``.nii.gz``.
        mask: uint8 or uint16.
        image_path: the image that the mask belongs to.

    Raises:
        GeometryError: the mask's shape is not its image's.
        FileError: a file can't be read or written.
    """
    described = read_header(image_path)
    if mask.shape != described.grid.shape:
        raise GeometryError(f"The mask's shape {mask.shape} is not its image's, {described.grid.shape}.")
    header = _new_header(mask)
    if _is_nifti(image_path):
        with _open(image_path) as file:
            source = _nifti_header(image_path, file)
        for name in _GEOMETRY_FIELDS:
            header[name] = source[name]
        header["pixdim"][:4] = source["pixdim"][:4]
        header["xyzt_units"] = int(source["xyzt_units"]) & 0x07  # the unit of space; a mask has no time
    else:
        _set_grid(header, described.grid)
    _write_nifti(path, header, mask)


def _new_header(array: NDArray[np.generic]) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header.set_xyzt_units("mm")
    return header


def _set_grid(header: Nifti1Header, grid: Grid) -> None:
    header.set_qform(grid.affine, code=1, strip_shears=True)
    stored = Grid(grid.shape, header.get_qform())
    apart = stored.difference(grid)
    if apart is not None:
        raise GeometryError(f"The grid is sheared and NIfTI's qform can't hold it ({apart}); resample it first.")
    header.set_sform(stored.affine, code=1)


def _write_nifti(path: Path, header: Nifti1Header, array: NDArray[np.generic]) -> None:
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


def _itk_header(path: Path) -> ImageHeader:
    import SimpleITK as sitk

    if not path.is_file():
        raise FileError(f"{path} does not exist.", code="missing-file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, "can't be read as an image") from error
    if reader.GetDimension() != 3:
        raise InputError(f"{path} has {reader.GetDimension()} dimensions; volseg reads volumes.", code="not-a-volume")
    try:
        name = sitk.GetPixelIDValueAsString(reader.GetPixelID()).rsplit(" ", 1)[0]
        dtype = np.dtype(_ITK_TYPES[name.replace("vector of ", "")])
    except KeyError as error:
        raise InputError(f"{path} stores a kind of voxel that volseg doesn't read.", code="bad-input") from error
    size = tuple(int(n) for n in reader.GetSize())
    voxels = math.prod(size) * reader.GetNumberOfComponents()
    if voxels > MAX_VOXELS or voxels * dtype.itemsize > _itk_bytes(path) * MAX_DEFLATE_RATIO:
        raise _damaged(path, f"declares {size} voxels, more than the file can hold")
    # ITK turns every anatomical space into LPS, and takes any other, or none, for LPS as it is.
    if path.name.lower().endswith(".nrrd") and (
        not reader.HasMetaDataKey("NRRD_space") or reader.GetMetaData("NRRD_space") != "left-posterior-superior"
    ):
        raise GeometryError(
            f"{path} does not say which way its axes point in the patient. Convert it again from its source.",
            code="no-orientation",
        )
    try:
        grid = Grid.from_lps(
            (size[0], size[1], size[2]), reader.GetOrigin(), reader.GetDirection(), reader.GetSpacing()
        )
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code) from error
    return ImageHeader(grid, reader.GetNumberOfComponents(), dtype)


def _itk_bytes(path: Path) -> int:
    """The size of what may hold the voxels; an ``.mhd`` has them in another file, which has to lie beside it."""
    if not path.name.lower().endswith(".mhd"):
        return path.stat().st_size
    return max(other.stat().st_size for other in path.parent.iterdir() if other.is_file())


_ITK_TYPES = {
    "8-bit unsigned": "u1", "8-bit signed": "i1", "16-bit unsigned": "u2", "16-bit signed": "i2",
    "32-bit unsigned": "u4", "32-bit signed": "i4", "64-bit unsigned": "u8", "64-bit signed": "i8",
    "32-bit": "f4", "64-bit": "f8",
}  # fmt: skip


def _read_itk(path: Path) -> Volume:
    import SimpleITK as sitk

    header = _itk_header(path)
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise _damaged(path, "can't be read as an image") from error
    voxels = array.T if header.channels == 1 else np.moveaxis(array, -1, 0).T
    return Volume(voxels, header.grid)
