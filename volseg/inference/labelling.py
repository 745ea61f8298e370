"""From finished class values to the labels of the image's own voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from volseg.inference.outcome import require_outputs, whole_numbers
from volseg.inference.planes import Planes, side_by_side
from volseg.inference.slab_steps import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from volseg.inference.head import Head
    from volseg.inference.probabilities import Certainty
    from volseg.inference.slab_steps import SlabSteps
    from volseg.inference.slabs import Activation, Box, Slabs
    from volseg.inference.way_back import WayBack

LABEL_PLANES = 8
"""Planes of the image that are labelled at once at most: few enough to stay in the processor's cache."""
VALUES_BYTES = 2**26
"""Of what is held of these planes on each core."""


@dataclass(frozen=True, eq=False)
class Finished:
    """Finished planes of the preprocessed image.

    Args:
        means: (member, channel, i, j, k) over windows; along ``axis`` these planes alone.
        heads: what makes class values of the channels of each member; none where they are some.
        averaged_as: the probabilities that the values of several members are averaged as.
        steps: what becomes of the values on the network's grid and on the image's.
        axis: that the planes are stacked along.
        begin: the first of them, in the image.
    """

    means: torch.Tensor
    heads: Sequence[Head]
    averaged_as: Activation
    steps: SlabSteps
    axis: int
    begin: int

    @classmethod
    def of(cls, slabs: Slabs, steps: SlabSteps, means: torch.Tensor, begin: int) -> Finished:
        """Without what the windows' padding gave.

        Args:
            slabs: that the means are of.
            steps: what becomes of them.
            means: of whole planes of the padded image.
            begin: the first of these planes.
        """
        first, windows = 0, slabs.windows
        for axis, (before, count) in enumerate(zip(windows.before, slabs.shape, strict=True)):
            low, high = before, before + count
            if axis == windows.axis:
                low, high = max(low, begin), min(high, begin + means.shape[axis + 2])
                first, low, high = low - before, low - begin, high - begin
            means = means.narrow(axis + 2, low, high - low)
        return cls(means, slabs.heads, slabs.networks.averaged_as, steps, windows.axis, first)

    @property
    def end(self) -> int:
        """The plane after the last."""
        return self.begin + self.means.shape[self.axis + 2]

    @property
    def plane_voxels(self) -> int:
        """Of one plane."""
        return self.means[0, 0].select(self.axis, 0).numel()

    @property
    def is_plain(self) -> bool:
        """Whether the means may go to the image's grid before anything else is done: all until there is linear."""
        return not self.steps.before and len(self.means) == 1

    def planes(self, number: int, planes: list[int], member: int = 0) -> torch.Tensor:
        """The means of some planes in one channel, (plane, row, column)."""
        low, high = planes[0] - self.begin, planes[-1] + 1 - self.begin
        part = self.means[member, number].narrow(self.axis, low, high - low).movedim(self.axis, 0)
        if len(planes) < high - low:
            part = part[[plane - planes[0] for plane in planes]]
        return part.contiguous()

    def classes(self, planes: list[int]) -> torch.Tensor:
        """The values of some planes that are to go to the image's grid, (channel, plane, row, column)."""
        total: torch.Tensor | None = None
        for member in range(len(self.means)):
            numbers = range(self.means.shape[1])
            values = torch.stack([self.planes(number, planes, member) for number in numbers])
            if self.heads:
                values = self.heads[member](values)
            if len(self.means) > 1:
                values = values.softmax(dim=0) if self.averaged_as == "softmax" else values.sigmoid()
            total = values if total is None else total.add_(values)
        assert total is not None, "there is a network"
        return apply(self.steps.before, total.div_(len(self.means)))

    def values(self, planes: Planes, targets: range) -> torch.Tensor:
        """The values of some of the image's planes, (channel, plane, row, column), that the steps there get."""
        found = self.classes(planes.sources(targets))
        return planes.values(lambda number, _: found[number], len(found), targets)

    def labels(self, planes: Planes, targets: range, values: torch.Tensor | None = None) -> torch.Tensor:
        """The channel of the largest value in each voxel of some of the image's planes, (plane, row, column).

        Args:
            planes: bring values to the image's.
            targets: planes of the image.
            values: ``Planes.room`` that takes the values themselves; None where they are not wanted.
        """
        if not self.is_plain:
            found = self.classes(planes.sources(targets))
            return planes.largest(lambda number, _: found[number], len(found), targets, values)
        channels = self.means.shape[1]
        if not self.heads:
            return planes.largest(self.planes, channels, targets, values)
        return planes.largest_of(self.heads[0], planes.values(self.planes, channels, targets), targets, values)


