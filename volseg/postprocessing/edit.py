"""A mask under the rules: findings are shared between rules, changes counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from volseg.components import Cavities, Components, find_cavities, find_components
from volseg.distances import nearest_of, spacing_of
from volseg.errors import InputError
from volseg.labels import MAX_INDEX
from volseg.voxels import slabs, union
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.voxels import Box

    Groups = tuple[tuple[int, ...], ...]


INSTANCE_STEP = 1000
"""Instance 7 of label 2 has the number 2007, as Cityscapes numbers its own: the same in all masks of a folder."""


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
    trimmed_voxels: int = 0
    """Those that rules took which see voxels rather than components: opening, smoothing."""
    added_voxels: int = 0
    """Those that rules gave which see voxels rather than holes: closing, smoothing, gaps."""


@dataclass(frozen=True)
class Changes:
    """What the rules changed in one mask, for each label that it held."""

    labels: tuple[LabelChanges, ...]
    cavities_between_labels: int = 0
    """Pockets that several labels enclose. They were left, as nobody knows whose they are."""
    split: tuple[int, ...] = ()
    """Labels whose components got numbers of their own, which are among ``labels``."""

    @property
    def instances(self) -> dict[int, int]:
        """How many instances are left of each label that was split."""
        found = Counter(change.label // INSTANCE_STEP for change in self.labels if change.voxels)
        return {label: found[label] for label in self.split}

    @property
    def vanished(self) -> tuple[int, ...]:
        """The labels of which nothing is left."""
        return tuple(change.label for change in self.labels if not change.voxels and change.label not in self.split)

    @property
    def left(self) -> tuple[str, ...]:
        """What the rules left as it was and a person has to know, in sentences."""
        count = self.cavities_between_labels
        return (f"{counted(count, 'hole')} between several labels stayed: whose they are is not known.",) * bool(count)

    def __str__(self) -> str:
        removed, pieces = sum(c.removed_voxels for c in self.labels), sum(c.removed_components for c in self.labels)
        filled, holes = sum(c.filled_voxels for c in self.labels), sum(c.filled_cavities for c in self.labels)
        trimmed, added = sum(c.trimmed_voxels for c in self.labels), sum(c.added_voxels for c in self.labels)
        said = []
        if pieces:
            said.append(f"removed {counted(removed, 'voxel')} in {counted(pieces, 'component')}")
        if holes:
            said.append(f"filled {counted(filled, 'voxel')} in {counted(holes, 'hole')}")
        if trimmed:
            said.append(f"trimmed {counted(trimmed, 'voxel')}")
        if added:
            said.append(f"added {counted(added, 'voxel')}")
        if self.split:
            said.append(f"numbered the instances of {counted(len(self.split), 'label')}")
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
        self._how: tuple[int, Groups] = 0, ()
        self._kept = np.zeros(0, bool)
        self._first: dict[int, int] | None = None
        self._removed: Counter[int] = Counter()
        self._removed_voxels: Counter[int] = Counter()
        self._filled: Counter[int] = Counter()
        self._filled_voxels: Counter[int] = Counter()
        self._trimmed: Counter[int] = Counter()
        self._added: Counter[int] = Counter()
        self._split: set[int] = set()
        self._between_labels = 0

    @property
    def mask(self) -> NDArray[np.generic]:
        """(i, j, k) as it is now; to be read alone."""
        self._settle()
        return self._mask

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the grid.

        Raises:
            GeometryError: its axes are not at right angles, so lengths can't be measured along them.
        """
        return spacing_of(self.grid)

    def boxes(self) -> dict[int, Box]:
        """The smallest box around each label that the mask holds now, ascending.

        Raises:
            InputError: a number is above 65535, or the mask is not three-dimensional, or not of whole numbers.
        """
        from scipy.ndimage import find_objects

        mask = _plain(self.mask)
        found = find_objects(mask)
        return {label: cast("Box", box) for label, box in enumerate(found, 1) if box is not None}

    def components(self, connectivity: int, groups: Groups = ()) -> Components:
        """The connected components, those that a rule before has removed among them.

        Args:
            connectivity: 6, 18 or 26 neighbours.
            groups: labels that count as one, by the lowest of their numbers.

        Raises:
            InputError: the mask is not three-dimensional, or not of whole numbers.
        """
        if self._components is None or self._how != (connectivity, groups):
            self._settle()
            found = find_components(_merged(self._mask, groups), connectivity)
            self._components, self._how = found, (connectivity, groups)
            self._kept = np.ones(len(found.sizes), bool)
            if self._first is None and not groups:
                self._first = {record.label: record.voxels for record in found.by_label}
        return self._components

    def remove(self, which: NDArray[np.bool_]) -> None:
        """Make components background: ``which`` (n + 1,) of those that ``components`` gave last."""
        assert self._components is not None
        gone = which & self._kept
        gone[0] = False
        self._kept &= ~gone
        if not self._how[1]:
            _count(gone, self._components, self._removed, self._removed_voxels)
        elif gone.any():  # the owner of a component stands for its group
            self.voxels()  # before there are fewer
            before = _voxels_of(self._mask)
            self._removed.update(self._components.owners[gone].tolist())
            self._settle()
            self._removed_voxels.update(Counter(before) - Counter(_voxels_of(self._mask)))

    def cavities(self, connectivity: int, groups: Groups = ()) -> Cavities:
        """The pockets of background inside the mask as it is now; those of a group belong to its lowest number."""
        found = find_cavities(_merged(self.mask, groups), connectivity)
        self.voxels()
        self._between_labels = found.between_labels
        return found

    def fill(self, cavities: Cavities, which: NDArray[np.bool_], groups: Groups = ()) -> None:
        """Give pockets the label that encloses them, ``which`` (n + 1,) of ``cavities``; of a group the nearest."""
        mask, self._components = self._mask, None
        self._mask = cavities.fill(mask, which)
        grouped = which & np.isin(cavities.owners, [min(group) for group in groups])
        _count(which & ~grouped, cavities, self._filled, self._filled_voxels)
        self._filled.update(cavities.owners[grouped].tolist())
        for group in groups if grouped.any() else ():
            where = (grouped & (cavities.owners == min(group)))[cavities.numbers]
            present = [label for label in sorted(group) if (mask[cavities.box] == label).any()]
            if where.any():
                labels = nearest_of(mask[cavities.box], present, where, self.spacing_mm)
                self._mask[cavities.box][where] = labels
                self._filled_voxels.update(_tally(labels))

    def put(self, box: Box, where: NDArray[np.bool_], values: NDArray[np.generic] | int) -> None:
        """Give voxels other labels.

        Args:
            box: a part of the mask.
            where: (i, j, k) in the box.
            values: for all of them, or for each.
        """
        old = self._write(box, where, values)
        new = np.broadcast_to(np.asarray(values), old.shape)
        is_other = old != new
        self._trimmed.update(_tally(old[is_other]))
        self._added.update(_tally(new[is_other]))

    def split(self, label: int, box: Box, where: NDArray[np.bool_], values: NDArray[np.generic]) -> None:
        """Number a label's instances: as ``put``, though nothing was trimmed or added."""
        if not np.can_cast(np.min_scalar_type(int(values.max(initial=0))), self.mask.dtype):
            self._mask = self._mask.astype(np.uint16)
        self._split.add(label)
        first, old = dict(self.voxels()), self._write(box, where, values)
        # As if they had been there from the beginning, so that the sums are right.
        for number, voxels in _tally(values).items():
            first[number] = first.get(number, 0) + voxels
        first[label] = first.get(label, 0) - len(old)
        self._first = first

    def _write(self, box: Box, where: NDArray[np.bool_], values: NDArray[np.generic] | int) -> NDArray[np.generic]:
        """Write voxels into a mask of our own, and give back what they were."""
        self.voxels()
        self._settle()
        if self._mask is self._original:
            self._mask = self._mask.copy(order="K")
        self._components = None
        part = self._mask[box]
        old: NDArray[np.generic] = part[where]
        part[where] = values
        return old

    def voxels(self) -> dict[int, int]:
        """The voxels of each label that the mask held when it came in."""
        if self._first is None:
            self._first = _voxels_of(self._original)
        return self._first

    def result(self) -> tuple[NDArray[np.generic], Changes]:
        """A new mask, and what was changed; of the same type, unless the numbers of instances need a wider one."""
        first = self.voxels()
        self._settle()
        mask = self._mask.copy(order="K") if self._mask is self._original else self._mask
        changes = []
        for label in sorted({*first, *self._added}):
            fewer, more = self._removed_voxels[label], self._filled_voxels[label]
            trimmed, added = self._trimmed[label], self._added[label]
            voxels = first.get(label, 0) - fewer + more - trimmed + added
            pieces, holes = self._removed[label], self._filled[label]
            changes.append(LabelChanges(label, pieces, fewer, holes, more, voxels, trimmed, added))
        return mask, Changes(tuple(changes), self._between_labels, tuple(sorted(self._split)))

    def _settle(self) -> None:
        """Write what was removed; the components found before are of no use once something was."""
        if self._components is not None and not self._kept[1:].all():
            self._mask = self._components.keep(self._mask, self._kept)
            self._components = None


