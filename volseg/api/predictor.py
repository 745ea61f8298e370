"""A trained bundle, loaded once for volumes in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.api.calling import Keywords, options_of, path_of, python_words, worded
from volseg.api.reporting import listener
from volseg.dataset.case import Case
from volseg.dicom.file.archives import private_folder
from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.verbs.predict import PredictOptions
from volseg.volume import Mask, Volume, axes_to_reverse, write_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.options import StrPath
    from volseg.progress import Progress
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.segmenting import Segmented

log = logging.getLogger("volseg")


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

    def predict(self, volume: Volume, *, progress: Progress | bool = True) -> Mask:
        """Segment a volume: the very mask that ``volseg.predict`` makes of its file.

        What a person should know, such as an empty mask, is a warning of the log "volseg".

        Args:
            volume: (i, j, k), or (i, j, k, channel).
            progress: who is told how far the work is; see ``volseg.predict``.

        Raises:
            InputError: the volume has other channels than the bundle takes, or voxels that are not finite.
            GeometryError: the grid is sheared, which NIfTI can't hold.
            FileError: no temporary file can be written.
        """
        from volseg.verbs.predict.segmenting import segment

        found = self._segmented(volume, segment, progress)
        return self._mask(found.masks[0], volume, self.model.rules.table_of(self.labels, found.values_outside))

    def predict_regions(self, volume: Volume, *, progress: Progress | bool = True) -> dict[str, Mask]:
        """Segment the regions of a volume, which may overlap: the very masks of ``volseg.predict(..., regions=True)``.

        Args:
            volume: (i, j, k), or (i, j, k, channel).
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
        found = self._segmented(volume, segment_regions, progress)
        masks = zip(regions, found.masks, strict=True)
        return {region.name: self._mask(mask, volume, region.table) for region, mask in masks}

    def _segmented(self, volume: Volume, how: Callable[..., Segmented], progress: Progress | bool) -> Segmented:
        from volseg.verbs.predict.checks import check
        from volseg.verbs.predict.sources import Prepared

        if not isinstance(volume, Volume):
            raise UsageError(f"volume takes a Volume, not {type(volume).__name__}. Volume.of makes one.")
        # Any bundle's preprocessing begins with a file; its own reader makes sure that the mask is that of the file.
        with private_folder() as folder, listener(progress).task("Predicting", 1.0) as task:
            image = folder / "volume.nii"
            write_image(image, volume)
            checked = check(Prepared(Case("volume", (image,), None)), None, self.model)
            found = how(checked, self.model, task.advance)
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
) -> Predictor:
    """Load a trained bundle, to segment many volumes in memory.

    Args:
        bundle_dir: the bundle.
        fold: whose model; by default the one that is published.
        folds: of the models that predict together instead, by the mean of their probabilities: ``all``, or ``0,2``.
        device: cpu or cuda; a GPU where there is one unless told otherwise.
        raw: leave out the bundle's rules for labels.
        precision: what the network computes in; ``auto`` takes bfloat16 where the device is made for it.

    Raises:
        UsageError: there is no such bundle.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete or has no weights.
    """
    given = {"fold": fold, "folds": folds, "device": device, "raw": raw, "precision": precision}
    with python_words(_Load):
        return load_for(path_of(bundle_dir, "bundle_dir"), options_of(_Load, None, given, "load"))


def load_for(bundle_dir: Path, options: PredictOptions) -> Predictor:
    """Load a bundle as the options of ``predict`` ask for."""
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.shipped import find_bundle
    from volseg.device import choose_device
    from volseg.verbs.predict.model import load_model
    from volseg.verbs.predict.model_file import ModelFile

    bundle = open_bundle(find_bundle(bundle_dir))
    device = choose_device(options.device)
    file = ModelFile.of(bundle, options.fold, device, raw=options.raw, precision=options.precision, folds=options.folds)
    # Not through the cache, which is the verb's and keeps one model alive.
    model = load_model.__wrapped__(file)
    return Predictor(bundle.root.resolve().name, model, bundle.labels)
