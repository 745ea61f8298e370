"""The part of an image that is segmented: a box, what a mask marks, or what another bundle finds first."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from volseg.dataset.beside import labels_beside
from volseg.distances import radius_voxels, spacing_of, within
from volseg.errors import InputError, UsageError
from volseg.kept import file_digest
from volseg.labels import LabelTable
from volseg.resampling import resample, turned_onto
from volseg.volume import Volume, files_of, list_images, read_mask, stem_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.inference.slabs import Box

MARGIN_MM = 10.0
"""Around a mask or what another bundle finds, unless a person says otherwise: about what such a mask is wrong by."""
NUMBER = r"\s*([+-]?\d+(?:\.\d+)?)\s*"
SIDE = re.compile(f"{NUMBER}:{NUMBER}", re.ASCII)
LIKE_A_BOX = re.compile(r"[-+.:,\s\d]*:[-+.:,\s\d]*(mm)?", re.ASCII)
FORMS = (
    "--roi takes a box as 100:300,80:260,20:90 in voxels i, j and k, or -80:60,-40:90,-1100:-900mm in millimetres to the "
    "patient's right, front and head; or a mask, a folder of masks named as the cases, or a bundle."
)
RESAMPLED = (
    "The mask for --roi lies on another grid than the image, and was brought to the image's by the nearest voxel."
)


@dataclass(frozen=True, eq=False)
class Area:
    """The part of one image that is segmented.

    Args:
        box: its voxels (i, j, k).
        inside: which voxels of the box; None for all.
        told: what a person has to know of it.
    """

    box: Box
    inside: NDArray[np.bool_] | None = None
    told: tuple[str, ...] = ()

    def cut(self, masks: NDArray[np.unsignedinteger]) -> None:
        """Make what lies outside background, in masks (..., i, j, k) that are 0 beside the box."""
        if self.inside is not None:
            i, j, k = (slice(side.start, side.stop) for side in self.box)
            masks[..., i, j, k] *= self.inside


@dataclass(frozen=True)
class Roi:
    """A box that is to be segmented; see ``parse_roi``.

    Args:
        low: where it begins along each axis.
        high: where it ends.
        in_mm: whether these are RAS millimetres; else voxels.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    in_mm: bool

    def box(self, grid: Grid) -> Box:
        """The voxels (i, j, k) of an image whose centres lie in it; a box in millimetres is that about its corners.

        Along an axis on which no centre lies between its sides, it is the voxels that it touches.

        Raises:
            InputError: there is none.
        """
        low, high = np.array(self.low), np.array(self.high)
        if self.in_mm:
            corners = grid.to_voxel(np.where(np.array(list(np.ndindex(2, 2, 2))), high, low))
            first, last = corners.min(axis=0), corners.max(axis=0)
            low, high = np.ceil(first - 1e-6), np.floor(last + 1e-6) + 1
            is_between = low >= high
            low = np.where(is_between, np.floor(first + 0.5), low)
            high = np.where(is_between, np.floor(last + 0.5) + 1, high)
        low, high = (np.clip(ends, 0, grid.shape).astype(int) for ends in (low, high))
        if (low >= high).any():
            raise InputError("--roi lies outside of the image. Give the box in its voxels, or in mm.", code="no-roi")
        i, j, k = (range(int(begin), int(end)) for begin, end in zip(low, high, strict=True))
        return i, j, k


@dataclass(frozen=True)
class Around:
    """What of an image is segmented about a region of it.

    Args:
        margin_mm: how far beyond the region.
        whole_box: all of the box about the region and its margin, else these alone.
    """

    margin_mm: float = MARGIN_MM
    whole_box: bool = False

    def area(self, region: NDArray[np.bool_], grid: Grid, told: tuple[str, ...] = ()) -> Area:
        """The part of an image about a region (i, j, k) of it.

        Raises:
            InputError: the region is empty (``empty-roi``), or the margin reaches over too many voxels.
            GeometryError: there is a margin, and the axes of the grid are not at right angles.
        """
        box = _box_of(region)
        if box is None:
            raise InputError(
                "--roi marks nothing in this image, so there is no part of it to segment. Leave --roi out for it, or give "
                "another.",
                code="empty-roi",
            )
        inside = region[_slices(box)]
        if self.margin_mm:
            reach = radius_voxels(self.margin_mm, spacing_of(grid))
            wide = [
                range(max(0, side.start - more), min(size, side.stop + more))
                for side, more, size in zip(box, reach, grid.shape, strict=True)
            ]
            grown = within(region[_slices(wide)], self.margin_mm, spacing_of(grid))
            box = _box_of(grown)
            assert box is not None, "a region lies in what is grown from it"
            inside = grown[_slices(box)]
            i, j, k = (
                range(side.start + low.start, side.start + low.stop) for side, low in zip(wide, box, strict=True)
            )
            box = i, j, k
        return Area(box, None if self.whole_box else inside, told)


