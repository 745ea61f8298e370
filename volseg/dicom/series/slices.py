"""Slices of a volume: a file each, a frame of a multi-frame file or a tile of a mosaic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.file import tags
from volseg.dicom.file.files import ENHANCED_IMAGES
from volseg.dicom.pixels import frame_digest, layout_of, read_series
from volseg.dicom.series.mosaic import Tile, tiles_of
from volseg.dicom.series.multiframe import frames_of
from volseg.dicom.series.stack import axes_of
from volseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.dicom.file.header import Header

MAX_NUMBER = 1e6
"""Of a spacing or position in mm: a bound for numbers that only overflow later sums."""
IN_MOSAIC = "MOSAIC"
"""The word in ImageType by which Siemens marks mosaics."""


@dataclass(frozen=True, eq=False, slots=True)
class Slice:
    """One image of a series.

    Args:
        header: of its file; of its frame, where the file holds several: then that frame's values stand in it.
        name: of its file relative to the folder that the user gave; private.
        position_mm: of its first pixel, LPS.
        frame: its place in the file, from 0.
        tile: its part of the frame, where that is a mosaic.
    """

    header: Header
    name: str
    position_mm: tuple[float, float, float]
    frame: int = 0
    tile: Tile | None = None

    @property
    def slope(self) -> float:
        """RescaleSlope, 1 where absent (PS3.3 C.7.6.16.2.9)."""
        number = self.header.number(tags.RESCALE_SLOPE)
        return 1.0 if number is None else number

    @property
    def intercept(self) -> float:
        """RescaleIntercept, 0 where absent."""
        number = self.header.number(tags.RESCALE_INTERCEPT)
        return 0.0 if number is None else number

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        if self.tile is not None:
            return self.tile.columns, self.tile.rows
        return self.header.unsigned(tags.COLUMNS) or 0, self.header.unsigned(tags.ROWS) or 0

    def pixel_digest(self) -> bytes:
        """A digest of the pixels as stored; the file is read for it.

        Raises:
            InputError: they can't be told from those of other frames.
            FileError: the file can't be read.
        """
        digest = frame_digest(layout_of(self.header), self.frame)
        # The tiles of two mosaics are the same where both mosaics are.
        return digest if self.tile is None else hashlib.blake2b(digest + repr(self.tile).encode()).digest()

    def pixels(self) -> NDArray[Any]:
        """(rows, columns) of its stored values.

        Raises:
            InputError: they are cut off, damaged or in a form without decoder.
            FileError: the file can't be read.
        """
        layout = layout_of(self.header)
        frame = np.empty((1, layout.rows, layout.columns), layout.dtype)
        read_series([layout], frame, planes=[(0, self.frame)], jobs=1)
        return frame[0] if self.tile is None else self.tile.cut(frame[0])


def slices_of(header: Header, name: str) -> tuple[Slice, ...]:
    """The slices that one file holds.

    Args:
        header: of a CT, MR or PET image.
        name: of the file, private.

    Raises:
        InputError: ``no-position``, the header doesn't say where they lie; ``bad-rescale``; ``multi-frame``, several
            frames where there is a place for one; and what ``frames_of`` and ``tiles_of`` may raise.
        FileError: the file can't be read.
    """
    is_mosaic = IN_MOSAIC in header.texts(tags.IMAGE_TYPE)
    if header.uid(tags.SOP_CLASS_UID) in ENHANCED_IMAGES:
        if is_mosaic:
            raise InputError(
                "Mosaics, many slices tiled in one image, are not read from enhanced images. Export the series as "
                "single slices.",
                code="siemens-mosaic",
            )
        found = [_placed(one, name, frame) for frame, one in enumerate(frames_of(header))]
    else:
        if layout_of(header).frames != 1:
            raise InputError(
                "Several frames in a single-frame object have no place in the patient. Export it again.",
                code="multi-frame",
            )
        found = [_placed(header, name)]
    if not is_mosaic:
        return tuple(found)
    return tuple(Slice(header, name, one.position_mm, 0, one.tile) for one in tiles_of(header))


def _placed(header: Header, name: str, frame: int = 0) -> Slice:
    position = header.numbers(tags.IMAGE_POSITION_PATIENT)
    spacing = header.numbers(tags.PIXEL_SPACING)
    if (
        len(position) != 3
        or len(spacing) != 2
        or not all(0 < step < MAX_NUMBER for step in spacing)
        or not all(abs(place) < MAX_NUMBER for place in position)
        or axes_of(header.numbers(tags.IMAGE_ORIENTATION_PATIENT)) is None
    ):
        raise InputError(
            "An image has no position or orientation in the patient, or no spacing of pixels.", code="no-position"
        )
    for tag in (tags.RESCALE_SLOPE, tags.RESCALE_INTERCEPT):
        if header.text(tag) and header.number(tag) is None:
            raise InputError("An image's rescale slope or intercept is no number. Export it again.", code="bad-rescale")
    return Slice(header, name, (position[0], position[1], position[2]), frame)
