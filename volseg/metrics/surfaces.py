"""How far the surfaces of two masks lie from each other, in mm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.errors import GeometryError
from volseg.metrics.pair import crop

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from volseg.grid import Grid

PERCENTILE = 95.0
"""The HD95's: one stray voxel decides the largest distance (Huttenlocher et al., 1993), not this one."""
TREE_LEAF = 32
"""Points in a leaf of the search tree: measured fastest for surfaces of 10,000 to 100,000 voxels."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From each surface voxel of one mask, the distance in mm to the nearest surface voxel of the other.

    A surface voxel has a face neighbour that is not of its label, or lies at the border of the image. A neighbour that
    nobody judged makes none.
    """

    label: int
    to_reference_mm: NDArray[np.float64]
    """(n,) from the prediction's surface; infinite when the reference is empty."""
    to_predicted_mm: NDArray[np.float64]
    """(m,) from the reference's surface; infinite when the prediction is empty."""

    def hausdorff_mm(self, percentile: float = PERCENTILE) -> float:
        """The larger of the two directed percentiles, interpolated linearly; 100 gives the Hausdorff distance.

        That is the definition of MONAI's ``compute_hausdorff_distance``, of DeepMind's ``surface-distance`` (which
        weights each element by its area) and of the Metrics Reloaded framework (Maier-Hein et al., 2024): pooling
        both directions would let a large surface hide a small one.
        """
        if not len(self.to_reference_mm) and not len(self.to_predicted_mm):
            return math.nan
        if not len(self.to_reference_mm) or not len(self.to_predicted_mm):
            return math.inf
        return max(float(np.percentile(d, percentile)) for d in (self.to_reference_mm, self.to_predicted_mm))


def surface_distances(
    predicted: NDArray[np.generic],
    reference: NDArray[np.generic],
    grid: Grid,
    labels: Collection[int] | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> tuple[SurfaceDistances, ...]:
    """Measure the distances between the surfaces of two masks in world mm, also on anisotropic and sheared grids.

    The surfaces of all labels are found in one pass over the voxels. The nearest of the other surface is looked up in
    a k-d tree, and only for the voxels that the surfaces don't share: far fewer than a distance map has.

    Arguments and errors as ``volseg.metrics.compare``; both masks are background where ``ignored`` is. One record for each label,
    ascending.
    """
    if predicted.shape != grid.shape:
        raise GeometryError(f"The mask's shape {predicted.shape} is not its grid's, {grid.shape}.")
    one, other, order, box = crop(predicted, reference, margin=0 if ignored is None else 1)
    open_ = None if ignored is None else np.asarray(ignored[box], order=order)
    first, second = _Surface.of(one, order, open_), _Surface.of(other, order, open_)
    present = set(first.labels) | set(second.labels)
    wanted = sorted(set(labels)) if labels is not None else sorted(present)
    axes_mm = grid.affine[:3, :3]
    return tuple(_distances(label, first, second, axes_mm) for label in wanted)


@dataclass(frozen=True, eq=False)
class _Surface:
    """The surface voxels of all labels, sorted by label."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    on: NDArray[np.generic]
    """(voxels,) the label of a surface voxel, 0 elsewhere, in memory order."""
    places: NDArray[np.intp]
    """(n,) where the surface voxels are, in memory order, label after label."""
    labels: tuple[int, ...]
    ends: NDArray[np.intp]

    @classmethod
    def of(
        cls, mask: NDArray[np.generic], order: Literal["C", "F"], ignored: NDArray[np.bool_] | None = None
    ) -> _Surface:
        edge = np.zeros_like(mask, dtype=bool)
        for axis in range(3):
            voxels, edges = np.moveaxis(mask, axis, 0), np.moveaxis(edge, axis, 0)
            differs = voxels[1:] != voxels[:-1]
            if ignored is not None:
                beside = np.moveaxis(ignored, axis, 0)
                differs &= ~(beside[1:] | beside[:-1])
            edges[1:] |= differs
            edges[:-1] |= differs
            # Beyond the box there is background, or the image ends.
            edges[:1] = edges[-1:] = True
        on = np.multiply(mask, edge).ravel(order=order)
        places = np.flatnonzero(on)
        here = on[places]
        places = places[np.argsort(here, kind="stable")]
        labels, counts = np.unique(here, return_counts=True)
        return cls(mask.shape, order, on, places, tuple(int(label) for label in labels), np.cumsum(counts))

    def voxels(self, label: int) -> NDArray[np.intp]:
        """(n,) the places of one label's surface voxels; empty when it has none."""
        if label not in self.labels:
            return self.places[:0]
        position = self.labels.index(label)
        return self.places[self.ends[position - 1] if position else 0 : self.ends[position]]

    def points_mm(self, places: NDArray[np.intp], axes_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) mm from the box's first voxel."""
        voxels = np.unravel_index(places, self.shape, order=self.order)
        points: NDArray[np.float64] = np.stack(voxels, axis=-1) @ axes_mm.T
        return points


def _distances(label: int, first: _Surface, second: _Surface, axes_mm: NDArray[np.float64]) -> SurfaceDistances:
    from scipy.spatial import KDTree

    measured = []
    for here, there in ((first, second), (second, first)):
        places, targets = here.voxels(label), there.voxels(label)
        if not len(targets):
            measured.append(np.full(len(places), math.inf))
            continue
        distances_mm = np.zeros(len(places))
        apart = there.on[places] != label
        if apart.any():
            # Points on a lattice have many equal coordinates, which balancing by medians is slow at.
            points_mm = there.points_mm(targets, axes_mm)
            tree = KDTree(points_mm, leafsize=TREE_LEAF, balanced_tree=False, compact_nodes=False)
            distances_mm[apart] = tree.query(here.points_mm(places[apart], axes_mm))[0]
        measured.append(distances_mm)
    return SurfaceDistances(label, measured[0], measured[1])
