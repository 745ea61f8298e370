"""Voxels of the background that labels claim: each goes to the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.distances import DECIMALS, distances_mm
from volseg.voxels import union

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.postprocessing.edit import MaskEdit
    from volseg.voxels import Box


class Claims:
    """What labels would get, settled once all of them have spoken, so that their order tells nothing."""

    def __init__(self, edit: MaskEdit) -> None:
        self._edit = edit
        self._places: list[NDArray[np.int64]] = []
        self._away_mm: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.int64]] = []
        self._claimants: list[NDArray[np.int64]] = []
        self._box: Box | None = None
        self._count = 0

    def add(self, box: Box, where: NDArray[np.bool_], labels: tuple[int, ...]) -> None:
        """A claim of labels that count as one: ``where`` (i, j, k) in a box of the mask, its background alone."""
        part = self._edit.mask[box]
        where = where & (part == 0)
        self._count += 1
        if not where.any():
            return
        self._box = box if self._box is None else union(self._box, box)
        found = tuple(axis + part.start for axis, part in zip(np.nonzero(where), box, strict=True))
        places = np.ravel_multi_index(found, self._edit.mask.shape).astype(np.int64)
        for label in labels:
            away = distances_mm(part == label, self._edit.spacing_mm)[where]
            self._places.append(places)
            self._away_mm.append(np.round(away, DECIMALS))
            self._labels.append(np.full(len(places), label))
            self._claimants.append(np.full(len(places), self._count))

    def settle(self, least: int = 1) -> None:
        """Give each voxel that at least so many claim, one or two, to the nearest label; the lower number at ties."""
        if self._box is None:
            return
        places, away = np.concatenate(self._places), np.concatenate(self._away_mm)
        labels, claimants = np.concatenate(self._labels), np.concatenate(self._claimants)
        order = np.lexsort((labels, away, places))
        places, labels, claimants = places[order], labels[order], claimants[order]
        starts = np.flatnonzero(np.diff(places, prepend=-1))
        lengths = np.diff(starts, append=len(places))
        others = claimants != np.repeat(claimants[starts], lengths)
        given = np.logical_or.reduceat(others, starts) if least > 1 else np.ones(len(starts), bool)
        shape = self._edit.mask[self._box].shape
        inside = np.unravel_index(places[starts[given]], self._edit.mask.shape)
        where = np.zeros(shape, bool)
        at = tuple(axis - part.start for axis, part in zip(inside, self._box, strict=True))
        where[at] = True
        # Places ascend with k fastest, which is the order in which a mask of voxels is read.
        self._edit.put(self._box, where, labels[starts[given]])
