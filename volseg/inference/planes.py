"""Class values of planes of the network's grid, brought to planes of the image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from volseg.inference.head import Head
    from volseg.inference.way_back import Taps

T = TypeVar("T")
VOXELS_AT_ONCE, CLASSES_AT_ONCE = 2**14, 8
"""Whose class values are made of features at once: so few that they stay in the processor's cache."""
BLOCK = 32
"""Targets that are interpolated by one matrix product: of all its sources only those near them take part."""


@dataclass(frozen=True, eq=False)
class Band:
    """A part of the targets along one axis, and the sources that they are made of.

    Args:
        targets: of the image.
        sources: of the network's grid.
        weights: (targets, sources).
    """

    targets: slice
    sources: slice
    weights: torch.Tensor


def side_by_side(work: Callable[[T], object], items: Iterable[T], device: torch.device) -> None:
    """Do some work for each item, on a processor for as many at once as torch has threads, each of which computes on its own.

    Torch's threads would wait for each other over operations on a few planes, and over layers with few channels, the more the
    busier the machine is. Where there are fewer items than threads, these are shared out.
    """
    todo, threads = list(items), torch.get_num_threads() if device.type == "cpu" else 1
    workers = min(len(todo), threads)

    def one(item: T) -> None:
        with torch.inference_mode():
            work(item)

    if workers < 2:
        for item in todo:
            one(item)
        return
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            list(pool.map(one, todo))
    finally:
        torch.set_num_threads(threads)  # of threads to come; that of this one is its own


def bands_of(taps: Taps, device: torch.device) -> tuple[Band, ...]:
    """The interpolation along one axis, block by block; nothing where nothing happens."""
    if taps.is_same:
        return ()
    bands = []
    for begin in range(0, len(taps), BLOCK):
        targets = slice(begin, min(begin + BLOCK, len(taps)))
        index, weight = taps.index[targets], taps.weight[targets]
        low, high = int(index.min()), int(index.max()) + 1
        matrix = np.zeros((len(index), high - low), np.float32)
        rows = np.arange(len(index))
        for side in range(2):
            np.add.at(matrix, (rows, index[:, side] - low), weight[:, side])
        bands.append(Band(targets, slice(low, high), torch.from_numpy(matrix).to(device)))
    return tuple(bands)