@dataclass(frozen=True)
class RoiMask:
    """What a mask marks; see ``gathering.roi_of``.

    Args:
        place: a mask, or a folder of masks named as the cases.
        labels: of the mask, by name or number; none for all.
        around: what of the image is segmented about them.
    """

    place: Path
    labels: tuple[str, ...] = ()
    around: Around = Around()

    def __str__(self) -> str:
        return f"mask {self.labels} {self.around}"  # what lies where is in the digest of each case

    def mask_of(self, case: str) -> Path:
        """The mask of a case.

        Raises:
            InputError: there is none, or there are several.
        """
        if not self.place.is_dir():
            return self.place
        found = [path for path in list_images(self.place) if stem_of(path) == case]
        if len(found) != 1:
            what = "no mask" if not found else f"{len(found)} masks"
            raise InputError(
                f"The folder of --roi has {what} of this case. Put one mask there, named as the case.", code="no-roi"
            )
        return found[0]

    def digest(self, case: str) -> str:
        """Of the content of a case's mask, and of the numbers of its labels that count.

        Raises:
            InputError: there is none.
            FileError: it can't be read.
        """
        path = self.mask_of(case)
        files = [*(repr(file_digest(one)) for one in files_of(path)), repr(self._numbers(path))]
        return hashlib.sha256("\n".join(files).encode()).hexdigest()

    def area(self, case: str, grid: Grid) -> Area:
        """The part of a case's image that is segmented.

        A mask in another voxel order is turned, and one on another grid brought to the image's by the nearest voxel.

        Raises:
            InputError: there is no mask, it can't be read, or it marks nothing in the image.
            UsageError: it has no such label.
            FileError: it can't be read.
        """
        path = self.mask_of(case)
        mask = read_mask(path)
        marked = np.asarray(mask.array) != 0
        if self.labels:
            marked = np.isin(mask.array, self._numbers(path))
        told: tuple[str, ...] = ()
        if mask.grid.difference(grid) is not None:
            volume = Volume(marked.astype(np.uint8), mask.grid)
            turned = turned_onto(volume, grid)
            told = () if turned else (RESAMPLED,)
            marked = (turned or resample(volume, grid, interpolation="nearest")).array != 0
        return self.around.area(marked, grid, told)

    def _numbers(self, path: Path) -> tuple[int, ...]:
        """Of the labels that count, as what lies beside the mask names them."""
        return (labels_beside(path) or LabelTable(())).find(self.labels) if self.labels else ()


def parse_roi(text: str) -> Roi:
    """Read ``100:300,80:260,20:90``, voxels from the first on and before the last, or with ``mm`` RAS millimetres.

    Raises:
        UsageError: it is neither.
    """
    in_mm = text.strip().endswith("mm")
    sides = [SIDE.fullmatch(side) for side in text.strip().removesuffix("mm").split(",")]
    if len(sides) != 3 or not all(sides):
        raise UsageError(f"{FORMS} {text!r} is none.")
    low, high = (tuple(float(side[place]) for side in sides if side) for place in (1, 2))
    if not all(map(math.isfinite, (*low, *high))):
        raise UsageError("--roi has a number that is larger than any image. Leave some of its digits out.")
    whole = in_mm or all(number == math.floor(number) for number in (*low, *high))
    if not whole or any(begin >= end for begin, end in zip(low, high, strict=True)):
        raise UsageError("--roi takes sides that begin before they end, in whole voxels or in mm.")
    return Roi(low, high, in_mm)


def _box_of(region: NDArray[np.bool_]) -> Box | None:
    """The smallest box of voxels about a region; None where it is empty."""
    sides = []
    for axis in range(3):
        found = np.flatnonzero(region.any(axis=tuple(other for other in range(3) if other != axis)))
        if not found.size:
            return None
        sides.append(range(int(found[0]), int(found[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _slices(box: Sequence[range]) -> tuple[slice, ...]:
    return tuple(slice(side.start, side.stop) for side in box)
