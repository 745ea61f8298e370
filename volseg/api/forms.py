"""The forms of verbs that take volumes and masks in memory, beside those that take paths."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, cast, overload

import numpy as np

from volseg.api.calling import Keywords, function_of, path_of, spacings_of
from volseg.api.predictor import AnyImage, load_for, volume_of
from volseg.errors import UsageError
from volseg.grid import Grid, three_spacings
from volseg.postprocessing import RuleOptions
from volseg.verbs.evaluate import EvaluateOptions, evaluate_volumes
from volseg.verbs.postprocess import PostprocessOptions
from volseg.verbs.predict import PredictOptions
from volseg.volume import Mask, Volume
from volseg.voxels import values_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from volseg.evaluation import Evaluation
    from volseg.options import Many, StrPath
    from volseg.outcomes import Ledger
    from volseg.progress import Progress
    from volseg.verbs.predict.model_file import Precision

P = ParamSpec("P")
IN_MEMORY = (
    *("fold", "folds", "device", "raw", "regions", "precision", "memory", "tta", "overlap", "labels"),
    *(one.name for one in fields(PredictOptions) if one.name.startswith("roi")),
    *(one.name for one in fields(RuleOptions)),
)
"""The options of ``predict`` that a mask depends on, or the memory that it takes."""


class Postprocess(Protocol[P]):
    """``volseg.postprocess``: masks of a folder, one mask, or an array on its grid."""

    @overload
    def __call__(self, masks: StrPath, out_dir: StrPath, /, *args: P.args, **options: P.kwargs) -> Ledger: ...
    @overload
    def __call__(self, mask: Mask, /, *args: P.args, **options: P.kwargs) -> Mask: ...
    @overload
    def __call__(self, array: NDArray[Any], grid: Grid, /, *args: P.args, **options: P.kwargs) -> NDArray[Any]: ...


class Evaluate(Protocol[P]):
    """``volseg.evaluate``: folders or files, or two masks in memory."""

    @overload
    def __call__(self, predicted: StrPath, reference: StrPath, /, *args: P.args, **options: P.kwargs) -> Evaluation: ...
    @overload
    def __call__(
        self, predicted: Volume, reference: Volume, /, *, labels: Many[int | str] = ..., regions: Many[str] = ...
    ) -> Evaluation: ...
    @overload
    def __call__(
        self,
        predicted: ArrayLike,
        reference: ArrayLike,
        /,
        *,
        grid: Grid,
        labels: Many[int | str] = ...,
        regions: Many[str] = ...,
    ) -> Evaluation: ...
    @overload
    def __call__(
        self,
        predicted: ArrayLike,
        reference: ArrayLike,
        /,
        *,
        spacing_mm: Many[float],
        labels: Many[int | str] = ...,
        regions: Many[str] = ...,
    ) -> Evaluation: ...


class Predict(Protocol[P]):
    """``volseg.predict``: images or DICOM on the disk, or one volume in memory."""

    @overload
    def __call__(
        self, bundle_dir: StrPath, source: StrPath, out_dir: StrPath, /, *args: P.args, **options: P.kwargs
    ) -> Ledger: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # of the same call, the first that fits counts
        self,
        bundle_dir: StrPath,
        volume: AnyImage,
        /,
        *,
        regions: Literal[True],
        fold: int | None = ...,
        device: Literal["cpu", "cuda"] | None = ...,
        raw: bool = ...,
        precision: Precision = ...,
        progress: Progress | bool = ...,
    ) -> dict[str, Mask]: ...
    @overload
    def __call__(self, bundle_dir: StrPath, volume: AnyImage, /, *args: P.args, **options: P.kwargs) -> Mask: ...
    @overload
    def __call__(
        self, bundle_dir: StrPath, array: NDArray[Any], grid: Grid, /, *args: P.args, **options: P.kwargs
    ) -> Mask: ...


def predict_forms(
    run: Callable[[Path, Path, Path, PredictOptions, Progress], Ledger],
    keywords: Callable[P, Keywords[PredictOptions]],
) -> Predict[P]:
    """``volseg.predict`` out of the verb and its keywords."""
    return cast("Predict[P]", function_of(run, keywords, _predict))


def postprocess_forms(
    run: Callable[[Path, Path, PostprocessOptions, Progress], Ledger],
    keywords: Callable[P, Keywords[PostprocessOptions]],
) -> Postprocess[P]:
    """``volseg.postprocess`` out of the verb and its keywords."""
    return cast("Postprocess[P]", function_of(run, keywords, _postprocess))


def evaluate_forms(
    run: Callable[[Path, Path, EvaluateOptions, Progress], Evaluation], keywords: Callable[P, Keywords[EvaluateOptions]]
) -> Evaluate[P]:
    """``volseg.evaluate`` out of the verb and its keywords."""
    return cast("Evaluate[P]", function_of(run, keywords, _evaluate))


def _predict(
    options: PredictOptions,
    bundle_dir: object,
    volume: object = None,
    grid: object = None,
    *,
    progress: Progress | bool = True,
) -> Mask | dict[str, Mask]:
    """``predict(bundle_dir, volume)`` gives the ``Mask`` of a ``Volume``, of an image of SimpleITK or nibabel, or of a
    ``MetaTensor``; ``predict(bundle_dir, array, grid)`` that of an array (i, j, k). With ``regions=True`` it gives one for
    each region by its name. ``volseg.load`` keeps the bundle for many."""
    image = volume_of(volume, grid)
    plain = PredictOptions()
    given = [one.name for one in fields(options) if getattr(options, one.name) != getattr(plain, one.name)]
    others = [name for name in given if name not in IN_MEMORY]
    if others:
        raise UsageError(
            f"{', '.join(others)}: for files alone. In memory, volseg.predict gives the mask, and takes "
            f"{', '.join(IN_MEMORY)}."
        )
    predictor = load_for(path_of(bundle_dir, "bundle_dir"), options)
    return (predictor.predict_regions if options.regions else predictor.predict)(image, progress=progress)


def _postprocess(options: PostprocessOptions, mask: object, grid: object = None) -> Mask | NDArray[Any]:
    """``postprocess(mask, ...)`` gives the ``Mask`` that the rules make of a ``Mask``, whose labels may be named;
    ``postprocess(array, grid, ...)`` gives an array (i, j, k) of the same type."""
    if options.overwrite or options.jobs:
        raise UsageError("--overwrite and --jobs are for masks on the disk.")
    rules = options.rules(mask.labels if isinstance(mask, Mask) else None)
    if not rules:
        raise UsageError("Nothing was asked for: give keep_largest, fill_holes or another rule.", code="nothing-asked")
    if isinstance(mask, Mask) and grid is None:
        cleaned, _ = rules.apply(mask.array, mask.grid)
        named = mask.labels and rules.named(mask.labels, values_in(cleaned))
        return replace(mask, array=cleaned, labels=named)
    if not isinstance(mask, np.ndarray) or not isinstance(grid, Grid):
        raise UsageError("volseg.postprocess takes two folders, a Mask, or an array and its Grid.")
    cleaned, changes = rules.apply(Mask(mask, grid).array, grid)
    return cleaned if changes.split else cleaned.astype(mask.dtype, copy=False)


def _evaluate(
    options: EvaluateOptions,
    predicted: object,
    reference: object = None,
    *,
    grid: object = None,
    spacing_mm: object = None,
) -> Evaluation:
    """``evaluate(mask, reference)`` compares two masks on one grid; ``evaluate(array, reference, grid=...)`` or
    ``spacing_mm=...`` two arrays (i, j, k). ``labels`` and ``regions`` are the options that count."""
    if replace(options, labels=(), regions=()) != EvaluateOptions():
        raise UsageError("In memory, volseg.evaluate takes labels and regions alone; Evaluation.write writes files.")
    if isinstance(predicted, Volume) and isinstance(reference, Volume):
        if grid is not None or spacing_mm is not None:
            raise UsageError("The masks know their grids: leave grid and spacing_mm out.")
        return evaluate_volumes(_mask_of(predicted), _mask_of(reference), options)
    arrays = [np.asarray(one) for one in (predicted, reference)]
    if any(array.ndim != 3 for array in arrays):
        raise UsageError("volseg.evaluate takes two paths, two masks, or two arrays (i, j, k) with grid or spacing_mm.")
    if (grid is None) == (spacing_mm is None):
        raise UsageError("Give either grid or spacing_mm: distances and volumes are in mm.")
    if grid is None:
        steps = three_spacings(spacings_of(spacing_mm))
        grid = Grid(cast("tuple[int, int, int]", arrays[1].shape), np.diag([*steps, 1.0]))
    if not isinstance(grid, Grid):
        raise UsageError(f"grid takes a Grid, not {type(grid).__name__}.")
    return evaluate_volumes(Mask(arrays[0], grid), Mask(arrays[1], grid), options)


def _mask_of(volume: Volume) -> Mask:
    return volume if isinstance(volume, Mask) else Mask(volume.array, volume.grid)
