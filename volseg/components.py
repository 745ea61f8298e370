"""Connected components of a mask: all labels in one pass, in memory that does not grow with their number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from volseg.errors import InputError, UsageError
from volseg.voxels import bounding_box, memory_order, slabs

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from volseg.voxels import Box

Connectivity: TypeAlias = Literal[6, 18, 26]
"""Voxels are neighbours across faces (6), edges too (18), or corners too (26)."""
CONNECTIVITIES: tuple[int, ...] = get_args(Connectivity)
PIECE_VOXELS = 2**23
"""Components are looked for in pieces of this size, which take 32 MiB each."""


@dataclass(frozen=True)
class LabelComponents:
    """How the voxels of one label hang together."""

    label: int
    voxels: int
    components: int
    largest_voxels: int

    @property
    def largest_share(self) -> float:
        """The share of the label's voxels that its largest component holds, above 0 and up to 1."""
        return self.largest_voxels / self.voxels


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a mask, numbered from 1; number 0 is the background.

    Args:
        shape: the mask's.
        box: the smallest box that holds every voxel above background; ``numbers`` covers it.
        numbers: (i, j, k) inside ``box``, the number of the component that a voxel belongs to.
        owners: (n + 1,) the label of each component.
        sizes: (n + 1,) the voxels of each component.
    """

    shape: tuple[int, ...]
    box: Box
    numbers: NDArray[np.unsignedinteger]
    owners: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @cached_property
    def by_label(self) -> tuple[LabelComponents, ...]:
        """One record for each label that has voxels, ascending."""
        labels, which = np.unique(self.owners[1:], return_inverse=True)
        largest = np.zeros(len(labels), np.int64)
        np.maximum.at(largest, which, self.sizes[1:])
        voxels = np.zeros(len(labels), np.int64)
        np.add.at(voxels, which, self.sizes[1:])
        counts = np.bincount(which, minlength=len(labels))
        rows = zip(labels, voxels, counts, largest, strict=True)
        return tuple(LabelComponents(*(int(value) for value in row)) for row in rows)

    def largest(self, count: int = 1) -> NDArray[np.bool_]:
        """(n + 1,) whether a component is among the ``count`` largest of its label.

        Of several with equally many voxels it is the one that begins last when k runs fastest and i slowest, however
        the mask lies in memory. MONAI's ``KeepLargestConnectedComponent`` takes that one too of up to four components;
        of more it takes any, as its sort leaves equals in any order.
        """
        chosen = np.zeros(len(self.sizes), bool)
        if len(chosen) == 1:
            return chosen
        order = np.lexsort((-self.sizes[1:], self.owners[1:])) + 1
        starts = np.flatnonzero(np.diff(self.owners[order], prepend=-1))
        lengths = np.diff(starts, append=len(order))
        place = np.arange(len(order)) - np.repeat(starts, lengths)
        chosen[order[place < count]] = True
        # Where the last that is chosen has equals among those that are not, the place in the mask decides.
        last = starts + np.minimum(count, lengths) - 1
        is_tied = (lengths > count) & (
            self.sizes[order[last]] == self.sizes[order[np.minimum(last + 1, len(order) - 1)]]
        )
        rivals = order[np.repeat(np.where(is_tied, self.sizes[order[last]], 0), lengths) == self.sizes[order]]
        if len(rivals):
            candidates = np.zeros(len(self.sizes), bool)
            candidates[rivals] = True
            rivals = rivals[np.lexsort((-self._first_voxels(candidates)[rivals], self.owners[rivals]))]
            starts = np.flatnonzero(np.diff(self.owners[rivals], prepend=-1))
            lengths = np.diff(starts, append=len(rivals))
            left = np.add.reduceat(chosen[rivals].astype(np.int64), starts)
            chosen[rivals] = np.arange(len(rivals)) - np.repeat(starts, lengths) < np.repeat(left, lengths)
        return chosen

    def at_border(self) -> NDArray[np.bool_]:
        """(n + 1,) whether a component has a voxel on a face of the mask's array."""
        found = np.zeros(len(self.sizes), bool)
        for axis, (part, size) in enumerate(zip(self.box, self.shape, strict=True)):
            line = np.moveaxis(self.numbers, axis, 0)
            for touches, face in ((part.start == 0, line[:1]), (part.stop == size, line[-1:])):
                if touches:
                    found[np.unique(face)] = True
        found[0] = False
        return found

    def of_labels(self, labels: Collection[int]) -> NDArray[np.bool_]:
        """(n + 1,) whether a component belongs to one of ``labels``."""
        return np.isin(self.owners, np.array(sorted(labels), np.int64))

    def keep(self, mask: NDArray[np.generic], kept: NDArray[np.bool_]) -> NDArray[np.generic]:
        """A copy of ``mask`` in which the components that are not ``kept`` (n + 1,) are background."""
        result = mask.copy(order="K")
        if kept[1:].all():
            return result
        removed = ~kept
        removed[0] = False
        inside = result[self.box]
        for slab in slabs(self.numbers):
            inside[slab][removed[self.numbers[slab]]] = 0
        return result

    def _first_voxels(self, candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(n + 1,) the place of the first voxel of each of the ``candidates``, where k runs fastest and i slowest."""
        first = np.full(len(self.sizes), np.iinfo(np.int64).max)
        _, nj, nk = self.numbers.shape
        for slab in slabs(self.numbers):
            numbers = self.numbers[slab]
            voxels = np.nonzero(candidates[numbers])
            i, j, k = (places + (part.start or 0) for places, part in zip(voxels, slab, strict=True))
            np.minimum.at(first, numbers[voxels], k + nk * (j + nj * i))
        return first


@dataclass(frozen=True, eq=False)
class Cavities:
    """The pockets of background that no path across voxel faces joins to the outside, numbered as components are.

    Args:
        box: as of ``Components``.
        numbers: (i, j, k) inside ``box``, the number of the piece of background that a voxel belongs to.
        owners: (n + 1,) the one label that encloses a pocket; 0 where several do, and for what is no pocket.
        sizes: (n + 1,) the voxels of each pocket; 0 for what is no pocket.
    """

    box: Box
    numbers: NDArray[np.unsignedinteger]
    owners: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def between_labels(self) -> int:
        """How many pockets lie between several labels. They stay background: nobody knows whose they are."""
        return int(((self.sizes > 0) & (self.owners == 0)).sum())

    def of_labels(self, labels: Collection[int] | None = None) -> NDArray[np.bool_]:
        """(n + 1,) whether a pocket is enclosed by one of ``labels``, or by any one label."""
        enclosed = self.owners > 0
        return enclosed if labels is None else enclosed & np.isin(self.owners, np.array(sorted(labels), np.int64))

    def fill(self, mask: NDArray[np.generic], filled: NDArray[np.bool_]) -> NDArray[np.generic]:
        """A copy of ``mask`` in which each of the pockets ``filled`` (n + 1,) has the label that encloses it."""
        result = mask.copy(order="K")
        if not filled.any():
            return result
        inside = result[self.box]
        for slab in slabs(self.numbers):
            numbers = self.numbers[slab]
            here = filled[numbers]
            inside[slab][here] = self.owners[numbers[here]]
        return result


def find_components(mask: NDArray[np.generic], connectivity: int = 26) -> Components:
    """Number the connected components of all labels at once; neighbours of different labels are never joined.

    Args:
        mask: (i, j, k) whole numbers, 0 is the background.
        connectivity: 6, 18 or 26 neighbours.

    Raises:
        UsageError: the connectivity is none of these.
        InputError: the mask is not three-dimensional, or not of whole numbers.
    """
    _check_connectivity(connectivity)
    inside, box = _crop(mask)
    numbers, count = _number(inside, connectivity)
    owners, sizes = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for slab in slabs(numbers):
        starts, lengths = _runs(numbers[slab])
        here = _line(numbers[slab])[starts]
        owners[here] = _line(inside[slab])[starts]
        # Sums of whole numbers below 2**53 are exact in float64.
        counted = np.bincount(here, weights=lengths).astype(np.int64)
        sizes[: len(counted)] += counted
    sizes[0] = 0
    return Components(mask.shape, box, numbers, owners, sizes)


def find_cavities(mask: NDArray[np.generic], connectivity: int = 26) -> Cavities:
    """Find the pockets of background inside a mask, for all labels at once.

    Background is joined across faces where the labels are joined across corners or edges, and across corners where
    the labels are joined across faces: so no pocket leaks through a wall that holds together (Rosenfeld, 1970,
    Connectivity in digital pictures). A pocket at the image's border is open, as nobody knows what lies beyond.

    Args:
        mask: (i, j, k) whole numbers, 0 is the background.
        connectivity: of the labels, 6, 18 or 26.

    Raises:
        UsageError: the connectivity is none of these.
        InputError: the mask is not three-dimensional, or not of whole numbers.
    """
    _check_connectivity(connectivity)
    inside, box = _crop(mask)
    background = 26 if connectivity == 6 else 6
    numbers, count = _number(inside == 0, background)
    pockets = np.ones(count + 1, bool)
    pockets[0] = False
    for axis in range(3):
        line = np.moveaxis(numbers, axis, 0)
        for face in (line[:1], line[-1:]):
            pockets[face] = False
    lowest, highest = np.full(count + 1, np.iinfo(np.int64).max), np.zeros(count + 1, np.int64)
    sizes = np.zeros(count + 1, np.int64)
    if pockets.any():
        for slab in slabs(numbers):
            here = numbers[slab]
            voxels = np.nonzero(pockets[here])
            whose = here[voxels]
            counted = np.bincount(whose)
            sizes[: len(counted)] += counted
            i, j, k = (places + (part.start or 0) for places, part in zip(voxels, slab, strict=True))
            # A pocket never touches the box's faces, so each neighbour lies inside it.
            for di, dj, dk in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
                label = inside[i + di, j + dj, k + dk].astype(np.int64)
                wall = label > 0
                np.minimum.at(lowest, whose[wall], label[wall])
                np.maximum.at(highest, whose[wall], label[wall])
    return Cavities(box, numbers, np.where(lowest == highest, lowest, 0), sizes)


def _check_connectivity(connectivity: int) -> None:
    if connectivity not in CONNECTIVITIES:
        raise UsageError(f"The connectivity is 6, 18 or 26 neighbours, not {connectivity}.")


def _crop(mask: NDArray[np.generic]) -> tuple[NDArray[np.generic], Box]:
    """The part of the mask that is not background, contiguous, in the order that it has in memory."""
    if mask.ndim != 3:
        raise InputError(f"A mask has three axes, not {mask.ndim}.", code="not-a-volume")
    if mask.dtype.kind not in "bui":
        raise InputError(f"A mask holds whole numbers, not {mask.dtype}.", code="mask-values")
    values = mask.view(np.uint8) if mask.dtype.kind == "b" else mask
    box = bounding_box(values)
    # cc3d takes no other byte order than the processor's, and no read-only array, such as a mask without background that
    # was read from a file.
    inside = np.asarray(values[box], values.dtype.newbyteorder("="), order=memory_order(mask))
    return inside if inside.flags.writeable else inside.copy(order="K"), box


def _number(inside: NDArray[np.generic], connectivity: int) -> tuple[NDArray[np.unsignedinteger], int]:
    """Number the components of an array that is contiguous in memory, in pieces that are joined where they meet.

    cc3d takes four bytes a voxel of a large array, whose components need two.
    """
    if not inside.size:
        return np.zeros(inside.shape, np.uint16), 0
    import cc3d

    if inside.size <= PIECE_VOXELS:
        numbers, count = cc3d.connected_components(inside, connectivity=connectivity, return_N=True)
        return numbers, int(count)
    order = memory_order(inside)
    slowest = 2 if order == "F" else 0
    numbers = np.zeros(inside.shape, np.uint16, order=order)
    step = max(1, PIECE_VOXELS * inside.shape[slowest] // inside.size)
    count, meeting = 0, []
    for start in range(0, inside.shape[slowest], step):
        piece = np.moveaxis(inside, slowest, 0)[start : start + step]
        found, more = cc3d.connected_components(
            np.moveaxis(piece, 0, slowest), connectivity=connectivity, return_N=True
        )
        if count + more > np.iinfo(numbers.dtype).max:
            numbers = numbers.astype(np.uint32, order="K")
        lut = np.arange(count, count + int(more) + 1).astype(numbers.dtype)
        lut[0] = 0
        planes = np.moveaxis(numbers, slowest, 0)
        planes[start : start + step] = np.moveaxis(lut[found], slowest, 0)
        count += int(more)
        if start:
            both = np.moveaxis(inside, slowest, 0)[start - 1 : start + 1]
            meeting.append(_touching(both, planes[start - 1 : start + 1], connectivity))
    return _joined(numbers, count, np.concatenate(meeting)) if meeting else (numbers, count)


def _touching(
    values: NDArray[np.generic], numbers: NDArray[np.unsignedinteger], connectivity: int
) -> NDArray[np.int64]:
    """(n, 2) the components that are neighbours across two planes (2, a, b), and of one value."""
    found = []
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            if abs(a) + abs(b) > CONNECTIVITIES.index(connectivity):
                continue
            one, other = (
                tuple(
                    slice(max(0, sign * step), min(size, size + sign * step))
                    for step, size in zip((a, b), values.shape[1:], strict=True)
                )
                for sign in (1, -1)
            )
            same = (values[0][one] == values[1][other]) & (values[0][one] != 0)
            pairs = np.stack([numbers[0][one][same], numbers[1][other][same]], axis=1).astype(np.int64)
            found.append(np.unique(pairs, axis=0))
    return np.concatenate(found)


def _joined(
    numbers: NDArray[np.unsignedinteger], count: int, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.unsignedinteger], int]:
    """The numbers 1 to n of components of which pairs are one and the same."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count + 1, count + 1))
    # The background has the first number, as it is joined to nothing.
    joined, lut = connected_components(graph, directed=False)
    lut = lut.astype(numbers.dtype)
    for slab in slabs(numbers):
        numbers[slab] = lut[numbers[slab]]
    return numbers, int(joined) - 1


def _line(slab: NDArray[np.generic]) -> NDArray[np.generic]:
    """The voxels of a slab in a row, as they lie in memory."""
    return slab.ravel(order="K")


def _runs(slab: NDArray[np.generic]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each run of equal values begins, and its length: far fewer than voxels."""
    line = _line(slab)
    starts = np.concatenate(([0], np.flatnonzero(line[1:] != line[:-1]) + 1))
    return starts, np.diff(starts, append=len(line))
