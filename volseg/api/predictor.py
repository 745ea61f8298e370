"""A trained bundle, loaded once for volumes in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.api.calling import path_of
from volseg.api.reporting import listener
from volseg.dataset.case import Case
from volseg.dicom.file.archives import private_folder
from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.verbs.predict import PredictOptions
from volseg.volume import Mask, Volume, axes_to_reverse, write_image

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.options import StrPath
    from volseg.progress import Progress
    from volseg.verbs.predict.model import Model

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
        from volseg.verbs.predict.case import segment
        from volseg.verbs.predict.sources import Prepared

        if not isinstance(volume, Volume):
            raise UsageError(f"volume takes a Volume, not {type(volume).__name__}. Volume.of makes one.")
        # Any bundle's preprocessing begins with a file; its own reader makes sure that the mask is that of the file.
        with private_folder() as folder, listener(progress).task("Predicting", 1.0) as task:
            image = folder / "volume.nii"
            write_image(image, volume)
            mask, _, warnings = segment(Prepared(Case("volume", (image,), None)), None, self.model, task.advance)
        for warning in warnings:
            log.warning("%s", warning)
        return Mask(np.flip(mask, axes_to_reverse(volume.grid)), volume.grid, self.labels)


def load(
    bundle_dir: StrPath,
    *,
    fold: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    raw: bool = False,
    precision: Literal["float32", "bfloat16", "auto"] = "auto",
) -> Predictor:
    """Load a trained bundle, to segment many volumes in memory.

    Args:
        bundle_dir: the bundle.
        fold: whose model; by default the one that is published.
        device: cpu or cuda; a GPU where there is one unless told otherwise.
        raw: leave out the bundle's rules for labels.
        precision: what the network computes in; ``auto`` takes bfloat16 where the device is made for it.

    Raises:
        UsageError: there is no such bundle.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete or has no weights.
    """
    options = PredictOptions(fold=fold, device=device, raw=raw, precision=precision)
    return load_for(path_of(bundle_dir, "bundle_dir"), options)


def load_for(bundle_dir: Path, options: PredictOptions) -> Predictor:
    """Load a bundle as the options of ``predict`` ask for."""
    from volseg.bundle.folder import open_bundle
    from volseg.device import choose_device
    from volseg.verbs.predict.model import ModelFile, load_model

    bundle = open_bundle(bundle_dir)
    device = choose_device(options.device)
    file = ModelFile.of(bundle, options.fold, device, raw=options.raw, precision=options.precision)
    # Not through the cache, which is the verb's and keeps one model alive.
    model = load_model.__wrapped__(file)
    return Predictor(bundle.root.resolve().name, model, bundle.labels)
