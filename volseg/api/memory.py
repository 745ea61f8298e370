"""Volumes and masks in memory: read, resampled, written."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, get_args

from volseg.api.calling import path_of, spacings_of
from volseg.api.reporting import listener
from volseg.errors import GeometryError, OutputExistsError, UsageError
from volseg.options import Many, StrPath
from volseg.volume import Mask, Volume, is_nifti

if TYPE_CHECKING:
    from volseg.grid import Grid
    from volseg.progress import Progress
    from volseg.resampling import Interpolation

AnyVolume = TypeVar("AnyVolume", Volume, Mask)
MASK_TURNED = (
    "NIfTI holds this oblique grid with two voxel axes reversed alone, so the mask is turned against its image. Viewers "
    "that go by voxels, such as ITK-SNAP, want the image written as NIfTI too."
)
log = logging.getLogger("volseg")


def read(
    path: StrPath, *, series: int | str | None = None, suv: bool = False, progress: Progress | bool = True
) -> Volume:
    """Read an image, or one DICOM series.

    Args:
        path: NIfTI, NRRD or MetaImage; or a folder or archive of DICOM.
        series: of DICOM, the number or name of the series as ``volseg convert --dry-run`` shows it, where there are
            several.
        suv: whether PET becomes uptake by body weight, in g/ml.
        progress: who is told of each DICOM file, and what ``convert`` would warn of.

    Raises:
        UsageError: the path is absent, or several series are there and none is named.
        InputError: the file is damaged, or the series is no certain volume.
        GeometryError: the voxels have no certain place in the patient.
        FileError: a file can't be read.
    """
    from volseg.volume import is_image, read_volume

    place = path_of(path, "path")
    if not place.exists():
        raise UsageError(f"{place} does not exist.", code="missing-file")
    if place.is_file() and is_image(place):
        if series is not None:
            raise UsageError(f"{place} is an image, and only DICOM has series.")
        return read_volume(place)
    from volseg.dicom import read_series
    from volseg.verbs.convert.sentences import warnings_of

    told = listener(progress)
    loaded = read_series(place, None if series is None else str(series), suv=suv, progress=told)
    for sentence in warnings_of(loaded.changes, loaded.notes):
        told.say(f"warning: {sentence}")
    return loaded.volume


def read_mask(path: StrPath) -> Mask:
    """Read a mask, with the names of its labels where ``labels.txt`` or ``dataset.json`` beside it tells them.

    Raises:
        UsageError: it is a folder.
        FileError: the file is absent or can't be opened.
        InputError: the file is damaged, or no mask.
        GeometryError: the voxels have no certain place in the patient.
    """
    from volseg.dataset.beside import labels_beside
    from volseg.labels import LabelTable
    from volseg.volume import read_mask as read_voxels

    place = path_of(path, "path")
    if place.is_dir():
        raise UsageError(f"{place} is a folder. Name one mask in it.")
    voxels = read_voxels(place)
    return Mask(voxels.array, voxels.grid, labels_beside(place) or LabelTable(()))


def write(volume: Volume, path: StrPath, *, image: StrPath | None = None, overwrite: bool = False) -> None:
    """Write a volume or mask as NIfTI, and the names of a mask's labels to ``labels.txt`` beside it, for ITK-SNAP.

    Where NIfTI doesn't hold an oblique grid in its voxel order, two axes are reversed in the file; every voxel keeps its
    value and its place in the patient, and so does a mask that is written for that file.

    Args:
        volume: what to write.
        path: ``.nii.gz`` or ``.nii``.
        image: of a mask, the image file that it belongs to. The mask then carries its header geometry byte for byte,
            as ITK-SNAP wants it, and is brought to its voxel order where that is another one of the same voxels.
        overwrite: replace files that are there.

    Raises:
        UsageError: the name is not that of a NIfTI file.
        OutputExistsError: the file is there, or a ``labels.txt`` with other labels.
        GeometryError: the grid is sheared, which NIfTI can't hold, or not the image's.
        FileError: the file can't be written.
    """
    from volseg.labels import LABELS_NAME, LabelTable
    from volseg.resampling import turned_onto
    from volseg.volume import axes_to_reverse, read_header, write_image, write_mask

    if not isinstance(volume, Volume):
        raise UsageError(f"volume takes a Volume or a Mask, not {type(volume).__name__}.")
    place = path_of(path, "path")
    if not is_nifti(place):
        raise UsageError(f"{place} is not the name of a NIfTI file. End it in .nii.gz.")
    if place.exists() and not overwrite:
        raise OutputExistsError(f"{place} is there already. Choose another place, or overwrite=True.")
    labels, table = volume.labels if isinstance(volume, Mask) else None, place.parent / LABELS_NAME
    if labels and table.is_file() and not overwrite:
        there = LabelTable.read(table)
        if (there.indices, there.names) != (labels.indices, labels.names):
            raise OutputExistsError(f"{table} is there already with other labels. Choose another folder.")
    if image is None:
        write_image(place, volume)
    else:
        source = path_of(image, "image")
        grid = read_header(source).grid
        apart = volume.grid.difference(grid)
        alike = volume if apart is None else turned_onto(volume, grid)
        if alike is None:
            raise GeometryError(f"The mask lies elsewhere than {image}: {apart}. Resample it onto the image's grid.")
        write_mask(place, alike.array, source)
        if not is_nifti(source) and axes_to_reverse(grid):
            log.warning("%s", MASK_TURNED)
    if labels:
        labels.describe(table)


def resample(
    volume: AnyVolume,
    *,
    spacing_mm: Many[float] | None = None,
    onto: Grid | Volume | None = None,
    interpolation: Interpolation | None = None,
) -> AnyVolume:
    """Resample a volume or mask onto another grid, exact in the patient's millimetres.

    Args:
        volume: what to resample.
        spacing_mm: of the new voxels along i, j and k, inside the same outer box; one number for all axes.
        onto: in its place, the grid itself, or a volume that lies on it.
        interpolation: linear, bspline (3rd order, kept within the volume's lowest and highest value) or nearest; by
            default linear for images. Masks are always resampled so that each new voxel takes the label that fills
            most of it.

    Raises:
        UsageError: neither a spacing nor a grid is given, or both, or they make no sense.
    """
    from volseg.grid import Grid, three_spacings
    from volseg.resampling import Interpolation
    from volseg.resampling import resample as onto_grid

    if not isinstance(volume, Volume):
        raise UsageError(f"volume takes a Volume or a Mask, not {type(volume).__name__}.")
    if (spacing_mm is None) == (onto is None):
        raise UsageError("Give either spacing_mm or the grid to resample onto.")
    if isinstance(volume, Mask) and interpolation not in (None, "nearest"):
        raise UsageError("A mask has no values between its labels: leave the interpolation out.")
    if spacing_mm is not None:
        grid = volume.grid.with_spacing(three_spacings(spacings_of(spacing_mm)))
    else:
        if not isinstance(onto, (Grid, Volume)):
            raise UsageError(f"onto takes a Grid or a Volume, not {type(onto).__name__}.")
        grid = onto.grid if isinstance(onto, Volume) else onto
    if interpolation is not None and interpolation not in get_args(Interpolation):
        raise UsageError(f"interpolation is one of {', '.join(get_args(Interpolation))}, not {interpolation!r}.")
    chosen: Interpolation = "nearest" if isinstance(volume, Mask) else interpolation or "linear"
    return replace(volume, array=onto_grid(volume, grid, interpolation=chosen).array, grid=grid)
