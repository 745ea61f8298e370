"""What a mask measures, for all of its labels in one pass: volume, place, extent, surface, and the image's values under it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from volseg.components import find_components
from volseg.voxels import bounding_box, memory_order, plane_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.volume import Volume
    from volseg.voxels import Box

DIRECTIONS = np.array([step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)])
"""(13, 3) steps to half of a voxel's neighbours; the others are their opposites."""
AXES = tuple(int(np.flatnonzero((step == DIRECTIONS).all(axis=1))[0]) for step in np.eye(3, dtype=int))
"""Which of them are the steps along i, j and k."""
PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
HULL_POINTS = 2**11
"""Distances between the corners of a hull are taken from so many at a time."""


@dataclass(frozen=True)
class Values:
    """The image's finite values under a label.

    Args:
        mean: of them.
        standard_deviation: of them, with n.
        minimum: the lowest.
        maximum: the highest.
        percentiles: of ``PERCENTILES``, interpolated linearly.
    """

    mean: float
    standard_deviation: float
    minimum: float
    maximum: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class Measures:
    """What one label measures.

    Args:
        label: its number.
        voxels: how many.
        volume_ml: of its voxels.
        centroid_mm: the mean of its voxels' centres, in RAS.
        longest_diameter_mm: the longest distance between two points of its surface, which are halfway between a voxel and
            a face neighbour that is not of the label.
        surface_mm2: by Crofton's formula, from 13 directions.
        components: that hang together across faces, edges or corners.
        touches_border: whether a voxel lies at the border of the image, which may have cut the structure.
        values: of the image under it; None where none is finite.
    """

    label: int
    voxels: int
    volume_ml: float
    centroid_mm: tuple[float, float, float]
    longest_diameter_mm: float
    surface_mm2: float
    components: int
    touches_border: bool
    values: Values | None


def measure(mask: NDArray[np.unsignedinteger], image: Volume) -> tuple[Measures, ...]:
    """Measure each label that a mask has, ascending.

    The border of the image counts as surface. In an image of thick slices all that is said of shape follows the voxels'
    edges; volumes are exact sums of voxels.

    Args:
        mask: (i, j, k) whole numbers, 0 is the background.
        image: on the same grid, of one channel.
    """
    from scipy.ndimage import find_objects

    box = bounding_box(mask)
    inside = np.array(mask[box], order=memory_order(mask))
    if not inside.size:
        return ()
    boxes = find_objects(inside)
    grid, values = image.grid, image.array[box]
    whole = tuple((part.start == 0, part.stop == size) for part, size in zip(box, mask.shape, strict=True))
    surfaces, points = _surfaces(inside, grid)
    measures = []
    for one in find_components(inside, 26).by_label:
        label = one.label
        bounds = boxes[label - 1]
        here = inside[bounds] == label
        at_border = any(
            (first and part.start == 0) or (last and part.stop == size)
            for part, size, (first, last) in zip(bounds, inside.shape, whole, strict=True)
        )
        right, anterior, superior = grid.to_world(_mean_place(here, (box, bounds))).tolist()
        measures.append(
            Measures(
                label, one.voxels, one.voxels * grid.voxel_volume_mm3 / 1000, (right, anterior, superior),
                longest_distance(points[label] @ grid.affine[:3, :3].T), float(surfaces[label]), one.components,
                at_border, _values(values[bounds][here]),
            )
        )  # fmt: skip
    return tuple(measures)


def values_by_label(mask: NDArray[np.unsignedinteger], values: NDArray[np.generic]) -> dict[int, Values | None]:
    """An image's values under each label that a mask has; both (i, j, k)."""
    from scipy.ndimage import find_objects

    boxes = enumerate(find_objects(mask), 1)
    return {label: _values(values[box][mask[box] == label]) for label, box in boxes if box is not None}


def _mean_place(here: NDArray[np.bool_], boxes: tuple[Box, ...]) -> NDArray[np.float64]:
    """The mean index (3,) of the voxels that are true, in an array of which this is the box of a box."""
    starts = np.sum([[part.start for part in box] for box in boxes], axis=0)
    counts = (np.count_nonzero(here, axis=tuple({0, 1, 2} - {axis})) for axis in range(3))
    means: NDArray[np.float64] = starts + [np.average(np.arange(len(count)), weights=count) for count in counts]
    return means


