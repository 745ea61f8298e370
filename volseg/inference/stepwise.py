"""A config that is run step by step: the network over the whole image, then each step of its postprocessing."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from monai.data import MetaTensor
from monai.data.utils import list_data_collate
from monai.transforms import AsDiscrete, AsDiscreted, Compose, Invertd, Lambda, Lambdad, MapLabelValued

from volseg.device import memory_short
from volseg.errors import BundleError, InputError, VolsegError
from volseg.finite import all_finite
from volseg.inference.outcome import NOT_FINITE, require_outputs
from volseg.inference.room import require_room_for_classes, window_count
from volseg.inference.slab_steps import flat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from volseg.inference.slabs import Networks

MULTIPLES = (4, 8, 16, 32, 64)
"""Of voxels, that networks with so many halvings need along each axis."""
BETWEEN = (
    "The bundle's own postprocessing interpolates between labels, which MONAI's runner saves as fractions: {} voxels at "
    "borders were rounded to the nearest label, which may be one whose number lies between two others."
)
CUT_AGAIN = "The bundle's own postprocessing interpolates its regions: {} voxels at their borders were cut at one half."
OWN_STEP = "A step of the bundle's own changed the regions: their names may no longer fit them."


@dataclass(frozen=True, eq=False)
class Stepwise:
    """A config and the case that it is run for.

    Args:
        networks: one, or several whose probabilities are averaged.
        inferer: runs a network over a batch of one.
        postprocessing: from ``{"image", "pred"}`` to a mask.
        channels: how many the networks take; None where it is not known.
        prepare_batch: from a batch, the device and False to what the inferer takes; None for the image alone.
        advance: called with each further share, of 1 in all, of a sliding window's places that are done.
        tell: called with what a person has to know of how the mask came about.
    """

    networks: Networks
    inferer: Callable[..., torch.Tensor]
    postprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    channels: int | None
    prepare_batch: Callable[..., Any] | None
    advance: Callable[[float], object]
    tell: Callable[[str], object]

    def labels(self, item: dict[str, Any]) -> torch.Tensor:
        """What the postprocessing gives, labels rounded where it interpolates between them.

        Args:
            item: what the preprocessing gave.

        Raises:
            InputError: the image has other channels than the network takes, or there is no room for the classes.
            BundleError: the network's output is not finite.
        """
        item = self._inferred(item)
        between = 0
        with torch.inference_mode():
            for step in flat(self.postprocessing):
                require_finite(item, step)
                interpolates = isinstance(step, Invertd) and between_labels(item) == 0
                item = Compose([step])(item)
                between += (between_labels(item) or 0) if interpolates else 0
        result: torch.Tensor = item["pred"]
        if between and between_labels(item):
            self.tell(BETWEEN.format(between))
            result = result.round()
        return result

    def regions(self, item: dict[str, Any], count: int) -> torch.Tensor:
        """What the postprocessing gives without the steps that merge channels, and what of the rest is for one channel.

        Args:
            item: what the preprocessing gave.
            count: how many regions there have to be.

        Raises:
            InputError: as in ``labels``.
            BundleError: the network gives other outputs, or as in ``labels``.
        """
        item = self._inferred(item)
        require_outputs(len(item["pred"]), count)
        merges, changed, between = False, False, 0
        with torch.inference_mode():
            for step in flat(self.postprocessing):
                if merges and not isinstance(step, Invertd):
                    continue
                require_finite(item, step)
                is_known = type(step).__module__.startswith("monai.") and not isinstance(step, (Lambda, Lambdad))
                before = item["pred"] if is_known else item["pred"].clone()
                after = Compose([step])(dict(item))
                # One region is merged with none, but gets the number that it has in a mask of labels.
                if len(after["pred"]) < count or (count == 1 and isinstance(step, MapLabelValued)):
                    merges, item = True, item | {"pred": before}
                    continue
                changed = changed or not is_known
                between += fractions(after["pred"]) if isinstance(step, Invertd) and not fractions(before) else 0
                item = after
        result: torch.Tensor = item["pred"]
        if changed:
            self.tell(OWN_STEP)
        if between and fractions(result):
            self.tell(CUT_AGAIN.format(between))
            result = result.round()
        return result

    def _inferred(self, item: dict[str, Any]) -> dict[str, Any]:
        """The preprocessed image, and what the networks make of it, (channel, i, j, k)."""
        image = torch.as_tensor(item["image"])
        members = self.networks.members
        several = len(members) > 1
        with torch.inference_mode():
            for number, one in enumerate(members):
                network = told_of(
                    one, self.inferer, tuple(image.shape[1:]), lambda share: self.advance(share / len(members)), several
                )
                with finite_outputs(one):
                    found = self._infer(item, image, network, self.tell if not number else lambda _: None)
                if several:
                    to_probabilities(found, self.networks.averaged_as)
                if number:  # one output beside the sum, however many networks there are
                    plain(item["pred"]).add_(plain(found))
                else:
                    item["pred"] = found
                del found
            if several:
                plain(item["pred"]).div_(len(members))
        return item

    def _infer(
        self, item: dict[str, Any], image: torch.Tensor, network: Callable[..., Any], tell: Callable[[str], object]
    ) -> torch.Tensor:
        """What the inferer gives for one case, (channel, i, j, k); as MONAI's ``SupervisedEvaluator`` calls it."""
        arguments: tuple[Any, ...] = ()
        named: dict[str, Any] = {}
        inputs = image.unsqueeze(0).to(self.networks.device)
        if self.prepare_batch is not None:
            prepared = self.prepare_batch(list_data_collate([item]), self.networks.device, False)
            inputs, _, *more = prepared
            arguments, named = more or ((), {})
        try:
            classes: torch.Tensor = self.inferer(inputs, network, *arguments, **named)[0]
        except (RuntimeError, ValueError) as error:
            if memory_short(error) is not None or isinstance(error, VolsegError):
                raise
            padded = self._padded(inputs, lambda image: self.inferer(image, network, *arguments, **named), tell)
            if padded is None:
                if self.channels not in (None, inputs.shape[1]):
                    raise InputError(
                        f"The image has {inputs.shape[1]} channels after the bundle's preprocessing, and the network "
                        f"takes {self.channels}.",
                        code="channels",
                    ) from error
                raise
            classes = padded[0]
        return classes

    @staticmethod
    def _padded(
        inputs: torch.Tensor, infer: Callable[[torch.Tensor], Any], tell: Callable[[str], object]
    ) -> torch.Tensor | None:
        """What a network gives that takes sizes of certain multiples alone, of the image with its end repeated.

        None where no multiple helps, so that the fault lies elsewhere.
        """
        shape = tuple(map(int, inputs.shape[2:]))
        tried = {shape}
        for multiple in MULTIPLES:
            wanted = tuple(math.ceil(size / multiple) * multiple for size in shape)
            if wanted in tried:
                continue
            tried.add(wanted)
            more = [one for size, goal in zip(shape[::-1], wanted[::-1], strict=True) for one in (0, goal - size)]
            padded = torch.nn.functional.pad(inputs, more, mode="replicate")
            try:
                result = infer(padded)
            except (RuntimeError, ValueError) as error:
                if memory_short(error) is not None:
                    raise
                continue
            if isinstance(result, torch.Tensor) and tuple(result.shape[2:]) == wanted:
                tell(
                    f"The network takes multiples of {multiple} voxels alone: an image of {_by(shape)} was made "
                    f"{_by(wanted)} by repeating its last layers, which are cut off the mask again."
                )
                cut: torch.Tensor = result[(slice(None), slice(None), *(slice(size) for size in shape))]
                return cut
        return None


