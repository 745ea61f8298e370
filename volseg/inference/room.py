"""Whether the machine has room for what a bundle would make of an image; asked before memory is taken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from monai.transforms import Compose, Spacingd
from monai.utils import ensure_tuple_rep, fall_back_tuple

from volseg.device import memory_lacking
from volseg.errors import InputError
from volseg.inference.fit import preparing_bytes, resident_bytes
from volseg.inference.slab_steps import sliding_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from volseg.grid import Grid

MAX_WINDOWS = 10**6
"""Windows of the usual 96 voxels, overlapping by half, would cover 100 times what scanners make."""
GRID_NUMBERS = 4
"""MONAI keeps as many float32 numbers for each voxel that it resamples, beside source and result."""


def require_room_to_resample(preprocessing: Any, grid: Grid, channels: int) -> None:
    """Refuse a spacing that would make more voxels of an image than memory holds.

    Args:
        preprocessing: a bundle's, built.
        grid: of the image.
        channels: of the image.

    Raises:
        InputError: there is no room, with the code ``too-large``.
    """
    for wanted in _spacings(preprocessing):
        voxels = _voxels(grid, wanted)
        _require(
            4 * voxels * (2 * channels + GRID_NUMBERS),
            "cpu",
            f"Resampled to {' x '.join(f'{size:.3g}' for size in wanted)} mm, as the bundle wants it, the image would have "
            f"{voxels:.2g} voxels",
        )


def require_room_to_prepare(preprocessing: Any, grid: Grid, channels: int, limit: int) -> None:
    """Refuse an image that takes more memory before the network sees it than a person allows.

    Args:
        preprocessing: a bundle's, built.
        grid: of the image.
        channels: of the image.
        limit: bytes that this process may take.

    Raises:
        InputError: with the code ``too-large``.
    """
    held = resident_bytes()
    need = held + bytes_to_prepare(preprocessing, grid, channels)
    if need > limit:
        remedy = "Allow more." if held > limit else "Allow more, or cut the image."
        raise InputError(
            f"Before the network sees the image about {need / 1e9:.2g} GB of memory are taken, {held / 1e9:.2g} of them by the "
            f"programs and the bundle, and --memory allows {limit / 1e9:.2g}. {remedy}",
            code="too-large",
        )


def bytes_to_prepare(preprocessing: Any, grid: Grid, channels: int) -> int:
    """What a preprocessing takes at its peak.

    Args:
        preprocessing: a bundle's, built.
        grid: of the image.
        channels: of the image.
    """
    voxels = math.prod(grid.shape)
    sizes = [_voxels(grid, wanted) for wanted in _spacings(preprocessing)]
    return preparing_bytes(voxels, int(sizes[-1]) if sizes else voxels, channels)


def _spacings(preprocessing: Any) -> Iterator[list[float]]:
    """What a preprocessing resamples to, in mm; not where an axis stays as it is."""
    for step in preprocessing.transforms if isinstance(preprocessing, Compose) else [preprocessing]:
        if isinstance(step, Spacingd):
            wanted = [float(size) for size in step.spacing_transform.pixdim if math.isfinite(size) and size > 0]
            if len(wanted) == 3:
                yield wanted


def _voxels(grid: Grid, spacing_mm: Sequence[float]) -> float:
    """Of an image on another spacing."""
    extents = (size * extent for size, extent in zip(grid.shape, grid.spacing_mm, strict=True))
    return math.prod(extents) / math.prod(spacing_mm)


def require_room_for_classes(classes: int, shape: Sequence[int], device: str, kept: int = 0) -> None:
    """Refuse an image whose classes, each a float32 volume, take more than memory holds.

    Args:
        classes: channels of the network's output.
        shape: of the image that the network sees (i, j, k).
        device: where they are added up.
        kept: how many such volumes lie there beside them, as the sum of an ensemble does.

    Raises:
        InputError: there is no room, with the code ``too-large``.
    """
    # The sum over the windows, and what is made of it next.
    need = (2 + kept) * 4 * classes * math.prod(shape)
    _require(need, device, f"The network gives {classes} numbers for each voxel of {' x '.join(map(str, shape))}")


def window_count(inferer: Any, shape: Sequence[int]) -> int | None:
    """How many places a sliding window has on an image (i, j, k); None for another inferer.

    Raises:
        InputError: more than anybody waits for, with the code ``too-large``.
    """
    sliding = sliding_of(inferer)
    if sliding is None:
        return None
    window = fall_back_tuple(sliding.roi_size, shape)
    overlap = ensure_tuple_rep(sliding.overlap, len(shape))
    # As MONAI places the windows: the last one of each axis ends with the image.
    steps = [max(1, int(size * (1 - share))) for size, share in zip(window, overlap, strict=True)]
    places: int = math.prod(
        1 + math.ceil(max(0, length - size) / step) for length, size, step in zip(shape, window, steps, strict=True)
    )
    if places > MAX_WINDOWS:
        raise InputError(
            f"The bundle's window of {' x '.join(map(str, window))} voxels has {places:.2g} places on an image of "
            f"{' x '.join(map(str, shape))}, which would take days. Give its inferer a larger window (roi_size).",
            code="too-large",
        )
    return places


def _require(need: float, device: str, what: str) -> None:
    lacking = memory_lacking(need, device)
    if lacking:
        raise InputError(f"{what}, which {lacking}. Cut the image, or use a machine with more.", code="too-large")