def _values(values: NDArray[np.generic]) -> Values | None:
    finite = values.astype(np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return None
    low, high, *shares = np.percentile(finite, (0.0, 100.0, *PERCENTILES)).tolist()
    return Values(float(finite.mean()), float(finite.std()), low, high, tuple(shares))


def crofton_weights(axes_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(13,) the surface in mm2 that a change of label between two neighbours stands for, by their direction.

    Lines in a direction pierce a surface as often as it is large as seen from there, and the mean over all directions is a
    quarter of its area (Crofton; Cauchy). Each of the 13 directions stands for the part of the sphere that is nearer to it
    than to another (Ohser and Muecklich, Statistical Analysis of Microstructures, 2000; Legland, Kieu and Devaux,
    Computation of Minkowski measures on 2D and 3D binary images, 2007), here in mm, so that slices may be thick or sheared.

    Args:
        axes_mm: (3, 3) the steps along i, j and k as columns.
    """
    from scipy.spatial import SphericalVoronoi

    steps = DIRECTIONS @ axes_mm.T
    lengths = np.linalg.norm(steps, axis=1)
    units = steps / lengths[:, None]
    shares = SphericalVoronoi(np.concatenate((units, -units))).calculate_areas() / (4 * math.pi)
    weights: NDArray[np.float64] = 2 * (shares[:13] + shares[13:]) * abs(np.linalg.det(axes_mm)) / lengths
    return weights


def _surfaces(
    inside: NDArray[np.unsignedinteger], grid: Grid
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
    """The area of each label in mm2, and the voxel indices (n, 3) of the points of its surface."""
    padded = np.pad(inside, 1)
    count = int(inside.max()) + 1
    changes = np.zeros((13, count), np.int64)
    found: list[tuple[NDArray[np.generic], NDArray[np.float32]]] = []
    for number, step in enumerate(DIRECTIONS):
        for one, other, first in _neighbours(padded, step):
            places = np.nonzero(one != other)
            for labels in (one[places], other[places]):
                changes[number] += np.bincount(labels, minlength=count)
                if number in AXES:
                    ours = labels > 0
                    middle = np.stack(places, axis=1)[ours] + (first - 1 + step / 2)
                    found.append((labels[ours], middle.astype(np.float32)))
    labels, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
    points = points[np.argsort(labels, kind="stable")]
    ends = np.cumsum(np.bincount(labels, minlength=count))
    areas: NDArray[np.float64] = crofton_weights(grid.affine[:3, :3]) @ changes
    return areas, {label: points[ends[label - 1] : ends[label]] for label in range(1, count)}


def _neighbours(
    padded: NDArray[np.unsignedinteger], step: NDArray[np.int_]
) -> Iterator[tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger], NDArray[np.int_]]]:
    """Voxels and their neighbours in one direction, in pieces; with each the index of its first voxel."""
    slowest = int(np.argmax(np.abs(padded.strides)))
    low = np.maximum(-step, 0)
    reach = np.array(padded.shape) - np.abs(step)
    for planes in plane_ranges(int(reach[slowest]), padded.size // padded.shape[slowest]):
        first, sizes = low.copy(), reach.copy()
        first[slowest] += planes.start
        sizes[slowest] = planes.stop - planes.start
        one, other = (
            padded[tuple(slice(int(n), int(n + size)) for n, size in zip(start, sizes, strict=True))]
            for start in (first, first + step)
        )
        yield one, other, first


def longest_distance(points_mm: NDArray[np.float64]) -> float:
    """The longest distance between two of these points (n, 3), which are not all in one plane: between corners of their hull."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    corners = points_mm[ConvexHull(points_mm).vertices]
    pieces = (corners[first : first + HULL_POINTS] for first in range(0, len(corners), HULL_POINTS))
    return max(float(cdist(piece, corners).max()) for piece in pieces)
