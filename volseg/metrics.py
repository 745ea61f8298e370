"""Segmentation metrics: overlap, volume, and surface distances in mm.

What can't be said is NaN, never a flattering 0 or 1:

====================  ==================  =====================  =====================
value                 label in neither    only in the reference  only in the prediction
====================  ==================  =====================  =====================
Dice, IoU             NaN                 0                      0
sensitivity           NaN                 0                      NaN
precision             NaN                 NaN                    0
HD95                  NaN                 infinite               infinite
relative volume       NaN                 -1                     NaN
====================  ==================  =====================  =====================

Specificity is NaN only where the reference fills the whole image.

Voxels that a reference leaves open, nnU-Net's ignore label, are in neither mask and in no count. Where they cut a
structure, the cut is no surface: a distance is measured between surfaces that were judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.labels import MAX_INDEX
from volseg.voxels import bounding_box, memory_order, slabs, union

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from numpy.typing import NDArray

    from volseg.grid import Grid

PERCENTILE = 95.0
"""The HD95's: one stray voxel decides the largest distance (Huttenlocher et al., 1993), not this one."""
TREE_LEAF = 32
"""Points in a leaf of the search tree: measured fastest for surfaces of 10,000 to 100,000 voxels."""


@dataclass(frozen=True)
class Overlap:
    """What two masks have in common for one label, in voxels."""

    label: int
    both: int
    predicted: int
    reference: int
    total: int
    """All voxels of the grid."""

    @property
    def dice(self) -> float:
        """Twice what is common over the sum of both (Dice, 1945)."""
        return _ratio(2 * self.both, self.predicted + self.reference)

    @property
    def iou(self) -> float:
        """What is common over what is in either (Jaccard, 1912)."""
        return _ratio(self.both, self.predicted + self.reference - self.both)

    @property
    def sensitivity(self) -> float:
        """The share of the reference that was found; also called recall."""
        return _ratio(self.both, self.reference)

    @property
    def precision(self) -> float:
        """The share of what was found that is in the reference; also called positive predictive value."""
        return _ratio(self.both, self.predicted)

    @property
    def specificity(self) -> float:
        """The share of what is not in the reference that was left out. It grows with the field of view."""
        outside = self.total - self.reference
        return _ratio(outside - (self.predicted - self.both), outside)


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


@dataclass(frozen=True, eq=False)
class Agreement:
    """What was measured of one label of one case: all that a metric may use."""

    overlap: Overlap
    surfaces: SurfaceDistances
    voxel_ml: float

    @property
    def difference(self) -> int:
        """Voxels predicted less those of the reference."""
        return self.overlap.predicted - self.overlap.reference


@dataclass(frozen=True)
class Metric:
    """A figure of how well a label agrees with its reference; each is a field of ``LabelScore``, annotated with this."""

    title: str
    """The head of its column, with its unit."""
    of: Callable[[Agreement], float]
    decimals: int = 4
    unit: str = ""
    higher_is_better: bool | None = None
    """None where neither is, as of a volume."""


@dataclass(frozen=True)
class LabelScore:
    """How well one label of one case agrees with its reference: the registry of the metrics.

    A metric more is a field more.
    """

    label: int
    dice: Annotated[float, Metric("Dice", lambda found: found.overlap.dice, higher_is_better=True)]
    iou: Annotated[float, Metric("IoU", lambda found: found.overlap.iou, higher_is_better=True)]
    sensitivity: Annotated[float, Metric("sensitivity", lambda found: found.overlap.sensitivity, higher_is_better=True)]
    specificity: Annotated[float, Metric("specificity", lambda found: found.overlap.specificity, higher_is_better=True)]
    precision: Annotated[float, Metric("precision", lambda found: found.overlap.precision, higher_is_better=True)]
    hd95_mm: Annotated[
        float, Metric("HD95 mm", lambda found: found.surfaces.hausdorff_mm(), 2, "mm", higher_is_better=False)
    ]
    predicted_ml: Annotated[
        float, Metric("predicted ml", lambda found: found.overlap.predicted * found.voxel_ml, 3, "ml")
    ]
    reference_ml: Annotated[
        float, Metric("reference ml", lambda found: found.overlap.reference * found.voxel_ml, 3, "ml")
    ]
    volume_difference_ml: Annotated[
        float, Metric("difference ml", lambda found: found.difference * found.voxel_ml, 3, "ml")
    ]
    """Predicted less reference."""
    relative_volume_difference: Annotated[
        float, Metric("relative", lambda found: _ratio(found.difference, found.overlap.reference), 3)
    ]
    """The volume difference over the reference's volume."""

    @classmethod
    def of(cls, found: Agreement) -> LabelScore:
        """Every metric of what was measured."""
        return cls(found.overlap.label, **{name: metric.of(found) for name, metric in METRICS.items()})

    @classmethod
    def absent(cls, label: int) -> LabelScore:
        """The score of a label that neither mask has."""
        nothing = np.zeros(0)
        return cls.of(Agreement(Overlap(label, 0, 0, 0, 1), SurfaceDistances(label, nothing, nothing), 0.0))


