"""The step of a config that makes labels of class values, and what their probabilities are by it.

A probability is what the mask itself was chosen by: of the values that the choosing step gets on the image's grid, the softmax
where it takes the largest, the sigmoid where it cuts each, and the values themselves where a step before it made probabilities of
them already or where they are the mean of several networks' probabilities. So the likeliest label is that of the mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from monai.transforms import Activationsd, AsDiscreted, EnsureTyped

from volseg.inference.outcome import whole_numbers
from volseg.inference.slab_steps import SlabSteps, UnsuitedError, apply

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from volseg.inference.slabs import Activation
    from volseg.inference.way_back import WayBack


@dataclass(frozen=True, eq=False)
class Choice:
    """How labels are chosen on the image's grid.

    Args:
        ahead: steps on that grid before the choice.
        activation: what makes probabilities of the values then; None where they are some.
        numbers: for each channel the label that it stands for; of regions, which each have a channel, from 1.
        is_exclusive: whether one channel wins; else each is cut by itself.
    """

    ahead: tuple[Any, ...]
    activation: Activation | None
    numbers: tuple[int, ...]
    is_exclusive: bool

    @classmethod
    def of(cls, steps: SlabSteps, channels: int, averaged_as: Activation | None) -> Choice:
        """How a config chooses.

        Args:
            steps: as ``choosing_last`` gives them.
            channels: that come back to the image's grid.
            averaged_as: the probabilities that the values of several networks were averaged as; None of a single one.

        Raises:
            UnsuitedError: it doesn't choose by probabilities.
        """
        place = _place(steps.after)
        if place is None:
            raise UnsuitedError("its postprocessing chooses no label")
        ahead, step, behind = steps.after[:place], steps.after[place], steps.after[place + 1 :]
        earlier = (*steps.before, *ahead)
        if any(type(one) not in (Activationsd, EnsureTyped) for one in earlier):
            raise UnsuitedError("its postprocessing changes the network's values before it chooses among them")
        largest = isinstance(step, AsDiscreted) and step.argmax[0] is True
        activation: Activation | None = "softmax" if largest else "sigmoid"
        if averaged_as is not None or any(_activates(one) for one in earlier):
            activation = None
        if not largest:
            return cls(ahead, activation, tuple(range(1, channels + 1)), is_exclusive=False)
        every = apply(behind, torch.arange(channels, dtype=torch.float32).reshape(1, channels, 1, 1))
        if every.shape != (1, channels, 1, 1):
            raise UnsuitedError("its postprocessing makes other channels of the labels")
        return cls(ahead, activation, tuple(whole_numbers(every).ravel().tolist()), is_exclusive=True)

    def probabilities(self, values: torch.Tensor) -> torch.Tensor:
        """Of each channel (channel, plane, row, column), from 0 to 1; ``values`` are used up."""
        values = apply(self.ahead, values)
        if self.activation == "softmax":
            values -= values.amax(dim=0)
            values.exp_()
            values /= values.sum(dim=0)
        elif self.activation == "sigmoid":
            values.sigmoid_()
        return values.clamp_(0, 1)  # interpolation in float32 may end a rounding beyond


@dataclass(frozen=True)
class Least:
    """The least probability that voxels of labels need.

    Args:
        parts: labels that count together, mostly one; None for each by itself.
        probability: from 0 to 1.
    """

    parts: tuple[tuple[int, ...], ...] | None
    probability: float


def by_label(wanted: Sequence[Least], labels: Iterable[int]) -> dict[int, tuple[tuple[int, ...], float]]:
    """For each label that needs some probability, the labels that count with it and how much; the last that names it holds.

    Args:
        wanted: in their order.
        labels: all that there are.
    """
    parts = [(part, one.probability) for one in wanted for part in one.parts or [(label,) for label in labels]]
    return {label: (part, least) for part, least in parts for label in part}


@dataclass(frozen=True, eq=False)
class CutEach:
    """A step that cuts each channel at a probability of its own, in the place of one for all.

    Args:
        wanted: by region, which are counted from 1.
        common: the value that the others are cut at, as the config has it.
        activation: what makes probabilities of the values; None where they are some.
    """

    wanted: Sequence[Least]
    common: float
    activation: Activation | None

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """1 in voxels that reach it, else 0, in the channels of ``pred``."""
        values = item["pred"]
        cut = values >= self.common
        for region, (_, least) in by_label(self.wanted, range(1, len(values) + 1)).items():
            for one, inside in zip(values[region - 1 : region], cut[region - 1 : region], strict=True):
                inside[...] = (one.sigmoid() if self.activation == "sigmoid" else one) >= least
        return item | {"pred": cut.to(values.dtype)}


def choosing_last(steps: SlabSteps, back: WayBack) -> SlabSteps:
    """The steps with the choice on the image's grid, where probabilities are wanted.

    What the nearest voxel is taken of can be chosen before as well as after.

    Raises:
        UnsuitedError: it can't be moved there.
    """
    if _place(steps.before) is None:
        return steps
    if any((one.weight.sum(axis=1) == 0).any() for one in back.taps):
        raise UnsuitedError("its labels are chosen before what was cropped is added again")
    return SlabSteps((), steps.nearest, (*steps.before, *steps.after))


def cut_at(steps: SlabSteps, wanted: Sequence[Least], averaged_as: Activation | None) -> SlabSteps:
    """The steps with other probabilities that regions are cut at; the same ones where the largest channel wins.

    Args:
        steps: as ``choosing_last`` gives them.
        wanted: by region, which are counted from 1.
        averaged_as: as in ``Choice.of``.

    Raises:
        UnsuitedError: as ``Choice.of``.
    """
    choice, place = Choice.of(steps, 1, averaged_as), _place(steps.after)
    assert place is not None, "there is a choice"
    if choice.is_exclusive or not wanted:
        return steps
    cut = CutEach(wanted, float(steps.after[place].threshold[0]), choice.activation)
    return replace(steps, after=(*steps.after[:place], cut, *steps.after[place + 1 :]))


def _place(steps: Sequence[Any]) -> int | None:
    """Where the step stands that chooses."""
    return next((place for place, step in enumerate(steps) if isinstance(step, CutEach) or _chooses(step)), None)


def _chooses(step: Any) -> bool:
    """Whether a step takes the largest channel, or cuts each, and nothing else."""
    if type(step) is not AsDiscreted or step.to_onehot[0] is not None or step.rounding[0] is not None:
        return False
    return (step.argmax[0] is True) != (step.threshold[0] is not None)


def _activates(step: Any) -> bool:
    return type(step) is Activationsd and (step.sigmoid[0] is True or step.softmax[0] is True)
