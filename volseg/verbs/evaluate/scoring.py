"""The scores of one case, by labels or by regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from volseg.errors import GeometryError, InputError, VolsegError
from volseg.evaluation import ScoredCase
from volseg.metrics import LabelScore, compare
from volseg.outcomes import Status
from volseg.regions import read_region, union_of
from volseg.resampling import turned_onto
from volseg.volume import Volume, read_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.labels import Region
    from volseg.verbs.evaluate.sides import RegionSource

RegionMasksOfCase: TypeAlias = "tuple[Volume, Volume, NDArray[np.bool_] | None]"
"""The predicted mask of a region, its reference, and where nobody judged."""


@dataclass(frozen=True)
class Pair:
    """A case: its predicted mask and its reference; several files where names come twice.

    Args:
        name: of the case.
        predicted: the files of its name on the one side.
        reference: those on the other.
        labels: to score; none for all.
        ignore: the number of voxels of the reference that nobody judged; None where every voxel is.
    """

    name: str
    predicted: tuple[Path, ...]
    reference: tuple[Path, ...]
    labels: tuple[int, ...]
    ignore: int | None = None

    @property
    def paths(self) -> Iterable[Path]:
        """All files that are read."""
        return (*self.predicted, *self.reference)

    def score(self) -> ScoredCase:
        """Compare the two, label by label."""
        sides = (("predicted", self.predicted), ("reference", self.reference))
        for which, paths in sides:
            if len(paths) > 1:
                raise InputError(
                    f"Several {which} masks bear this name: {', '.join(path.name for path in paths)}. Keep one.",
                    code="name-twice",
                )
        predicted, reference = (_read(which, path, read_mask) for which, (path,) in sides)
        require_judged(predicted, self.ignore)
        ignored = ignored_in(reference, self.ignore)
        return ScoredCase(
            self.name, Status.DONE, "done", scores=compare_masks(predicted, reference, self.labels or None, ignored)
        )


@dataclass(frozen=True)
class RegionPair:
    """A case, and for each region the predicted one and its reference."""

    name: str
    regions: tuple[tuple[Region, RegionSource, RegionSource], ...]
    ignore: int | None = None

    @property
    def paths(self) -> Iterable[Path]:
        """All files that are read."""
        return {path for _, *sources in self.regions for source in sources for path in source.paths}

    def score(self) -> ScoredCase:
        """Compare the two, region by region."""
        masks: dict[Path, Volume] = {}

        def of(which: str, region: Region, source: RegionSource) -> Volume:
            if len(source.paths) != 1:
                what = "Several masks" if source.paths else "No mask"
                raise InputError(
                    f"{what} of the {which} region {region.name} bear this case's name.", code="missing-region"
                )
            (path,) = source.paths
            if not source.labels:
                return _read(which, path, read_region)
            if path not in masks:
                masks[path] = _read(which, path, read_mask)
                if which == "predicted":
                    require_judged(masks[path], self.ignore)
            return union_of(masks[path], source.labels)

        def both(region: Region, one: RegionSource, other: RegionSource) -> RegionMasksOfCase:
            found, true = of("predicted", region, one), of("reference", region, other)
            return found, true, ignored_in(masks[other.paths[0]], self.ignore) if other.labels else None

        return scored_regions(self.name, (both(*one) for one in self.regions))


def score(pair: Pair | RegionPair) -> ScoredCase:
    """The scores of a case.

    Raises:
        GeometryError: the two sides lie on different grids, with the code ``grids-differ``.
        InputError: a file is no such mask, or one is absent or there more than once.
        FileError: one can't be read.
    """
    return pair.score()


def scored_regions(case: str, masks: Iterable[RegionMasksOfCase]) -> ScoredCase:
    """The scores of regions, numbered in their order, from masks that are 1 inside: the predicted and its reference.

    With each pair comes where nobody judged, if anywhere.
    """
    scores = (compare_masks(predicted, reference, (1,), ignored)[0] for predicted, reference, ignored in masks)
    return ScoredCase(
        case, Status.DONE, "done", scores=tuple(replace(one, label=number) for number, one in enumerate(scores, 1))
    )


def _read(which: str, path: Path, read: Callable[[Path], Volume]) -> Volume:
    try:
        return read(path)
    except VolsegError as error:
        raise error.reworded(f"The {which} mask: {error.message}") from error


def ignored_in(reference: Volume, ignore: int | None) -> NDArray[np.bool_] | None:
    """(i, j, k) where a reference has the ignore label; None where it has none."""
    ignored = None if ignore is None else np.asarray(reference.array == ignore)
    return ignored if ignored is not None and ignored.any() else None


def require_judged(predicted: Volume, ignore: int | None) -> None:
    """Refuse a prediction with the ignore label: it says nothing of these voxels, and would be scored as if it did.

    Raises:
        InputError: with the code ``ignore-predicted``.
    """
    if ignore is not None and bool((predicted.array == ignore).any()):
        raise InputError(
            f"The predicted mask has voxels of the ignore label, {ignore}, which stands for what nobody judged. A "
            "prediction has to give every voxel a label.",
            code="ignore-predicted",
        )


def compare_masks(
    predicted: Volume,
    reference: Volume,
    labels: Sequence[int] | None,
    ignored: NDArray[np.bool_] | None = None,
) -> tuple[LabelScore, ...]:
    """The scores of one mask; see ``volseg.metrics.compare``. Masks of the same voxels may list them in other orders.

    What is ignored lies on the reference's grid.

    Raises:
        GeometryError: the two lie on different grids, with the code ``grids-differ``.
    """
    apart = predicted.grid.difference(reference.grid)
    alike = predicted if apart is None else turned_onto(predicted, reference.grid)
    if alike is None:
        raise GeometryError(
            f"The prediction and its reference lie on different grids: {apart}. Resample the prediction onto the "
            "reference's grid with the nearest neighbour, or predict on the image that the reference was drawn on.",
            code="grids-differ",
        )
    return compare(alike.array, reference.array, reference.grid, labels, ignored)