METRICS: dict[str, Metric] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(LabelScore, globals(), include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
"""Each metric by its name, in the order of their columns."""


@dataclass(frozen=True)
class Summary:
    """The values of many cases in short, and how many of them count."""

    mean: float
    """Of the finite values; NaN when there is none."""
    standard_deviation: float
    """Of the finite values, with n - 1; NaN below two."""
    median: float
    """Of the finite and the infinite values: an infinite distance makes it worse, as it should."""
    counted: int
    """Finite values: those in the mean."""
    infinite: int
    """Infinite values: a label that only one of the masks has. They are not in the mean."""
    undefined: int
    """NaN: a label that neither mask has, or a share of nothing. They are in no figure."""


def summarise(values: Iterable[float]) -> Summary:
    """Sum up the values of many cases."""
    every = np.array(list(values), np.float64)
    defined = every[~np.isnan(every)]
    finite = defined[np.isfinite(defined)]
    with np.errstate(invalid="ignore"):  # the median between two infinite values is infinite
        median = float(np.sort(defined)[[(len(defined) - 1) // 2, len(defined) // 2]].mean()) if len(defined) else None
    return Summary(
        mean=float(finite.mean()) if len(finite) else math.nan,
        standard_deviation=float(finite.std(ddof=1)) if len(finite) > 1 else math.nan,
        median=math.nan if median is None else median,
        counted=len(finite),
        infinite=len(defined) - len(finite),
        undefined=len(every) - len(defined),
    )


def compare(
    predicted: NDArray[np.generic],
    reference: NDArray[np.generic],
    grid: Grid,
    labels: Collection[int] | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> tuple[LabelScore, ...]:
    """Score a mask against its reference, all labels in one pass.

    Args:
        predicted: (i, j, k) whole numbers, 0 is the background.
        reference: the same, on the same grid.
        grid: where the voxels lie.
        labels: those to score; those of either mask when None.
        ignored: (i, j, k) where nobody judged; these voxels count nowhere. None where all were judged.

    Returns:
        One score for each label, ascending.

    Raises:
        GeometryError: the masks and the grid have different shapes.
        InputError: a mask is not of whole numbers from 0 to 65535.
    """
    if ignored is not None:
        if not ignored.shape == predicted.shape == reference.shape:
            raise GeometryError(f"What is ignored has the shape {ignored.shape}, and a mask has another.")
        predicted, reference = (np.where(ignored, mask.dtype.type(0), mask) for mask in (predicted, reference))
    counted = overlaps(predicted, reference, labels)
    if ignored is not None:
        judged = ignored.size - int(np.count_nonzero(ignored))
        counted = tuple(replace(overlap, total=judged) for overlap in counted)
    distances = surface_distances(predicted, reference, grid, [overlap.label for overlap in counted], ignored)
    if ignored is not None:  # what is there, and has no surface that was judged, is at no distance
        distances = tuple(
            SurfaceDistances(one.label, np.zeros(0), np.zeros(0))
            if overlap.predicted and overlap.reference and not (len(one.to_reference_mm) and len(one.to_predicted_mm))
            else one
            for overlap, one in zip(counted, distances, strict=True)
        )
    return tuple(
        LabelScore.of(Agreement(overlap, surfaces, grid.voxel_volume_mm3 / 1000))
        for overlap, surfaces in zip(counted, distances, strict=True)
    )


def overlaps(
    predicted: NDArray[np.generic], reference: NDArray[np.generic], labels: Collection[int] | None = None
) -> tuple[Overlap, ...]:
    """Count what two masks have in common, for all labels in one pass; arguments and errors as ``compare``."""
    one, other, *_ = _crop(predicted, reference)
    size = int(max(one.max(initial=0), other.max(initial=0), max(labels or (), default=0))) + 1
    sums = np.zeros((3, size), np.int64)
    for slab in slabs(one):
        p, r = one[slab].ravel(order="K"), other[slab].ravel(order="K")
        for row, values in enumerate((p, r, p[p == r])):
            counts = np.bincount(values)
            sums[row, : len(counts)] += counts
    both, found, true = sums[2], sums[0], sums[1]
    wanted = sorted(set(labels)) if labels is not None else (np.flatnonzero((found + true)[1:]) + 1).tolist()
    return tuple(
        Overlap(label, int(both[label]), int(found[label]), int(true[label]), predicted.size) for label in wanted
    )


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

    Arguments and errors as ``compare``; both masks are background where ``ignored`` is. One record for each label,
    ascending.
    """
    if predicted.shape != grid.shape:
        raise GeometryError(f"The mask's shape {predicted.shape} is not its grid's, {grid.shape}.")
    one, other, order, box = _crop(predicted, reference, margin=0 if ignored is None else 1)
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


def _crop(
    predicted: NDArray[np.generic], reference: NDArray[np.generic], margin: int = 0
) -> tuple[NDArray[np.generic], NDArray[np.generic], Literal["C", "F"], tuple[slice, ...]]:
    """Both masks inside the smallest box that holds what is in either, contiguous in one memory order; and the box."""
    if predicted.shape != reference.shape or predicted.ndim != 3:
        raise GeometryError(f"Two masks of different shapes, {predicted.shape} and {reference.shape}.")
    one, other = _whole(predicted), _whole(reference)
    smallest = union(bounding_box(one), bounding_box(other))
    box = tuple(slice(max(0, along.start - margin), along.stop + margin) for along in smallest)
    order = memory_order(predicted)
    return np.asarray(one[box], order=order), np.asarray(other[box], order=order), order, box


def _whole(mask: NDArray[np.generic]) -> NDArray[np.unsignedinteger]:
    if mask.dtype.kind not in "bui":
        raise InputError(f"A mask holds whole numbers, not {mask.dtype}.", code="mask-values")
    if mask.dtype in (np.uint8, np.uint16, np.bool_):
        return mask.view(np.uint8) if mask.dtype == np.bool_ else mask  # type: ignore[return-value]
    low, high = int(mask.min(initial=0)), int(mask.max(initial=0))
    if low < 0 or high > MAX_INDEX:
        raise InputError(f"A mask has labels from 0 to {MAX_INDEX}, not from {low} to {high}.", code="mask-values")
    return mask.astype(np.uint16)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
