"""A trained bundle, loaded once for volumes in memory."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from volseg.api.calling import Keywords, options_of, path_of, python_words, worded
from volseg.api.reporting import listener
from volseg.dataset.case import Case
from volseg.dicom.file.archives import private_folder
from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.labels import LabelTable
from volseg.verbs.predict import PredictOptions
from volseg.volume import Mask, Volume, axes_to_reverse, write_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from volseg.options import Many, StrPath
    from volseg.progress import Progress
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.segmenting import Segmented

log = logging.getLogger("volseg")


class SitkImage(Protocol):
    """An image of SimpleITK."""

    def GetDirection(self) -> tuple[float, ...]:
        """Of its axes."""


class AffineImage(Protocol):
    """An image of nibabel, or a ``MetaTensor``."""

    @property
    def affine(self) -> Any:
        """From voxels to mm."""


AnyImage: TypeAlias = Volume | SitkImage | AffineImage


@dataclass(frozen=True, eq=False, repr=False)
class Predictor:
    """A trained bundle, loaded by ``volseg.load``.

    Args:
        name: the bundle's folder.
        model: its parts for inference.
        labels: what the numbers in its masks stand for.
    """

    name: str
    model: Model
    labels: LabelTable

    def __repr__(self) -> str:
        return f"Predictor({self.name}, {self.model.device}; {', '.join(self.labels.names)})"

    def predict(self, volume: AnyImage, *, progress: Progress | bool = True) -> Mask:
        """Segment a volume: the very mask that ``volseg.predict`` makes of its file.

        What a person should know, such as an empty mask, is a warning of the log "volseg".

        Args:
            volume: a ``Volume`` (i, j, k) or (i, j, k, channel), an image of SimpleITK or nibabel, or a ``MetaTensor``.
            progress: who is told how far the work is; see ``volseg.predict``.

        Raises:
            InputError: the volume has other channels than the bundle takes, or voxels that are not finite.
            GeometryError: the grid is sheared, which NIfTI can't hold.
            FileError: no temporary file can be written.
        """
        from volseg.verbs.predict.segmenting import segment

        image = volume_of(volume)
        found = self._segmented(image, segment, progress)
        return self._mask(found.masks[0], image, self.model.rules.table_of(self.labels, found.values_outside))

    def predict_regions(self, volume: AnyImage, *, progress: Progress | bool = True) -> dict[str, Mask]:
        """Segment the regions of a volume, which may overlap: the very masks of ``volseg.predict(..., regions=True)``.

        Args:
            volume: as in ``predict``.
            progress: who is told how far the work is; see ``volseg.predict``.

        Returns:
            For each region its mask, 1 inside and 0 outside, by the name of the region.

        Raises:
            UsageError: the bundle has no regions.
            InputError, GeometryError, FileError: as in ``predict``.
        """
        from volseg.verbs.predict.model import require_regions
        from volseg.verbs.predict.segmenting import segment_regions

        regions = require_regions(self.model).values()
        image = volume_of(volume)
        found = self._segmented(image, segment_regions, progress)
        masks = zip(regions, found.masks, strict=True)
        return {region.name: self._mask(mask, image, region.table) for region, mask in masks}

    def _segmented(self, volume: Volume, how: Callable[..., Segmented], progress: Progress | bool) -> Segmented:
        from volseg.verbs.predict.segmenting import make_ready
        from volseg.verbs.predict.sources import Prepared

        # Any bundle's preprocessing begins with a file; its own reader makes sure that the mask is that of the file.
        with private_folder() as folder, listener(progress).task("Predicting", 1.0) as task:
            image = folder / "volume.nii"
            write_image(image, volume)
            ready = make_ready(Prepared(Case("volume", (image,), None)), None, self.model)
            found = how(ready, self.model, task.advance)
        for warning in found.warnings:
            log.warning("%s", warning)
        return found

    @staticmethod
    def _mask(mask: NDArray[np.unsignedinteger], volume: Volume, labels: LabelTable) -> Mask:
        return Mask(np.flip(mask, axes_to_reverse(volume.grid)), volume.grid, labels)


@dataclass(frozen=True, kw_only=True)
class _Load(Keywords[PredictOptions], PredictOptions): ...


@worded
def load(
    bundle_dir: StrPath,
    *,
    fold: int | None = None,
    folds: str | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    raw: bool = False,
    precision: Literal["float32", "bfloat16", "auto"] = "auto",
    memory: str | None = None,
    tta: bool = False,
    overlap: float | None = None,
    labels: Many[str] = (),
    roi: str | None = None,
    roi_margin: float | None = None,
    roi_labels: Many[str] = (),
    roi_whole_box: bool = False,
) -> Predictor:
    """Load a trained bundle, to segment many volumes in memory.

    Args:
        bundle_dir: the bundle.
        fold: whose model; by default the one that is published.
        folds: of the models that predict together instead, by the mean of their probabilities: ``all``, or ``0,2``.
        device: cpu or cuda; a GPU where there is one unless told otherwise.
        raw: leave out the bundle's rules for labels.
        precision: what the network computes in; ``auto`` takes bfloat16 where the device is made for it.
        memory: how much may be taken, such as ``3GB``.
        tta: let the network see each window mirrored as well.
        overlap: of neighbouring windows, from 0 to 0.9.
        labels: those that the masks hold, by name or number.
        roi: the part of each volume that is segmented: a box, a mask file, or a bundle that is run first.
        roi_margin: how far around the mask or that bundle's labels, in mm; 10 unless stated.
        roi_labels: of the mask or that bundle, those that count.
        roi_whole_box: keep labels in all of the box around them.

    Raises:
        UsageError: there is no such bundle, or an option makes no sense.
        TrustError: a bundle would run code that nobody has trusted.
        BundleError: a bundle is incomplete or has no weights.
    """
    given = {name: value for name, value in locals().items() if name != "bundle_dir"}
    with python_words(_Load):
        return load_for(path_of(bundle_dir, "bundle_dir"), options_of(_Load, None, given, "load"))


def load_for(bundle_dir: Path, options: PredictOptions) -> Predictor:
    """Load a bundle as the options of ``predict`` ask for."""
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.scope import require_segmentation
    from volseg.bundle.shipped import find_bundle
    from volseg.verbs.predict.gathering import file_of
    from volseg.verbs.predict.model import load_model

    bundle = open_bundle(find_bundle(bundle_dir))
    require_segmentation(bundle)
    # Not through the cache, which is the verb's and keeps one model alive.
    model = load_model.__wrapped__(file_of(bundle, options, Path(tempfile.gettempdir())))
    model.load_weights()
    return Predictor(bundle.root.resolve().name, model, model.table)


def volume_of(image: object, grid: object = None) -> Volume:
    """A volume out of what programs hold images in.

    Args:
        image: a ``Volume``; an image of SimpleITK or nibabel, or MONAI's ``MetaTensor``; or with ``grid`` an array (i, j, k)
            or (i, j, k, channel).
        grid: of an array alone.

    Raises:
        UsageError: it is none, or it isn't said where an array lies.
        InputError, GeometryError: as ``Volume.of``.
    """
    if grid is None:
        if type(image).__module__.partition(".")[0] in ("SimpleITK", "nibabel", "monai"):
            return Volume.of(image)
        if isinstance(image, Volume):
            return image
    elif isinstance(grid, Grid) and isinstance(image, np.ndarray):
        return Volume(image, grid)
    if isinstance(image, np.ndarray) and grid is None:
        raise UsageError(
            "An array tells nobody how large its voxels are, nor left from right: give its Grid behind it."
        )
    raise UsageError(
        "In memory, an image is a Volume, one of SimpleITK or nibabel, a MetaTensor, or an array with its Grid; not "
        f"{type(image).__name__}{'' if grid is None else f' with {type(grid).__name__}'}."
    )