def box_of(labels: Sequence[int], boxes: dict[int, Box]) -> Box:
    """The smallest box around several labels that the mask holds."""
    found = boxes[labels[0]]
    for label in labels[1:]:
        found = union(found, boxes[label])
    return found


def _count(which: NDArray[np.bool_], found: Components | Cavities, pieces: Counter[int], voxels: Counter[int]) -> None:
    for label, size in zip(found.owners[which].tolist(), found.sizes[which].tolist(), strict=True):
        pieces[label] += 1
        voxels[label] += size


def _merged(mask: NDArray[np.generic], groups: Groups) -> NDArray[np.generic]:
    """The mask with the lowest number of each group in place of the others."""
    if not groups:
        return mask
    merged = _plain(mask).copy(order="K")
    for group in groups:
        for label in sorted(group)[1:]:
            merged[merged == label] = min(group)
    return merged


def _plain(mask: NDArray[np.generic]) -> NDArray[np.generic]:
    """The mask, of whole numbers up to 65535.

    Raises:
        InputError: it is none.
    """
    if mask.ndim != 3:
        raise InputError(f"A mask has three axes, not {mask.ndim}.", code="not-a-volume")
    if mask.dtype.kind not in "bui":
        raise InputError(f"A mask holds whole numbers, not {mask.dtype}.", code="mask-values")
    plain = mask.view(np.uint8) if mask.dtype.kind == "b" else mask
    if plain.itemsize > 2 and plain.size and not 0 <= int(plain.min()) <= int(plain.max()) <= MAX_INDEX:
        raise InputError(f"A mask holds numbers from 0 to {MAX_INDEX}.", code="mask-values")
    return plain


def _voxels_of(mask: NDArray[np.generic]) -> dict[int, int]:
    """The voxels of each label, ascending."""
    plain, counts = _plain(mask), np.zeros(MAX_INDEX + 1, np.int64)
    for slab in slabs(plain):
        here = np.bincount(plain[slab].ravel(order="K").astype(np.intp, copy=False))
        counts[: len(here)] += here
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts) if label}


def _tally(values: NDArray[np.generic]) -> dict[int, int]:
    """How often each label is there, background left out."""
    labels, counts = np.unique(values, return_counts=True)
    return {label: count for label, count in zip(labels.tolist(), counts.tolist(), strict=True) if label}
