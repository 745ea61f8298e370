"""Whether an image can be what a model was made for: what makes no sense is refused, what lies outside is told.

Warnings are for what a person should look at, so each rule leaves room: an image as good as those of the training never
comes near its bound.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.errors import InputError
from volseg.grid import CORNER_TOLERANCE_MM
from volseg.volume import read_header, read_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.bundle.made_for import MadeFor
    from volseg.grid import Grid

STEP = 3
"""Every third voxel along each axis is enough."""
LEAST_RANGE_HU = 100.0
"""Any crop of a body spans more, from fat or air to tissue or bone; values scaled to a few units don't."""
LEAST_BELOW = 0.02
"""Of the highest values: how far the lowest of a CT go below zero, by air, fat or noise. Resampling by splines makes
MR undershoot by less than this."""
COARSER = 3.0
"""So many times the coarsest step of the training images: the structures of one voxel there are gone."""
MAX_SHEAR_DEGREES = 1.0
"""Rounding in headers tilts axes by less than a tenth of it, and a tilted gantry by more; the network would see organs
skewed."""
SMALLER = 10.0
"""So many times less or more than any training image shows; scans of one body part differ by less."""
TWO_PLACES = (
    "The sform and the qform of the image place it {:.3g} mm apart, and programs differ in which they follow; volseg follows the "
    "sform. See that left and right are where they belong before you rely on the mask."
)
NO_CT = "The bundle was made for CT, and the values of the image are no Hounsfield units: don't rely on the mask."


def require_sense(grid: Grid, made_for: MadeFor) -> None:
    """Refuse an image that a model can see nothing in, or not as it is.

    Raises:
        InputError: its axes are not at right angles (``sheared``); it is one slice, and the network sees volumes (``one-slice``); or along an axis it is thinner than one
            voxel of the network's (``too-thin``).
    """
    axes = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    shear = math.degrees(math.asin(min(1.0, float(np.abs(axes.T @ axes - np.eye(3)).max()))))
    if shear > MAX_SHEAR_DEGREES:
        raise InputError(
            f"The axes of the image are {shear:.3g} degrees off right angles, and the network would see it skewed. Convert "
            "it from DICOM with volseg convert, which straightens it, or resample it.",
            code="sheared",
        )
    if made_for.is_3d and min(grid.shape) == 1:
        raise InputError(
            "The image is a single slice, and the bundle was made for volumes. Give the whole series.", code="one-slice"
        )
    for axis, step, extent in _along(made_for.spacing_mm, _extents(grid)):
        if extent < step:
            raise InputError(
                f"Along {axis} the image measures {extent:.3g} mm, less than one voxel of the network's, {step:.3g} mm. "
                "Give the whole image.",
                code="too-thin",
            )


def outside(grid: Grid, made_for: MadeFor) -> tuple[str, ...]:
    """What lies outside of the training images by the grid alone, in sentences."""
    told = []
    known, steps = made_for.coarsest_mm or made_for.spacing_mm, _steps(grid)
    if known and any(step > COARSER * least for step, least in zip(steps, known, strict=True)):
        whose = "the training images at most" if made_for.coarsest_mm else "the network"
        told.append(
            f"The image's voxels measure {_by(steps)} mm along R, A and S, and those of {whose} {_by(known)} mm: don't rely "
            "on the mask."
        )
    if made_for.volumes_mm3:
        low, high = made_for.volumes_mm3
        volume = math.prod(grid.shape) * grid.voxel_volume_mm3
        if volume > SMALLER * high:
            told.append(
                f"The image shows {volume / high:.2g} times as much as the largest training image: look for what was found "
                "where nothing of the kind is."
            )
        elif volume * SMALLER < low:
            told.append(
                f"The image shows {low / volume:.2g} times less than the smallest training image: don't rely on the mask."
            )
    return tuple(told)


def doubts(images: tuple[Path, ...], made_for: MadeFor, *, ct: Literal["yes", "perhaps", "no"]) -> tuple[str, ...]:
    """What the values of an image tell against it, in sentences.

    Args:
        images: the file of each channel, or one.
        made_for: what the bundle was made for.
        ct: whether the bundle was made for CT and the image is known to be one; ``perhaps`` where nothing tells.

    Raises:
        InputError: all voxels are one value, with the code ``constant``; or the image can't be read.
        FileError: the image can't be read.
    """
    told = []
    for channel, image in enumerate(images):
        array = read_volume(image).array
        values = array[::STEP, ::STEP, ::STEP]
        apart_mm = read_header(image).forms_apart_mm
        if apart_mm > CORNER_TOLERANCE_MM and not channel:
            told.append(TWO_PLACES.format(apart_mm))
        if (values == values.flat[0]).all() and (array == array.flat[0]).all():
            which = f"channel {channel} of the image" if len(images) > 1 else "the image"
            raise InputError(
                f"All voxels of {which} are {array.flat[0]:.4g}, so it shows nothing. Export or convert it again.",
                code="constant",
            )
        if ct == "no" or channel:
            continue
        if ct == "perhaps" and is_no_ct(values):
            told.append(NO_CT)
        elif made_for.values and values.ndim == 3:
            (low, high), (lowest, highest) = made_for.values[0], _range(values)
            if highest < low or lowest > high:
                told.append(
                    f"The image's values, {lowest:.4g} to {highest:.4g}, lie outside of those that the labelled structures "
                    f"of the training images have, {low:.4g} to {high:.4g}: don't rely on the mask."
                )
    return tuple(told)


def is_no_ct(values: NDArray[np.generic]) -> bool:
    """Whether the values of an image are certainly no Hounsfield units: none is negative, or they span next to nothing."""
    low, high = _range(values)
    return bool(high - low < LEAST_RANGE_HU or low > -LEAST_BELOW * abs(high))


def _range(values: NDArray[np.generic]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    return float(low), float(high)


def _by(steps: Iterable[float]) -> str:
    return " x ".join(f"{step:.3g}" for step in steps)


def _along(known: tuple[float, float, float] | None, found: list[float]) -> Iterator[tuple[str, float, float]]:
    """Axis, what is known and what was found, along R, A and S."""
    return zip("RAS", known, found, strict=True) if known else iter(())


def _steps(grid: Grid) -> list[float]:
    """The step of the voxel axis that is nearest to each of R, A and S, in mm."""
    return _nearest(grid, list(grid.spacing_mm))


def _extents(grid: Grid) -> list[float]:
    return _nearest(grid, [size * step for size, step in zip(grid.shape, grid.spacing_mm, strict=True)])


def _nearest(grid: Grid, of_voxel_axes: list[float]) -> list[float]:
    from nibabel.orientations import io_orientation

    axes = [int(axis) for axis in io_orientation(grid.affine)[:, 0]]
    return [of_voxel_axes[axes.index(axis)] for axis in range(3)]
