"""Siemens mosaics: the slices of a volume as tiles of one image.

How many there are and which way they follow each other stands in Siemens' private headers alone. Siemens documents none
of this; the form and the geometry are described by NiBabel (doc/source/dicom/dicom_mosaic.rst), after SPM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from volseg.dicom.file import private_tags as private
from volseg.dicom.file import tags
from volseg.dicom.file.csa import csa_number, read_csa
from volseg.dicom.file.elements import Wanted
from volseg.dicom.file.header import read_items
from volseg.dicom.series.stack import COSINE_TOLERANCE, ORIENTATION_TOLERANCE_DEGREES, axes_of
from volseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.dicom.file.elements import Item
    from volseg.dicom.file.header import Header

MOSAIC = "mosaic"
"""The code of a volume whose slices were cut out of mosaics."""
MAX_TILES = 1024
"""Of one mosaic; scanners make some 100 slices."""

_WANTED = Wanted(private.all_places([private.CSA_IMAGE_HEADER, private.IMAGES_IN_MOSAIC]))


@dataclass(frozen=True, slots=True)
class Tile:
    """One slice's place in a mosaic: its first row and column, and how many of each it has."""

    row: int
    column: int
    rows: int
    columns: int

    def cut(self, mosaic: NDArray[Any]) -> NDArray[Any]:
        """(rows, columns) of a mosaic."""
        return mosaic[self.row : self.row + self.rows, self.column : self.column + self.columns]


@dataclass(frozen=True, slots=True)
class PlacedTile:
    """A tile, and where its first pixel lies: LPS, in mm."""

    tile: Tile
    position_mm: tuple[float, float, float]


def tiles_of(header: Header) -> tuple[PlacedTile, ...]:
    """The slices of a mosaic in its order.

    ImagePositionPatient is that of the first pixel of an image as large as the mosaic about the centre of the first
    slice; so the first slice begins half the difference in size further on. The others follow along the CSA header's
    SliceNormalVector, which may point against the normal of the image, at SpacingBetweenSlices.

    Args:
        header: of the file.

    Raises:
        InputError: ``siemens-mosaic``, its private headers are gone or contradict themselves or the image;
            ``no-position``, it has no position, orientation or spacing of pixels.
        FileError: the file can't be read.
    """
    whole = read_items(header, _WANTED)
    csa = _csa_texts(whole)
    count = _count(csa, whole)
    side = math.isqrt(count - 1) + 1
    rows, columns = header.unsigned(tags.ROWS) or 0, header.unsigned(tags.COLUMNS) or 0
    if rows % side or columns % side:
        raise _refused(f"{count} slices can't be the tiles of an image of {columns} x {rows} pixels.")
    tile_rows, tile_columns = rows // side, columns // side
    axes = axes_of(header.numbers(tags.IMAGE_ORIENTATION_PATIENT))
    corner = header.numbers(tags.IMAGE_POSITION_PATIENT)
    pixel_mm = header.numbers(tags.PIXEL_SPACING)
    if axes is None or len(corner) != 3 or len(pixel_mm) != 2:
        raise InputError(
            "A mosaic has no position or orientation in the patient, or no spacing of pixels.", code="no-position"
        )
    step_mm = _step(csa, axes[2]) * _spacing_mm(header, csa) * axes[2]
    right_mm = (columns - tile_columns) / 2 * pixel_mm[1] * axes[0]
    down_mm = (rows - tile_rows) / 2 * pixel_mm[0] * axes[1]
    first_mm = np.array(corner) + right_mm + down_mm
    found = []
    for number in range(count):
        tile = Tile(number // side * tile_rows, number % side * tile_columns, tile_rows, tile_columns)
        x, y, z = (float(place) for place in first_mm + number * step_mm)
        found.append(PlacedTile(tile, (x, y, z)))
    return tuple(found)


def require_empty_rest(mosaic: NDArray[Any], count: int) -> None:
    """See that the tiles after the last slice are empty, as Siemens leaves them.

    Args:
        mosaic: (rows, columns).
        count: how many slices there are.

    Raises:
        InputError: ``siemens-mosaic``, something is there, so the mosaic has another number of slices.
    """
    side = math.isqrt(count - 1) + 1
    rows, columns = mosaic.shape[0] // side, mosaic.shape[1] // side
    for number in range(count, side * side):
        if Tile(number // side * rows, number % side * columns, rows, columns).cut(mosaic).any():
            raise _refused(f"Its private header tells of {count} slices, but it holds more.")


def _refused(why: str) -> InputError:
    return InputError(
        f"Mosaics, many slices tiled in one image, have their geometry in Siemens' private headers. {why} Export the "
        "series from the scanner again, with its private elements or as single slices.",
        code="siemens-mosaic",
    )


def _csa_texts(whole: Item) -> dict[str, tuple[str, ...]]:
    raws = _private(whole, private.CSA_IMAGE_HEADER)
    if len(raws) != 1:
        raise _refused("This file has none." if not raws else "This file has several.")
    try:
        return dict(read_csa(raws.pop()))
    except InputError as error:
        raise _refused("That of this file is damaged.") from error


def _private(whole: Item, element: private.PrivateElement) -> set[bytes]:
    """The values of a private element, in whichever blocks its creator has reserved."""
    return {whole.values[tag] for tag in private.places(whole, element, private.reserved_blocks(whole))}


def _count(csa: dict[str, tuple[str, ...]], whole: Item) -> int:
    """How many slices there are, by all that tell it."""
    told = {_whole(text) for text in csa.get("NumberOfImagesInMosaic", ())[:1]}
    order: Literal["big", "little"] = "big" if whole.big_endian else "little"
    told |= {int.from_bytes(raw[:2], order) for raw in _private(whole, private.IMAGES_IN_MOSAIC)}
    if len(told) != 1:
        raise _refused("That of this file doesn't tell how many slices there are." if not told else _CONTRADICTS)
    count = told.pop()
    if not 0 < count <= MAX_TILES:
        raise _refused(_CONTRADICTS)
    return count


_CONTRADICTS = "Those of this file contradict each other about how many slices there are."


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _step(csa: dict[str, tuple[str, ...]], normal: NDArray[np.float64]) -> int:
    """1 where the slices follow each other along the normal of the image, -1 where against it."""
    told = np.array([csa_number(text) for text in csa.get("SliceNormalVector", ())])
    if told.shape != (3,):
        raise _refused("That of this file doesn't tell which way the slices follow each other.")
    for sign in (1, -1):
        if np.linalg.norm(told - sign * normal) <= math.radians(ORIENTATION_TOLERANCE_DEGREES) + COSINE_TOLERANCE:
            return sign
    raise _refused("That of this file tells of another orientation than the image has.")


def _spacing_mm(header: Header, csa: dict[str, tuple[str, ...]]) -> float:
    """The step from slice to slice; never the thickness, beside which there may be gaps."""
    told = header.number(tags.SPACING_BETWEEN_SLICES)
    if told is None:
        told = next((csa_number(text) for text in csa.get("SpacingBetweenSlices", ())[:1]), math.nan)
    if not 0 < told < 1e6:
        raise _refused("This file doesn't tell how far apart the slices are.")
    return told
