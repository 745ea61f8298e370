"""From the images of a case to its masks: the network, the rules for labels, and what to tell of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.batch import advance_case
from volseg.dicom.file.archives import private_folder
from volseg.errors import InputError, VolsegError
from volseg.labels import BACKGROUND
from volseg.postprocessing.edit import INSTANCE_STEP
from volseg.verbs.predict.checks import CHANNEL, Checked, check
from volseg.verbs.predict.model_file import RoiBundle
from volseg.verbs.predict.roi import Area, Roi, RoiMask
from volseg.volume import Volume, read_volume, write_image
from volseg.voxels import values_in
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.inference.probabilities import Certainty, ProbabilityFile
    from volseg.inference.segmenter import PreparedImage
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.sources import Prepared

OUTSIDE = "values-outside: The mask has the values {}, which the bundle's labels don't name."
OF_VALUES = (
    "values-outside:", "The mask is empty", "Thresholds left nothing", "The rules removed all", "The network found nothing",
)  # fmt: skip
"""How warnings begin that are about the values of a mask."""
UNNAMED = "The values of the mask have neutral names, such as label 1: {}."
UNNAMED_REGIONS = "The regions have neutral names, such as region 1: {}."
RULES_LEFT_OUT = "The bundle's rules are for its merged labels, so they were not applied to the regions."


@dataclass(frozen=True, eq=False)
class Ready:
    """A case that the network may begin with.

    Args:
        checked: its images.
        image: what the preprocessing made of them; None where that has to wait for the network's turn.
        area: the part of the image that is segmented, or its images for the bundle that finds it; None for the whole.
    """

    checked: Checked
    image: PreparedImage | None
    area: Area | Checked | None = None


@dataclass(frozen=True, eq=False)
class Segmented:
    """What a model made of a case.

    Args:
        masks: (i, j, k) each; one of labels, or one for each region.
        grid: of its image, on which they lie.
        warnings: what a person has to know.
        values_outside: values of the mask that the model's table doesn't name.
    """

    masks: tuple[NDArray[np.unsignedinteger], ...]
    grid: Grid
    warnings: tuple[str, ...]
    values_outside: tuple[int, ...] = ()


def make_ready(prepared: Prepared, modality: str | None, model: Model) -> Ready:
    """Take a case to where the network begins, as far as another case may be in the network meanwhile.

    Args:
        prepared: its images.
        modality: of the image, as DICOM names it; None where nothing tells.
        model: that will segment it.

    Raises:
        InputError: as in ``check`` and ``Segmenter.prepare``, or the case has no mask for ``--roi``, or an empty one.
        FileError: an image can't be read.
    """
    checked = check(prepared, modality, model)
    area: Area | Checked | None = None
    if isinstance(model.roi, Roi):
        area = Area(model.roi.box(checked.grid))
    elif isinstance(model.roi, RoiMask):
        area = model.roi.area(checked.name, checked.grid)
    elif model.roi_model:
        with _told_of_roi():
            area = check(prepared, modality, model.roi_model)
    image = None
    if not model.step_by_step:  # what a config of another kind does is its own, and may not bear a second thread
        try:
            image = _prepared(checked, model)
        except InputError as error:
            if error.code != "too-large":  # beside another case; when its turn comes, there may be room
                raise
    return Ready(checked, image, area)


def segment(
    ready: Ready,
    model: Model,
    advance: Callable[[float], object] = advance_case,
    file: ProbabilityFile | None = None,
) -> Segmented:
    """The mask of a case; ``file`` takes the probabilities of its labels.

    Raises:
        InputError, GeometryError, BundleError: as in ``Segmenter.segment``.
    """
    grid = ready.checked.grid
    mask, warnings, certainty = _by_network(ready, model, advance, file)
    if certainty and certainty.vanished:
        warnings += (f"Thresholds left nothing of the labels {', '.join(map(model.table.told, certainty.vanished))}.",)
    if model.rules:
        cleaned, changes = model.rules.apply(mask, grid)
        # The numbers of instances need a wider type.
        mask = cleaned.astype(np.uint16 if changes.split else mask.dtype)
        if changes.vanished:
            warnings += (f"The rules removed all of the labels {', '.join(map(model.table.told, changes.vanished))}.",)
        warnings += changes.left
    if model.only:
        kept = np.isin(mask, model.only)
        if model.rules and changes.split:
            kept |= np.isin(mask // INSTANCE_STEP, sorted({*model.only}.intersection(changes.split)))
        mask[~kept] = 0
    beyond = tuple(sorted({*values_in(mask)}.difference(model.table.indices, (BACKGROUND,))))
    if model.meaning.why:
        warnings += (UNNAMED.format(model.meaning.why),)
    elif unnamed := model.rules.named(model.table, beyond).unnamed(beyond):
        warnings += (OUTSIDE.format(listed([str(value) for value in unnamed])),)
    if not mask.any():
        warnings += ("The mask is empty: the network found none of the labels.",)
    return Segmented((mask,), grid, warnings, beyond)


def segment_regions(
    ready: Ready,
    model: Model,
    advance: Callable[[float], object] = advance_case,
    file: ProbabilityFile | None = None,
) -> Segmented:
    """The masks of a case's regions, 1 inside and 0 outside; ``file`` takes their probabilities.

    Raises:
        InputError, GeometryError, BundleError: as in ``Segmenter.segment_regions``.
    """
    regions = model.regions
    masks, warnings, _ = _by_network(ready, model, advance, file, len(regions))
    if model.meaning.regions_why:
        warnings += (UNNAMED_REGIONS.format(model.meaning.regions_why),)
    if model.rules:
        warnings += (RULES_LEFT_OUT,)
    empty = [folder for folder, mask in zip(regions, masks, strict=True) if not mask.any()]
    if empty:
        warnings += (f"The network found nothing of {listed(empty)}: these masks are empty.",)
    return Segmented(tuple(masks), ready.checked.grid, warnings)


def _by_network(
    ready: Ready,
    model: Model,
    advance: Callable[[float], object],
    file: ProbabilityFile | None,
    regions: int | None = None,
) -> tuple[NDArray[np.unsignedinteger], tuple[str, ...], Certainty | None]:
    """What the network makes of a case, ahead of all rules, and what a person has to know.

    Returns:
        One mask of labels (i, j, k), or of so many regions (region, i, j, k); warnings; what became of thresholds.
    """
    told: list[str] = []
    area, advance = _area(ready, model, advance)
    grid, image = ready.checked.grid, ready.image or _prepared(ready.checked, model)
    box, certainty = area.box if area else None, model.certainty(file)
    if regions is None:
        masks = model.segmenter.segment(image, grid, advance, told.append, box, certainty)
    else:
        masks = model.segmenter.segment_regions(image, grid, regions, advance, told.append, box, certainty)
    if area:
        area.cut(masks)
        if file:
            file.area = area
    return masks, (*ready.checked.warnings, *model.told, *told, *(area.told if area else ())), certainty


def _area(
    ready: Ready, model: Model, advance: Callable[[float], object]
) -> tuple[Area | None, Callable[[float], object]]:
    """The part of the image that is segmented, and what tells how far the rest of the work is."""
    if not isinstance(ready.area, Checked):
        return ready.area, advance
    assert isinstance(model.roi, RoiBundle), "no other asks for a network"
    assert model.roi_model is not None, "it is loaded with the model"

    def half(share: float) -> None:
        advance(share / 2)

    with _told_of_roi():
        found = segment(Ready(ready.area, None), model.roi_model, half)
    told = tuple(f"--roi: {warning}" for warning in found.warnings)
    return model.roi.around.area(found.masks[0] != 0, found.grid, told), half


@contextmanager
def _told_of_roi() -> Iterator[None]:
    """Let errors say that they are of the bundle that finds the part of the image."""
    try:
        yield
    except VolsegError as error:
        error.message = f"--roi: {error.message}"
        raise


def _prepared(checked: Checked, model: Model) -> PreparedImage:
    with _channel_files(checked.images, checked.channels, model) as images:
        return model.segmenter.prepare(images, checked.grid)


@contextmanager
def _channel_files(images: tuple[Path, ...], channels: int, model: Model) -> Iterator[tuple[Path, ...]]:
    """The files of a case; of one that holds all channels, a file of each where the bundle reads them so."""
    if model.one_file or len(images) > 1 or channels == 1:
        yield images
        return
    with private_folder() as folder:
        volume = read_volume(images[0])
        files = tuple(folder / f"image{CHANNEL.format(number)}.nii" for number in range(channels))
        for number, file in enumerate(files):
            write_image(file, Volume(volume.array[..., number], volume.grid))
        yield files
