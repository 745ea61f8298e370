"""From finished class values to the labels of the image's own voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.inference.outcome import require_outputs, whole_numbers
from volseg.inference.planes import Planes, side_by_side
from volseg.inference.slab_steps import UnsuitedError, apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray

    from volseg.inference.slab_steps import SlabSteps
    from volseg.inference.slabs import Box, Slabs
    from volseg.inference.way_back import WayBack
    from volseg.inference.windows import Windows

LABEL_PLANES = 8
"""Planes of the image that are labelled at once: few enough to stay in the processor's cache."""
VALUES_BYTES = 2**26
"""Of class values on the image's grid, where a step needs all of them at once."""


@dataclass(frozen=True, eq=False)
class Finished:
    """Finished values of some planes of the preprocessed image.

    Args:
        values: (class, i, j, k); along ``axis`` these planes alone.
        axis: that the planes are stacked along.
        begin: the first of them, in the image.
    """

    values: torch.Tensor
    axis: int
    begin: int

    @classmethod
    def of(cls, windows: Windows, values: torch.Tensor, begin: int, shape: Sequence[int]) -> Finished:
        """Without what the windows' padding gave.

        Args:
            windows: that the values are of.
            values: of whole planes of the padded image.
            begin: the first of these planes.
            shape: of the image before it was padded (i, j, k).
        """
        first = 0
        for axis, (before, count) in enumerate(zip(windows.before, shape, strict=True)):
            low, high = before, before + count
            if axis == windows.axis:
                low, high = max(low, begin), min(high, begin + values.shape[axis + 1])
                first, low, high = low - before, low - begin, high - begin
            values = values.narrow(axis + 1, low, high - low)
        return cls(values, windows.axis, first)

    @property
    def end(self) -> int:
        """The plane after the last."""
        return self.begin + self.values.shape[self.axis + 1]

    def change(self, steps: Sequence[Any], begin: int) -> None:
        """Put what steps make of each plane from ``begin`` on into the first classes, in place."""
        for plane in range(begin, self.end) if steps else ():
            part = self.values.narrow(self.axis + 1, plane - self.begin, 1)
            found = apply(steps, part)
            part[: len(found)] = found

    def planes(self, number: int, planes: list[int]) -> torch.Tensor:
        """Some planes of one class, (plane, row, column)."""
        low, high = planes[0] - self.begin, planes[-1] + 1 - self.begin
        part = self.values[number].narrow(self.axis, low, high - low).movedim(self.axis, 0)
        if len(planes) < high - low:
            part = part[[plane - planes[0] for plane in planes]]
        return part.contiguous()


def masks_of(
    slabs: Slabs,
    steps: SlabSteps,
    back: WayBack,
    advance: Callable[[float], object],
    outputs: int | None = None,
    box: Box | None = None,
) -> NDArray[np.unsignedinteger]:
    """The mask, or one for each channel that the steps leave, (channel, i, j, k), on the image's grid.

    Args:
        slabs: the finished values.
        steps: what becomes of them.
        back: from the network's grid to the image's.
        advance: called with each further share, of 1 in all, of the windows.
        outputs: how many the network has to give; None for any.
        box: of the image's voxels (i, j, k), outside which the masks are 0; None for all of it.

    Raises:
        UnsuitedError: the network or the steps are others than those that can be worked on slab by slab.
        BundleError: what comes out is no mask of whole numbers, or not finite.
    """
    axis = slabs.windows.axis
    others = [one for one in range(3) if one != axis]
    planes = Planes(back.taps[axis], back.taps[others[0]], back.taps[others[1]], slabs.home)
    result: NDArray[np.unsignedinteger] | None = None
    channels, changed = 0, 0
    last_needed = planes.along.index.max(axis=1)
    wanted = box or (range(back.shape[0]), range(back.shape[1]), range(back.shape[2]))
    done = ~np.isin(np.arange(len(planes.along)), wanted[back.axes.index(axis)])
    for begin, values in slabs.finished(advance):
        finished = Finished.of(slabs.windows, values, begin, slabs.shape)
        if result is None:
            require_outputs(slabs.classes, outputs)
            channels, left = steps.channels(slabs.classes)
            if channels > slabs.classes:
                raise UnsuitedError("its postprocessing makes more channels than the network")
            plain = steps.chooses and len(steps.after) == 1 and channels <= 256
            result = np.zeros((left, *back.shape[::-1]), np.uint8 if plain else np.uint16).transpose(0, 3, 2, 1)
        view = result.transpose(0, *(back.axes.index(one) + 1 for one in (axis, *others)))
        finished.change(steps.before, changed)
        changed = finished.end
        rows = np.flatnonzero(~done & (last_needed < finished.end))
        done[rows] = True
        most = LABEL_PLANES if steps.chooses else max(1, VALUES_BYTES // (4 * channels * planes.voxels))

        def label(targets: range, view: Any = view, finished: Finished = finished, channels: int = channels) -> None:
            view[:, targets.start : targets.stop] = _labels(planes, finished, steps, channels, targets)

        side_by_side(label, _runs(rows, most), slabs.home)
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


def _labels(
    planes: Planes, finished: Finished, steps: SlabSteps, channels: int, targets: range
) -> NDArray[np.unsignedinteger]:
    """(channel, plane, row, column) of some planes of the image."""
    if not steps.chooses:
        return whole_numbers(apply(steps.after, planes.values(finished.planes, channels, targets)))
    labels = planes.largest(finished.planes, channels, targets)[None]
    rest = steps.after[1:]
    return whole_numbers(apply(rest, labels.float())) if rest else labels.cpu().numpy()


def _runs(rows: NDArray[np.int64], most: int) -> Iterator[range]:
    """Rows that follow each other, ``most`` at once."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        for begin in range(0, len(run), most):
            part = run[begin : begin + most]
            yield range(int(part[0]), int(part[-1]) + 1)
