"""Probabilities of labels, made while a mask is: kept in a file as they come, and compared with thresholds.

The memory holds those of a few planes. In the file each label's planes are compressed by themselves, and one label at a time is
brought back as a volume when it is written.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch
from isal import isal_zlib

from volseg.atomic import write_error
from volseg.errors import BundleError
from volseg.inference.choice import Choice, by_label, choosing_last, cut_at
from volseg.labels import BACKGROUND
from volseg.volume import PROBABILITY_ONE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.inference.choice import Least
    from volseg.inference.slab_steps import SlabSteps
    from volseg.inference.slabs import Activation, Box
    from volseg.inference.way_back import WayBack

LEVEL = 1
"""Of isal's 0 to 3."""


class Area(Protocol):
    """A part of an image that was segmented."""

    def cut(self, masks: NDArray[np.unsignedinteger]) -> None:
        """Make what lies outside 0, in arrays (..., i, j, k)."""
        ...


class ProbabilityFile:
    """Probabilities of an image's labels, in a file without a name, so that nothing of it is left whatever happens.

    Args:
        folder: on whose disk it lies.
        labels: those that are kept; None for all.

    Raises:
        DiskFullError, FileError: it can't be made.
    """

    def __init__(self, folder: Path, labels: Sequence[int] | None = None) -> None:
        self._folder, self._labels = folder, None if labels is None else frozenset(labels)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed with this
        except OSError as error:
            raise write_error(folder, error) from error
        self._lock = Lock()
        self._parts: dict[int, list[tuple[range, int, int]]] = defaultdict(list)
        self._layout: _Layout | None = None
        self.area: Area | None = None
        """Beside which all is background; None for the whole image."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def labels(self) -> frozenset[int]:
        """Those that are kept, and that the network gives."""
        return frozenset(self._parts)

    def only(self, label: int) -> OneLabel:
        """What is kept of one label, as the label 1."""
        return OneLabel(self, label)

    def wants(self, label: int) -> bool:
        """Whether a label is kept."""
        return self._labels is None or label in self._labels

    def begin(self, layout: _Layout) -> None:
        """Say how planes lie in the image."""
        self._layout = layout

    def add(self, label: int, targets: range, planes: NDArray[np.uint16]) -> None:
        """Keep planes (plane, row, column) of a label; from any thread.

        Raises:
            DiskFullError, FileError: they can't be written.
        """
        packed = isal_zlib.compress(np.ascontiguousarray(planes, "<u2").data.cast("B"), LEVEL)
        with self._lock:
            try:
                place = self._file.seek(0, 2)
                self._file.write(packed)
            except OSError as error:
                raise write_error(self._folder, error) from error
            self._parts[label].append((targets, place, len(packed)))

    def of(self, label: int) -> NDArray[np.uint16]:
        """The probabilities of a label on the image's grid (i, j, k), of which ``PROBABILITY_ONE`` stands for 1, i running fastest.

        Beside the box that was asked for, and where the bundle cropped the image, the background has the probability 1.
        """
        layout = self._layout
        assert layout is not None, "a mask was made"
        found = np.zeros(layout.shape[::-1], np.uint16).transpose(2, 1, 0)
        view, missing = found.transpose(layout.order), layout.inside[layout.order[0]].copy()
        for targets, place, length in self._parts.get(label, ()):
            with self._lock:
                self._file.seek(place)
                packed = self._file.read(length)
            planes = np.frombuffer(isal_zlib.decompress(packed), "<u2")
            view[targets.start : targets.stop] = planes.reshape(len(targets), *view.shape[1:])
            missing[targets.start : targets.stop] = False
        assert label not in self._parts or not missing.any(), "all planes were made"
        beyond = PROBABILITY_ONE if label == BACKGROUND else 0
        for axis, inside in enumerate(layout.inside):
            np.moveaxis(found, axis, 0)[~inside] = beyond
        if self.area is not None and label == BACKGROUND:
            np.subtract(PROBABILITY_ONE, found, out=found)
            self.area.cut(found)
            np.subtract(PROBABILITY_ONE, found, out=found)
        elif self.area is not None:
            self.area.cut(found)
        return found


@dataclass(frozen=True, eq=False)
class OneLabel:
    """What a file keeps of one label, as that of a mask which has no other."""

    file: ProbabilityFile
    label: int
    labels: frozenset[int] = frozenset({1})

    def of(self, label: int) -> NDArray[np.uint16]:
        """As ``ProbabilityFile.of``."""
        assert label in self.labels, "there is no other"
        return self.file.of(self.label)


@dataclass(frozen=True, eq=False)
class _Layout:
    """How planes lie in an image.

    Args:
        shape: of the image (i, j, k).
        order: the image's axes that planes are stacked along, and that their rows and columns are.
        inside: for each axis of the image, which of its voxels have probabilities of their own.
    """

    shape: tuple[int, int, int]
    order: tuple[int, int, int]
    inside: tuple[NDArray[np.bool_], ...]


@dataclass(eq=False)
class Certainty:
    """What is done with the probabilities of an image's labels while its mask is made.

    Args:
        wanted: the least probabilities that voxels of labels, or of regions from 1, need.
        file: keeps them; None where they are not wanted.
    """

    wanted: Sequence[Least] = ()
    file: ProbabilityFile | None = None
    _averaged_as: Activation | None = field(default=None, init=False)
    _choice: Choice | None = field(default=None, init=False)
    _found: set[int] = field(default_factory=set, init=False)
    _kept: set[int] = field(default_factory=set, init=False)

    @property
    def vanished(self) -> tuple[int, ...]:
        """The labels of which the least probabilities left nothing."""
        return tuple(sorted(self._found - self._kept))

    def steps(self, steps: SlabSteps, back: WayBack, averaged_as: Activation | None) -> SlabSteps:
        """A config's steps as probabilities want them: the choice on the image's grid, regions cut at theirs.

        Args:
            steps: of the config.
            back: from the network's grid to the image's.
            averaged_as: the probabilities that several networks' values are averaged as; None of a single one.

        Raises:
            UnsuitedError: the config doesn't choose by probabilities.
        """
        self._averaged_as = averaged_as
        return cut_at(choosing_last(steps, back), self.wanted, averaged_as)

    def begin(self, steps: SlabSteps, channels: int, back: WayBack, axis: int, box: Box | None) -> None:
        """Say what will come.

        Args:
            steps: as ``steps`` gave them.
            channels: that come back to the image's grid.
            back: from the network's grid to the image's.
            axis: of the network's grid that planes are stacked along.
            box: of the image's voxels outside which nothing is segmented; None for all of it.

        Raises:
            UnsuitedError: as ``steps``.
            BundleError: a region that needs some probability is not there.
        """
        self._choice = Choice.of(steps, channels, self._averaged_as)
        regions = () if self._choice.is_exclusive else self._choice.numbers
        beyond = sorted(set(by_label(self.wanted, regions)) - set(regions)) if regions else []
        if beyond:
            raise BundleError(f"A threshold is for region {beyond[0]}, and there are {len(regions)}.", code="no-label")
        if self.file is None:
            return
        inside = []
        for place, count in enumerate(back.shape):
            there = np.ones(count, bool)
            if self._choice.is_exclusive:
                there &= back.taps[back.axes[place]].weight.sum(axis=1) > 0
            if box is not None:
                there &= np.isin(np.arange(count), box[place])
            inside.append(there)
        first, second, third = (back.axes.index(one) for one in (axis, *(other for other in range(3) if other != axis)))
        self.file.begin(_Layout(back.shape, (first, second, third), tuple(inside)))

    def take(self, targets: range, values: torch.Tensor, labels: NDArray[np.unsignedinteger]) -> None:
        """Take in some planes of the image; from any thread.

        Args:
            targets: planes of the image.
            values: (channel, plane, row, column) that labels are chosen by; used up.
            labels: (channel, plane, row, column), those that were chosen; what is not probable enough becomes background.
        """
        choice = self._choice
        assert choice is not None, "what will come was said"
        if self.file is None and not choice.is_exclusive:
            return  # regions were cut already
        probabilities = choice.probabilities(values)
        if choice.is_exclusive:
            self._leave_out(labels[0], probabilities, choice.numbers)
        if self.file is not None:
            for label in sorted(set(choice.numbers)):
                if self.file.wants(label):
                    self.file.add(label, targets, _stored(_together(probabilities, choice.numbers, (label,))))

    def _leave_out(self, labels: NDArray[np.unsignedinteger], values: torch.Tensor, numbers: tuple[int, ...]) -> None:
        """Make background of voxels (plane, row, column) whose label is not probable enough."""
        known = sorted(set(numbers) - {BACKGROUND})
        for label, (part, least) in by_label(self.wanted, known).items():
            here = labels == label
            if not here.any():
                continue
            self._found.add(label)
            here &= (_together(values, numbers, part) < least).cpu().numpy()
            labels[here] = BACKGROUND
            if (labels == label).any():
                self._kept.add(label)


def _together(values: torch.Tensor, numbers: Sequence[int], labels: Sequence[int]) -> torch.Tensor:
    """The probability (plane, row, column) that a voxel is of one of some labels."""
    channels = [channel for channel, number in enumerate(numbers) if number in labels]
    if not channels:
        return torch.zeros_like(values[0])
    return values[channels[0]] if len(channels) == 1 else values[channels].sum(dim=0).clamp_(max=1)


def _stored(probabilities: torch.Tensor) -> NDArray[np.uint16]:
    return (probabilities * PROBABILITY_ONE).round_().to(torch.int32).cpu().numpy().astype(np.uint16)
