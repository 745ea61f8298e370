"""Every metric of how well a label agrees with its reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, get_type_hints

import numpy as np

from volseg.errors import GeometryError
from volseg.metrics.overlap import Overlap, overlaps, ratio
from volseg.metrics.surfaces import SurfaceDistances, surface_distances

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from volseg.grid import Grid


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
        float, Metric("relative", lambda found: ratio(found.difference, found.overlap.reference), 3)
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