@dataclass(frozen=True, eq=False)
class Planes:
    """Brings planes across one axis of the network's grid to the image's.

    Args:
        along: the axis that the planes are stacked along.
        rows: across the planes, the first of the other two axes.
        columns: the second.
        device: where this is computed.
    """

    along: Taps
    rows: Taps
    columns: Taps
    device: torch.device

    @cached_property
    def _row_bands(self) -> tuple[Band, ...]:
        return bands_of(self.rows, self.device)

    @cached_property
    def _column_bands(self) -> tuple[Band, ...]:
        return bands_of(self.columns, self.device)

    @property
    def voxels(self) -> int:
        """Of one plane of the image."""
        return len(self.rows) * len(self.columns)

    def sources(self, targets: range) -> list[int]:
        """The planes that some of the image's are made of, ascending."""
        return [int(plane) for plane in np.unique(self.along.index[targets])]

    def across(self, planes: torch.Tensor) -> torch.Tensor:
        """Planes (plane, row, column) of one class with the image's rows and columns; (plane, row, column)."""
        found = planes.to(self.device)
        # Where nothing happens the targets may still be the first of more sources.
        found = found[
            :, : None if self._row_bands else len(self.rows), : None if self._column_bands else len(self.columns)
        ]
        if self._column_bands:
            wide = found.new_empty(*found.shape[:2], len(self.columns))
            flat, out = found.flatten(0, 1), wide.flatten(0, 1)
            for band in self._column_bands:
                torch.mm(flat[:, band.sources], band.weights.T, out=out[:, band.targets])
            found = wide
        if self._row_bands:
            high = found.new_empty(len(found), len(self.rows), found.shape[2])
            for one, out in zip(found, high, strict=True):
                for band in self._row_bands:
                    torch.mm(band.weights, one[band.sources], out=out[band.targets])
            found = high
        return found

    def between(self, planes: torch.Tensor, sources: list[int], targets: range) -> Iterator[torch.Tensor]:
        """The image's planes (row, column) one by one, from those of the network's that ``across`` gave.

        Args:
            planes: (plane, row, column).
            sources: which they are.
            targets: which are wanted.
        """
        places = {plane: place for place, plane in enumerate(sources)}
        for target in targets:
            (first, second), (one, other) = self.along.index[target], self.along.weight[target]
            if other == 0:
                plane = planes[places[int(first)]]
                yield plane if one == 1 else plane * float(one)
            elif one + other == 1:
                yield torch.lerp(planes[places[int(first)]], planes[places[int(second)]], float(other))
            else:
                yield planes[places[int(first)]] * float(one) + planes[places[int(second)]] * float(other)

    def room(self, classes: int, targets: range) -> torch.Tensor:
        """Room for the values (class, plane, row, column) of some of the image's planes."""
        return torch.empty(classes, len(targets), len(self.rows), len(self.columns), device=self.device)

    def largest(
        self,
        class_planes: Callable[[int, list[int]], torch.Tensor],
        classes: int,
        targets: range,
        values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The class of the largest value in each voxel of some of the image's planes, the first of equal ones.

        Args:
            class_planes: from a class and planes of the network's grid to their values (plane, row, column).
            classes: how many there are.
            targets: planes of the image.
            values: ``room`` that takes the values themselves; None where they are not wanted.

        Returns:
            (plane, row, column) uint8, or int16 for more than 256 classes.
        """
        shape = (len(targets), len(self.rows), len(self.columns))
        best, labels = self._first(classes, shape)
        sources = self.sources(targets)
        for number in range(classes):
            planes = self.across(class_planes(number, sources))
            for place, plane in enumerate(self.between(planes, sources, targets)):
                _keep_larger(number, plane, best[place], labels[place])
                if values is not None:
                    values[number, place] = plane
        return labels

    def largest_of(
        self, head: Head, features: torch.Tensor, targets: range, values: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As ``largest``, of the class values that a linear layer makes of features.

        Args:
            head: the layer.
            features: (feature, plane, row, column) of the image's planes.
            targets: which planes these are.
            values: as in ``largest``.
        """
        flat = features.flatten(1)
        classes = len(head.bias)
        best, labels = self._first(classes, (flat.shape[1],))
        for begin in range(0, flat.shape[1], VOXELS_AT_ONCE):
            part = slice(begin, begin + VOXELS_AT_ONCE)
            for first in range(0, classes, CLASSES_AT_ONCE):
                for number, found in enumerate(head.some(first, first + CLASSES_AT_ONCE)(flat[:, part]), first):
                    _keep_larger(number, found, best[part], labels[part])
                    if values is not None:
                        values[number].view(-1)[part] = found
        labels = labels.reshape(features.shape[1:])
        # Beside what was cropped all classes are 0, and the first is taken.
        for axis, taps in enumerate(
            (self.along.picked(np.arange(targets.start, targets.stop)), self.rows, self.columns)
        ):
            beside = torch.from_numpy(taps.weight.sum(axis=1) == 0).to(self.device)
            if beside.any():
                labels.movedim(axis, 0)[beside] = 0
                if values is not None:
                    values.movedim(axis + 1, 0)[beside] = 0
        return labels

    def _first(self, classes: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Room for the largest values so far, and their classes."""
        kind = torch.uint8 if classes <= 256 else torch.int16
        return torch.empty(shape, device=self.device), torch.zeros(shape, dtype=kind, device=self.device)

    def values(
        self, class_planes: Callable[[int, list[int]], torch.Tensor], classes: int, targets: range
    ) -> torch.Tensor:
        """All classes (class, plane, row, column) of some of the image's planes; arguments as in ``largest``."""
        result = self.room(classes, targets)
        sources = self.sources(targets)
        for number in range(classes):
            planes = self.across(class_planes(number, sources))
            for place, plane in enumerate(self.between(planes, sources, targets)):
                result[number, place] = plane
        return result


def _keep_larger(number: int, values: torch.Tensor, best: torch.Tensor, labels: torch.Tensor) -> None:
    """Note where the values of a class are the largest so far; on a processor NumPy is quicker at it by far."""
    if not number:
        best.copy_(values)
    elif values.device.type != "cpu":
        labels.masked_fill_(values > best, number)
        torch.maximum(best, values, out=best)
    else:
        now, before = values.numpy(), best.numpy()
        np.copyto(labels.numpy(), number, where=now > before)
        np.maximum(now, before, out=before)
