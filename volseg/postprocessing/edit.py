"""A mask under the rules: findings are shared between rules, changes counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.components import CONNECTIVITIES, Cavities, Components, find_cavities, find_components
from volseg.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.components import LabelComponents
    from volseg.grid import Grid


@dataclass(frozen=True)
class LabelChanges:
    """What became of one label."""

    label: int
    removed_components: int
    removed_voxels: int
    filled_cavities: int
    filled_voxels: int
    voxels: int
    """What the label has in the end; 0 when all of it was removed."""


@dataclass(frozen=True)
class Changes:
    """What the rules changed in one mask, for each label that it held."""

    labels: tuple[LabelChanges, ...]
    cavities_between_labels: int = 0
    """Pockets that several labels enclose. They were left, as nobody knows whose they are."""

    @property
    def vanished(self) -> tuple[int, ...]:
        """The labels of which nothing is left."""
        return tuple(change.label for change in self.labels if not change.voxels)

    def __str__(self) -> str:
        removed, pieces = sum(c.removed_voxels for c in self.labels), sum(c.removed_components for c in self.labels)
        filled, holes = sum(c.filled_voxels for c in self.labels), sum(c.filled_cavities for c in self.labels)
        said = []
        if pieces:
            said.append(f"removed {counted(removed, 'voxel')} in {counted(pieces, 'component')}")
        if holes:
            said.append(f"filled {counted(filled, 'voxel')} in {counted(holes, 'hole')}")
        return ", ".join(said) or "nothing to change"


class MaskEdit:
    """A mask that rules change one after the other; the array that came in stays as it is.

    Removing whole components leaves the others as they were, so rules in a row share one search for components, and
    the voxels are written once, when a rule needs them.

    Args:
        mask: (i, j, k) whole numbers, 0 is the background.
        grid: where the voxels lie.
    """

    def __init__(self, mask: NDArray[np.generic], grid: Grid) -> None:
        self.grid = grid
        self._original = self._mask = mask
        self._components: Components | None = None
        self._connectivity = 0
        self._kept = np.zeros(0, bool)
        self._first: tuple[LabelComponents, ...] | None = None
        self._removed: Counter[int] = Counter()
        self._removed_voxels: Counter[int] = Counter()
        self._filled: Counter[int] = Counter()
        self._filled_voxels: Counter[int] = Counter()
        self._between_labels = 0

    def components(self, connectivity: int) -> Components:
        """The connected components, those that a rule before has removed among them.

        Raises:
            InputError: the mask is not three-dimensional, or not of whole numbers.
        """
        if self._components is None or self._connectivity != connectivity:
            self._settle()
            self._components, self._connectivity = find_components(self._mask, connectivity), connectivity
            self._kept = np.ones(len(self._components.sizes), bool)
            if self._first is None:
                self._first = self._components.by_label
        return self._components

    def remove(self, which: NDArray[np.bool_]) -> None:
        """Make components background: ``which`` (n + 1,) of those that ``components`` gave last."""
        assert self._components is not None
        gone = which & self._kept
        gone[0] = False
        self._kept &= ~gone
        _count(gone, self._components, self._removed, self._removed_voxels)

    def cavities(self, connectivity: int) -> Cavities:
        """The pockets of background inside the mask as it is now."""
        if self._first is None:
            self.components(connectivity)
        self._settle()
        found = find_cavities(self._mask, connectivity)
        self._between_labels = found.between_labels
        return found

    def fill(self, cavities: Cavities, which: NDArray[np.bool_]) -> None:
        """Give pockets the label that encloses them: ``which`` (n + 1,) of ``cavities``."""
        self._mask = cavities.fill(self._mask, which)
        _count(which, cavities, self._filled, self._filled_voxels)

    def result(self) -> tuple[NDArray[np.generic], Changes]:
        """A new mask of the same type, and what was changed."""
        if self._first is None:
            self.components(CONNECTIVITIES[-1])
        self._settle()
        mask = self._mask.copy(order="K") if self._mask is self._original else self._mask
        changes = []
        for record in self._first or ():
            label, fewer, more = record.label, self._removed_voxels[record.label], self._filled_voxels[record.label]
            pieces, holes = self._removed[label], self._filled[label]
            changes.append(LabelChanges(label, pieces, fewer, holes, more, record.voxels - fewer + more))
        return mask, Changes(tuple(changes), self._between_labels)

    def _settle(self) -> None:
        """Write what was removed; the components found before are of no use afterwards."""
        if self._components is not None and not self._kept[1:].all():
            self._mask = self._components.keep(self._mask, self._kept)
        self._components = None


def _count(which: NDArray[np.bool_], found: Components | Cavities, pieces: Counter[int], voxels: Counter[int]) -> None:
    for label, size in zip(found.owners[which].tolist(), found.sizes[which].tolist(), strict=True):
        pieces[label] += 1
        voxels[label] += size
