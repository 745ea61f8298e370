"""Loading the voxels of a series."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.pixels import FileFault, layout_of, read_series, rescale, stored_dtype
from volseg.dicom.series.mosaic import require_empty_rest
from volseg.dicom.series.padding import padding_to_air
from volseg.dicom.series.repair import straighten
from volseg.dicom.series.uptake import SUV, suv_factor
from volseg.errors import InputError
from volseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from volseg.dicom.series.series import Series
    from volseg.dicom.series.slices import Slice

INT16 = np.iinfo(np.int16)
LOOKS_LIKE_MASK = "looks-like-a-mask"
"""The code of images that hold two values and no other."""
SAMPLED = 4, 16
"""Of the slices, and of the rows and columns: every so many are looked at first."""


class SliceFault(InputError):
    """One file of a series can't be read; ``private`` is its path relative to the folder that was given."""

    def __init__(self, error: InputError, private: str) -> None:
        super().__init__(error.message, code=error.code)
        self.private = private
        self._error = error

    def __reduce__(self) -> tuple[object, ...]:
        return SliceFault, (self._error, self.private)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A loaded series.

    Args:
        volume: its voxels.
        changes: the codes of what was done to it or seen in it, such as ``padding-to-air``.
        notes: of the series; see ``notes``.
    """

    volume: Volume
    changes: tuple[str, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)


def load_values(series: Series, *, jobs: int | None = None, suv: bool = False) -> Loaded:
    """Read a series into memory: stored values, rescaled by slope and intercept (PS3.3 C.11.1.1.2).

    The padding of a CT becomes air.

    Args:
        series: as ``scan`` verified it.
        jobs: processes that decode compressed pixels at once; by default one for each core.
        suv: whether the activity of a PET series becomes uptake by body weight, in g/ml.

    Returns:
        Voxels [i, j, k] along the rows, the columns and the slice normal, as a view of one C-ordered [k, j, i] array,
        so that writing NIfTI copies nothing. CT is int16 HU where its values fit; other modalities the integer type
        that holds them exactly; float32 where slope or intercept are fractions or differ between slices. A straightened
        series is interpolated onto its grid, in the same type.

    Raises:
        SliceFault: a file's pixels are cut off, damaged or in a form without decoder.
        InputError: ``suv-units`` or ``suv-facts-missing``.
        FileError: a file can't be read.
    """
    changes: list[str] = []
    slopes = [image.slope for image in series.slices]
    intercepts = [image.intercept for image in series.slices]
    if suv and series.modality == "PT":
        factor = suv_factor(series)
        slopes = [slope * factor for slope in slopes]
        intercepts = [intercept * factor for intercept in intercepts]
        changes.append(SUV)
    values = rescale(_stored(series, jobs), slopes, intercepts, reuse=True)
    if series.modality == "CT":
        values, change = padding_to_air(values, series.slices, slopes, intercepts)
        values = _as_int16(values)
        changes.extend(filter(None, [change]))
    if _are_two(values):
        changes.append(LOOKS_LIKE_MASK)
    volume = straighten(values, series.geometry) if series.is_straightened else Volume(values.T, series.grid)
    return Loaded(volume, tuple(changes))


def _are_two(values: NDArray[Any]) -> bool:
    """Whether there are two values and no other; a few tell it of nearly all images that are no masks."""
    if len(np.unique(values[:: SAMPLED[0], :: SAMPLED[1], :: SAMPLED[1]])) > 2:
        return False
    low, high = values.min(), values.max()
    return bool(low < high and all(((plane == low) | (plane == high)).all() for plane in values))


def slice_values(series: Series, *, jobs: int | None = None) -> NDArray[Any]:
    """(slices, rows, columns) rescaled values of a series as its slices lie, with nothing put right.

    Raises:
        SliceFault, FileError: as ``load_values``.
    """
    slopes = [image.slope for image in series.slices]
    intercepts = [image.intercept for image in series.slices]
    return rescale(_stored(series, jobs), slopes, intercepts, reuse=True)


def _stored(series: Series, jobs: int | None) -> NDArray[Any]:
    """(slices, rows, columns) stored values; each file is read once, and none of it but what is asked for."""
    slices = series.slices
    files = list({image.name: image for image in slices}.values())
    number_of = {image.name: number for number, image in enumerate(files)}
    layouts = [layout_of(image.header) for image in files]
    # Each frame once: all tiles of a mosaic are cut out of one.
    place_of: dict[tuple[int, int], int] = {}
    places = [place_of.setdefault((number_of[image.name], image.frame), len(place_of)) for image in slices]
    read: NDArray[Any] = np.empty((len(place_of), layouts[0].rows, layouts[0].columns), stored_dtype(layouts))
    try:
        read_series(layouts, read, planes=list(place_of), jobs=jobs)
    except FileFault as fault:
        raise SliceFault(fault, files[fault.number].name) from fault
    return _cut(slices, places, read) if any(image.tile is not None for image in slices) else read


def _cut(slices: Sequence[Slice], places: Sequence[int], mosaics: NDArray[Any]) -> NDArray[Any]:
    """(slices, rows, columns) the tiles of mosaics (mosaics, rows, columns), each at the place given for it."""
    columns, rows = slices[0].size
    found = np.empty((len(slices), rows, columns), mosaics.dtype)
    for k, (image, place) in enumerate(zip(slices, places, strict=True)):
        assert image.tile is not None, "mosaics make no volume together with other images"
        found[k] = image.tile.cut(mosaics[place])
    for place, count in Counter(places).items():
        try:
            require_empty_rest(mosaics[place], count)
        except InputError as error:
            raise SliceFault(error, slices[places.index(place)].name) from error
    return found


def _as_int16(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int16 where they fit, as Hounsfield units do; without a copy where they are as wide."""
    if values.dtype.kind not in "iu" or values.dtype == np.int16:
        return values
    if int(values.min()) < INT16.min or int(values.max()) > INT16.max:
        return values
    return values.view(np.int16) if values.dtype == np.uint16 else values.astype(np.int16)