def masks_of(
    slabs: Slabs,
    steps: SlabSteps,
    back: WayBack,
    advance: Callable[[float], object],
    outputs: int | None = None,
    box: Box | None = None,
    certainty: Certainty | None = None,
) -> NDArray[np.unsignedinteger]:
    """The mask, or one for each channel that the steps leave, (channel, i, j, k), on the image's grid.

    Args:
        slabs: the finished means.
        steps: what becomes of them.
        back: from the network's grid to the image's.
        advance: called with each further share, of 1 in all, of the windows.
        outputs: how many the network has to give; None for any.
        box: of the image's voxels (i, j, k), outside which the masks are 0; None for all of it.
        certainty: takes in probabilities, and leaves voxels out that are not probable enough.

    Raises:
        UnsuitedError: the network or the steps are others than those that can be worked on slab by slab.
        BundleError: what comes out is no mask of whole numbers, or not finite.
    """
    axis = slabs.windows.axis
    others = [one for one in range(3) if one != axis]
    planes = Planes(back.taps[axis], back.taps[others[0]], back.taps[others[1]], slabs.home)
    result: NDArray[np.unsignedinteger] | None = None
    last_needed = planes.along.index.max(axis=1)
    wanted = box or (range(back.shape[0]), range(back.shape[1]), range(back.shape[2]))
    done = ~np.isin(np.arange(len(planes.along)), wanted[back.axes.index(axis)])
    for begin, means in slabs.finished(advance):
        finished = Finished.of(slabs, steps, means, begin)
        if result is None:
            require_outputs(slabs.classes, outputs)
            channels, left = steps.channels(slabs.classes)
            if certainty is not None:
                certainty.begin(steps, channels, back, axis, box)
            plain = steps.chooses and len(steps.after) == 1 and channels <= 256
            result = np.zeros((left, *back.shape[::-1]), np.uint8 if plain else np.uint16).transpose(0, 3, 2, 1)
            one_by_one = finished.is_plain and not slabs.heads and steps.chooses and certainty is None
            held = 4 * (1 if one_by_one else max(channels, slabs.channels)) * max(planes.voxels, finished.plane_voxels)
            most = min(LABEL_PLANES, max(1, VALUES_BYTES // held))
        view = result.transpose(0, *(back.axes.index(one) + 1 for one in (axis, *others)))
        rows = np.flatnonzero(~done & (last_needed < finished.end))
        done[rows] = True

        def label(targets: range, view: Any = view, finished: Finished = finished, channels: int = channels) -> None:
            if steps.chooses:
                values = None if certainty is None else planes.room(channels, targets)
                labels = _numbered(finished.labels(planes, targets, values)[None], steps.after[1:])
            else:
                values = finished.values(planes, targets)
                labels = whole_numbers(apply(steps.after, values))
            if certainty is not None and values is not None:
                certainty.take(targets, values, labels)
            view[:, targets.start : targets.stop] = labels

        side_by_side(label, _runs(rows, most), planes.device)
    assert result is not None, "an image has windows"
    result = within(result, box)
    return result.astype(np.uint8) if result.dtype != np.uint8 and result.max() <= 255 else result


def within(masks: NDArray[np.unsignedinteger], box: Box | None) -> NDArray[np.unsignedinteger]:
    """Masks (..., i, j, k) that are 0 outside a box of voxels."""
    if box is None:
        return masks
    i, j, k = (slice(side.start, side.stop) for side in box)
    kept = np.zeros_like(masks)
    kept[..., i, j, k] = masks[..., i, j, k]
    return kept


def _numbered(labels: torch.Tensor, rest: Sequence[Any]) -> NDArray[np.unsignedinteger]:
    """Labels (1, plane, row, column) after the steps that follow the choice."""
    return whole_numbers(apply(rest, labels.float())) if rest else labels.cpu().numpy()


def _runs(rows: NDArray[np.int64], most: int) -> Iterator[range]:
    """Rows that follow each other, ``most`` at once."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        for begin in range(0, len(run), most):
            part = run[begin : begin + most]
            yield range(int(part[0]), int(part[-1]) + 1)