def to_probabilities(logits: torch.Tensor, how: Literal["softmax", "sigmoid"]) -> None:
    """Turn logits (channel, i, j, k) into probabilities in their place, slice by slice: no second volume is needed."""
    for part in plain(logits).unbind(dim=1):
        part.copy_(part.softmax(dim=0) if how == "softmax" else part.sigmoid())


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor, without what MONAI keeps beside them."""
    plain: torch.Tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain


def between_labels(item: dict[str, Any]) -> int | None:
    """How many voxels of a mask are between two labels; None where the item has classes and no mask yet."""
    mask = item.get("pred")
    if not isinstance(mask, torch.Tensor) or len(mask) != 1:
        return None
    return fractions(mask)


def fractions(mask: torch.Tensor) -> int:
    """How many voxels are no whole numbers."""
    return int((mask != mask.round()).sum()) if mask.is_floating_point() else 0


@contextmanager
def finite_outputs(network: torch.nn.Module) -> Iterator[None]:
    """Refuse, once a case is through, what a network gave that is not finite: it would become one label everywhere.

    Each output is looked at as it comes, since an inferer may choose the likeliest label itself.

    Raises:
        BundleError: with the code ``not-finite``.
    """
    found: list[torch.Tensor] = []

    def note(_: torch.nn.Module, __: object, output: object) -> None:
        parts = (
            output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else [output]
        )
        found.extend(all_finite(one) for one in parts if isinstance(one, torch.Tensor))

    hook = network.register_forward_hook(note)
    try:
        yield
    finally:
        hook.remove()
    if found and not bool(torch.stack(found).all()):
        raise BundleError(f"The network's output is {NOT_FINITE}", code="not-finite")


def require_finite(item: dict[str, Any], step: object) -> None:
    """Refuse classes that are not finite before a step that may choose among them.

    Raises:
        BundleError: with the code ``not-finite``.
    """
    classes = item.get("pred")
    if not isinstance(classes, torch.Tensor) or not classes.is_floating_point():
        return
    chooses = isinstance(step, (AsDiscrete, AsDiscreted)) or len(classes) > 1  # of one channel, NaN may be a mark
    if chooses and not bool(all_finite(classes)):
        raise BundleError(f"What the bundle makes of the network's output is {NOT_FINITE}", code="not-finite")


def told_of(
    network: torch.nn.Module, inferer: Any, shape: Sequence[int], advance: Callable[[float], object], kept: int = 0
) -> Callable[..., Any]:
    """The network, telling how much of a sliding window's places it has seen, where these can be counted.

    Raises:
        InputError: there are too many places, or no room for what the network gives.
    """
    places = window_count(inferer, shape)

    def call(patches: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        result = network(patches, *args, **kwargs)
        if places is not None:
            if isinstance(result, torch.Tensor):
                device = str(getattr(inferer, "device", None) or result.device)
                require_room_for_classes(result.shape[1], shape, device, kept)
            advance(len(patches) / places)
        return result

    return call


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
