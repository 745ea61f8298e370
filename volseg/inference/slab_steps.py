"""Which of a bundle's configs can be worked on slab by slab, and what each slab goes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureTyped,
    Invertd,
    MapLabelValued,
    MeanEnsembled,
    ScaleIntensityRanged,
    SplitDimd,
)
from monai.utils import BlendMode

if TYPE_CHECKING:
    from collections.abc import Sequence

BY_VOXEL = (
    Activationsd, AsDiscreted, EnsureTyped, MapLabelValued, MeanEnsembled, ScaleIntensityRanged, SplitDimd,
)  # fmt: skip
"""Transforms whose result in a voxel depends on nothing but the channels of this voxel."""


class UnsuitedError(Exception):
    """A config can't be worked on slab by slab; says why."""


@dataclass(frozen=True, eq=False)
class SlabSteps:
    """A postprocessing in its parts.

    Args:
        before: steps on the network's grid.
        nearest: whether what they give comes back to the image's grid by the nearest voxel, else linearly.
        after: steps on the image's grid.
    """

    before: tuple[Any, ...]
    nearest: bool
    after: tuple[Any, ...]

    @classmethod
    def of(cls, preprocessing: Any, inferer: Any, postprocessing: Any) -> SlabSteps:
        """The steps of a config.

        Raises:
            UnsuitedError: it has others, or its inferer is no plain sliding window.
        """
        sliding = sliding_of(inferer)
        if sliding is None:
            raise UnsuitedError("its inferer is no sliding window")
        if sliding.with_coord or sliding.progress or BlendMode(sliding.mode) not in BlendMode:
            raise UnsuitedError("its sliding window is no plain one")
        steps = flat(postprocessing)
        places = [place for place, step in enumerate(steps) if type(step) is Invertd]
        if len(places) != 1:
            raise UnsuitedError("its postprocessing inverts the preprocessing not just once")
        invert = steps[places[0]]
        before, after = steps[: places[0]], steps[places[0] + 1 :]
        plain = invert.transform is preprocessing and invert.keys == ("pred",) and invert.orig_keys == ("image",)
        if not plain or invert.post_func[0] is not None:
            raise UnsuitedError("its postprocessing inverts something else than the preprocessing")
        for step in (*before, *after):
            if not _is_by_voxel(step):
                raise UnsuitedError(f"its postprocessing has {type(step).__name__}")
        nearest = bool(invert.nearest_interp[0])
        if not nearest and any(type(step) is AsDiscreted for step in before):
            raise UnsuitedError("its postprocessing interpolates between labels")
        return cls(tuple(before), nearest, tuple(after))

    def for_regions(self, count: int) -> SlabSteps:
        """Without the steps that merge channels, and those that follow them."""
        kept: list[Any] = []
        for step in (*self.before, *self.after):
            # One region is merged with none, but gets the number that it has in a mask of labels.
            if len(apply([*kept, step], torch.zeros(count, 1, 1, 1))) < count or (
                count == 1 and type(step) is MapLabelValued
            ):
                break
            kept.append(step)
        before = len(self.before)
        return SlabSteps(tuple(kept[:before]), self.nearest, tuple(kept[before:]))

    def channels(self, classes: int) -> tuple[int, int]:
        """How many channels come back to the image's grid, and how many are left in the end.

        Raises:
            UnsuitedError: the steps don't work for so many classes.
        """
        try:
            between = apply(self.before, torch.zeros(classes, 1, 1, 1))
            return len(between), len(apply(self.after, between))
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise UnsuitedError("its postprocessing asks for more than what the network gives") from error

    @property
    def chooses(self) -> bool:
        """Whether the first step on the image's grid takes the class of the largest value, and nothing else."""
        if not self.after or type(self.after[0]) is not AsDiscreted:
            return False
        plain = self.after[0]
        rest = (plain.threshold[0], plain.to_onehot[0], plain.rounding[0])
        return plain.argmax[0] is True and rest == (None, None, None) and not plain.converter.kwargs


def sliding_of(inferer: Any) -> SlidingWindowInferer | None:
    """The sliding window that an inferer is, or runs under autocast; None for another."""
    sliding = getattr(inferer, "inferer", inferer)
    return sliding if type(sliding) is SlidingWindowInferer else None


def flat(postprocessing: Any) -> list[Any]:
    """The transforms one by one."""
    if type(postprocessing) is not Compose:  # its children choose among theirs
        return [postprocessing]
    return [part for step in postprocessing.transforms for part in flat(step)]


def apply(steps: Sequence[Any], values: torch.Tensor) -> torch.Tensor:
    """What steps by voxel make of a part of a volume (channel, i, j, k)."""
    item: dict[str, Any] = {"pred": values}
    for step in steps:
        item = step(item)
    found: torch.Tensor = item["pred"]
    return found.as_tensor() if isinstance(found, MetaTensor) else found


def _is_by_voxel(step: Any) -> bool:
    """Whether a step is one of those above with channels first, and leaves the image alone."""
    if type(step) not in BY_VOXEL or "image" in step.keys:
        return False
    if type(step) is SplitDimd:
        return step.splitter.dim == 0 and not step.list_output
    if type(step) is Activationsd:
        return set(step.other) == {None} and step.converter.kwargs.get("dim", 0) == 0
    if type(step) is AsDiscreted:
        return step.converter.kwargs.get("dim", 0) == 0 and step.converter.kwargs.get("keepdim", True) is True
    return True
