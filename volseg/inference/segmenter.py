"""From an image file to a mask on that image's own grid."""

from __future__ import annotations

import math
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor

from volseg.device import available_bytes, memory_short
from volseg.errors import BundleError, InputError, VolsegError
from volseg.finite import all_finite
from volseg.inference.fit import USABLE_SHARE, Fit, fit, resident_bytes
from volseg.inference.labelling import masks_of, within
from volseg.inference.outcome import require_place, whole_numbers
from volseg.inference.reading import quick
from volseg.inference.room import bytes_to_prepare, require_room_to_prepare, require_room_to_resample, window_count
from volseg.inference.scratch import Scratch
from volseg.inference.slab_steps import SlabSteps, UnsuitedError, sliding_of
from volseg.inference.slabs import Box, Networks, Slabs
from volseg.inference.stepwise import Stepwise, finite_outputs
from volseg.inference.way_back import UnknownWayError, way_back
from volseg.inference.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.inference.probabilities import Certainty


def one_image(images: Sequence[Path]) -> dict[str, Any]:
    """A case for a preprocessing that loads its image, or the files of its channels, as ``image``."""
    names = [str(path) for path in images]
    return {"image": names[0] if len(names) == 1 else names}


AS_CONFIGURED = "The bundle runs step by step as its config says, which takes memory for all of its labels at once: {}."
NO_PROBABILITIES = (
    "This bundle's masks are made in a way that tells no probabilities of labels: {}. Leave thresholds, --probabilities and "
    "--dicom-fractional out."
)
IN_FILE = (
    "Class values were kept in a file, since the memory doesn't hold them: this takes longer, and changes nothing."
)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A case that is ready for the network.

    Args:
        item: what the preprocessing gave.
        grid: of the case's first image, on which its mask has to lie.
    """

    item: dict[str, Any]
    grid: Grid


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A bundle's parts for inference.

    Args:
        preprocessing: from ``{"image": path}`` to a normalised tensor (channel, i, j, k) on the network's grid.
        network: in evaluation mode, on its device.
        inferer: runs the network over a batch of one, such as a sliding window.
        postprocessing: from ``{"image", "pred"}`` to a mask (1, i, j, k) on the image's own grid; steps that save
            files are left out.
        device: where the network lies.
        item_of: from the files of a case to what the preprocessing takes.
        channels: how many the network takes, which the preprocessed image is compared with; None where it is not known.
        prepare_batch: from a batch, the device and False to what the inferer takes, as MONAI's evaluators have it; None
            for the image alone.
        others: further networks, each on the device and in evaluation mode: an ensemble with the first.
        averaged_as: the probabilities that the outputs of an ensemble are averaged as, over channels that exclude each
            other (``softmax``) or each by itself (``sigmoid``). ``postprocessing`` then begins with their mean.
        half: whether the inferer computes in bfloat16.
        memory: bytes that this process may take; None for what is free.
        scratch: where a file of class values may lie that would take more.
        undisturbed: held while transforms run that a config may have on both sides of the network, since MONAI changes
            them while it inverts: ``prepare`` may be called for one case while ``segment`` works on another.
    """

    preprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    network: torch.nn.Module
    inferer: Callable[..., torch.Tensor]
    postprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    device: torch.device
    item_of: Callable[[Sequence[Path]], dict[str, Any]] = one_image
    channels: int | None = None
    prepare_batch: Callable[..., Any] | None = None
    others: tuple[torch.nn.Module, ...] = ()
    averaged_as: Literal["softmax", "sigmoid"] = "softmax"
    half: bool = False
    memory: int | None = None
    scratch: Path | None = None
    undisturbed: Lock = field(default_factory=Lock, repr=False)

    @cached_property
    def slab_steps(self) -> SlabSteps | str:
        """How the config is worked on slab by slab, or why it can't be."""
        return slab_steps_of(self.preprocessing, self.inferer, self.postprocessing, self.prepare_batch)

    @cached_property
    def _preprocessing(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        prepare: Callable[[dict[str, Any]], dict[str, Any]] = self.preprocessing
        return prepare if isinstance(self.slab_steps, str) else quick(prepare)

    def prepare(self, images: Sequence[Path], grid: Grid) -> PreparedImage:
        """What of ``segment`` comes before the network.

        Args:
            images: one file for each channel, or one that holds all.
            grid: of the first image.

        Raises:
            InputError: a voxel is not a number, or the machine has no room for what the bundle makes of the image.
        """
        require_room_to_resample(self.preprocessing, grid, len(images))
        if self.memory is not None:
            require_room_to_prepare(self.preprocessing, grid, len(images), self.memory)
        with self.undisturbed:
            item = self._preprocessing(self.item_of(images))
        if not bool(all_finite(torch.as_tensor(item["image"]))):
            raise InputError(
                "The image has voxels that are not finite numbers after preprocessing. Repair or export it again.",
                code="not-finite",
            )
        return PreparedImage(item, grid)

    def preparing_bytes(self, grid: Grid, channels: int) -> int:
        """About what ``prepare`` takes at its peak for an image on some grid."""
        return bytes_to_prepare(self.preprocessing, grid, channels)

    def computing_bytes(self, prepared: PreparedImage) -> int:
        """About what ``segment`` takes of the computer's memory beside what is held already.

        Raises:
            InputError: more than it may take.
        """
        image, voxels = torch.as_tensor(prepared.item["image"]), math.prod(prepared.grid.shape)
        sliding = sliding_of(self.inferer)
        if self.device.type != "cpu" or sliding is None:
            return 2 * voxels
        return max(0, self._fitted(image.shape, voxels).peak_bytes - resident_bytes())

    def room_bytes(self) -> int:
        """What may be taken beside what is held already."""
        return int(USABLE_SHARE * available_bytes()) if self.memory is None else self.memory - resident_bytes()

    def segment(
        self,
        images: Sequence[Path] | PreparedImage,
        grid: Grid,
        advance: Callable[[float], object] | None = None,
        tell: Callable[[str], object] = lambda _: None,
        box: Box | None = None,
        certainty: Certainty | None = None,
    ) -> NDArray[np.unsignedinteger]:
        """The mask (i, j, k) of one case: uint8, or uint16 when a label is above 255.

        Args:
            images: one file for each channel, or one that holds all; or what ``prepare`` made of them, which is used up.
            grid: of the first image; what comes out has to lie on it.
            advance: called with each further share, of 1 in all, of a sliding window's places that are done.
            tell: called with what a person has to know of how the mask came about.
            box: of the image's voxels, outside which the mask is 0 and inside which it is as without; None for all.
            certainty: takes in the probabilities of labels, and leaves voxels out that are not probable enough.

        Raises:
            InputError: a voxel is not a number, the image has other channels than the network takes, or the machine has
                no room for what the bundle makes of it.
            GeometryError: the bundle's mask is not on the image's grid.
            BundleError: what the bundle gives is no mask of whole numbers, the network's output is not finite, or its
                config tells no probabilities.
        """
        prepared = images if isinstance(images, PreparedImage) else self.prepare(images, grid)
        found = self._slab_by_slab(prepared, None, advance, tell, box, certainty)
        if found is not None:
            if len(found) > 1:
                raise _needs_regions(len(found))
            mask: NDArray[np.unsignedinteger] = found[0]
            return mask
        with self.undisturbed:
            result = self._stepwise(advance, tell).labels(prepared.item)
        if len(result) > 1 and tuple(result.shape[1:]) == grid.shape:
            raise _needs_regions(len(result))
        self._require_grid(result, grid, 1)
        return within(whole_numbers(result[0]), box)

    def segment_regions(
        self,
        images: Sequence[Path] | PreparedImage,
        grid: Grid,
        count: int,
        advance: Callable[[float], object] | None = None,
        tell: Callable[[str], object] = lambda _: None,
        box: Box | None = None,
        certainty: Certainty | None = None,
    ) -> NDArray[np.uint8]:
        """The masks (region, i, j, k) of one case, 1 inside and 0 outside.

        A step that merges channels is left out, and of what follows it all that doesn't bring the masks back onto the
        image's grid, since that is for the merged labels.

        Args:
            images: as in ``segment``.
            grid: of the first image; what comes out has to lie on it.
            count: how many regions there have to be.
            advance: as in ``segment``.
            tell: as in ``segment``.
            box: as in ``segment``.
            certainty: as in ``segment``, of regions, which are counted from 1.

        Raises:
            InputError, GeometryError: as in ``segment``.
            BundleError: the network gives other regions, the bundle doesn't say where each begins, or as in
                ``segment``.
        """
        prepared = images if isinstance(images, PreparedImage) else self.prepare(images, grid)
        masks = self._slab_by_slab(prepared, count, advance, tell, box, certainty)
        if masks is not None:
            return self._required_regions(masks, count)
        with self.undisturbed:
            result = self._stepwise(advance, tell).regions(prepared.item, count)
        self._require_grid(result, grid, count)
        return self._required_regions(within(np.stack([whole_numbers(one) for one in result]), box), count)

    @staticmethod
    def _required_regions(masks: NDArray[np.unsignedinteger], count: int) -> NDArray[np.uint8]:
        if len(masks) != count or masks.max() > 1:
            raise BundleError(
                "The bundle's postprocessing gives no regions of 0 and 1. Predict without --regions.", code="no-regions"
            )
        return masks.astype(np.uint8, copy=False)

    def _slab_by_slab(
        self,
        prepared: PreparedImage,
        regions: int | None,
        advance: Callable[[float], object] | None,
        tell: Callable[[str], object],
        box: Box | None,
        certainty: Certainty | None,
    ) -> NDArray[np.unsignedinteger] | None:
        """The masks (channel, i, j, k) in little memory; None where the config has to be run step by step.

        Args:
            prepared: the case.
            regions: how many there are, where each gets a mask of its own.
            advance: as in ``segment``.
            tell: as in ``segment``.
            box: as in ``segment``.
            certainty: as in ``segment``.

        Raises:
            BundleError: probabilities are wanted, and the config has to be run step by step or tells none.
        """
        steps, image, grid = self.slab_steps, prepared.item["image"], prepared.grid
        if isinstance(steps, str) or not isinstance(image, MetaTensor):
            _step_by_step(steps if isinstance(steps, str) else "its image has no affine", certainty)
            return None
        try:
            back = way_back(image, nearest=steps.nearest)
        except UnknownWayError as error:
            _step_by_step(f"its preprocessing can't be undone along the axes, since {error}", certainty, tell)
            return None
        require_place(1, back.shape, back.affine, grid, 1)
        window_count(self.inferer, image.shape[1:])
        if regions is not None:
            steps = steps.for_regions(regions)
        if certainty is not None:
            try:
                steps = certainty.steps(steps, back, self.averaged_as if self.others else None)
            except UnsuitedError as error:
                _step_by_step(str(error), certainty)
        slabs = self._slabs(image.as_tensor()[None], math.prod(back.shape), tell, back.seen(box) if box else None)
        try:
            with torch.inference_mode(), ExitStack() as looking:
                for one in (self.network, *self.others):
                    looking.enter_context(finite_outputs(one))
                return masks_of(slabs, steps, back, advance or (lambda _: None), regions, box, certainty)
        except (UnsuitedError, RuntimeError, ValueError) as error:
            if isinstance(error, UnsuitedError) and certainty is not None:
                _step_by_step(str(error), certainty)
            if isinstance(error, VolsegError) or memory_short(error) is not None or slabs.classes:
                raise
            why = str(error) if isinstance(error, UnsuitedError) else "its network doesn't take its own windows"
            _step_by_step(why, certainty, tell)
            return None

    @cached_property
    def _networks(self) -> Networks:
        return Networks((self.network, *self.others), self.averaged_as, self.device, self.half)

    def _stepwise(self, advance: Callable[[float], object] | None, tell: Callable[[str], object]) -> Stepwise:
        return Stepwise(
            self._networks,
            self.inferer,
            self.postprocessing,
            self.channels,
            self.prepare_batch,
            advance or (lambda _: None),
            tell,
        )

    def _slabs(self, image: torch.Tensor, voxels: int, tell: Callable[[str], object], wanted: Box | None) -> Slabs:
        """Slabs of an image (1, channel, i, j, k) that fit into the memory.

        Raises:
            InputError: nothing fits.
        """
        sliding = sliding_of(self.inferer)
        assert sliding is not None, "slab_steps are those of a sliding window"
        networks = self._networks
        if self.device.type != "cpu":  # what the device lacks is seen when it runs
            return Slabs(image, sliding, networks, tell, wanted=wanted)
        fitted = self._fitted(image.shape[1:], voxels)
        scratch = None
        if fitted.in_file:
            folder = self.scratch or Path(tempfile.gettempdir())
            if fitted.is_short:
                tell(IN_FILE)

            def scratch(shape: Sequence[int]) -> Scratch | None:
                try:
                    return Scratch(shape, folder)
                except VolsegError:
                    if fitted.is_short:
                        raise
                    return None

        return Slabs(image, sliding, networks, tell, wanted=wanted, scratch=scratch, batch=fitted.batch)

    def _fitted(self, shape: Sequence[int], voxels: int) -> Fit:
        """How a preprocessed image (channel, i, j, k) is worked on; ``voxels`` are those of its mask.

        Never kept: what is free differs between a look ahead and the work, and to reckon anew takes milliseconds.
        """
        sliding = sliding_of(self.inferer)
        assert sliding is not None, "slab_steps are those of a sliding window"
        return fit(
            Windows.of(sliding, shape[1:]),
            self.network,
            shape[0],
            int(sliding.sw_batch_size),
            members=1 + len(self.others),
            half=self.half,
            voxels=voxels,
            limit=self.memory,
        )

    @staticmethod
    def _require_grid(result: torch.Tensor, grid: Grid, channels: int) -> None:
        affine = result.affine.cpu().numpy().astype(np.float64) if isinstance(result, MetaTensor) else None
        require_place(len(result), tuple(result.shape[1:]), affine, grid, channels)


def slab_steps_of(preprocessing: Any, inferer: Any, postprocessing: Any, prepare_batch: object) -> SlabSteps | str:
    """How a config is worked on slab by slab, or why it can't be; see ``Segmenter`` for its parts."""
    if prepare_batch is not None:
        return "it prepares batches in a way of its own"
    try:
        return SlabSteps.of(preprocessing, inferer, postprocessing)
    except UnsuitedError as error:
        return str(error)


def _step_by_step(why: str, certainty: Certainty | None, tell: Callable[[str], object] = lambda _: None) -> None:
    """Tell that a config is run step by step.

    Raises:
        BundleError: probabilities are wanted, with the code ``no-probabilities``.
    """
    if certainty is not None:
        raise BundleError(NO_PROBABILITIES.format(why), code="no-probabilities")
    tell(AS_CONFIGURED.format(why))


def _needs_regions(count: int) -> BundleError:
    return BundleError(
        f"The bundle gives {count} masks that may overlap, and merges them into none. "
        "Predict with --regions, which writes one file for each.",
        code="needs-regions",
    )
