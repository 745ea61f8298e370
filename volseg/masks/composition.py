"""The label objects of one case in one array."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dataset.dataset import count_labels
from volseg.dataset.sidecar import read_sidecar, sidecar_path
from volseg.dicom.labels.label_object import ON_SLICE
from volseg.dicom.labels.painting import smaller_wins
from volseg.dicom.series.repair import straighten
from volseg.errors import InputError
from volseg.outcomes import Made
from volseg.resampling import resample
from volseg.volume import Volume, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from volseg.dicom import Series
    from volseg.dicom.labels.label_object import Drawing
    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.masks.assignment import Assignment

RESAMPLED = "labels-resampled"


@dataclass(frozen=True, eq=False)
class Converted:
    """A converted case.

    Args:
        case: its public name, without the number of a channel.
        series: what it was converted from, by their numbers in the plan: one, or its channels in order. On the grid of
            the first's image the mask is drawn.
        images: of each series; the sidecar lies beside each.
        made: from what each was made.
    """

    case: str
    series: Mapping[int, Series]
    images: tuple[Path, ...]
    made: tuple[Made, ...]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A label object, and the series of its case, by number, that it may have been drawn on: several channels."""

    assignment: Assignment
    on: tuple[int, ...]


class Composition:
    """The label objects of a case, one after the other, in one array on the grid of its first image.

    Raises:
        InputError: ``image-edited``, the grid of that image is another than ``convert`` gave it.
    """

    def __init__(self, converted: Converted, assignments: Iterable[Assignment], table: LabelTable) -> None:
        self.series = converted.series
        image = converted.images[0]
        self.target = read_sidecar(sidecar_path(image)).target_grid
        if read_header(image).grid.difference(self.target) is not None:  # the mask would get the header of the image
            raise InputError(
                "Somebody has changed the grid of its image since it was made. Give --overwrite, or remove the image, "
                "to have both made anew.",
                code="image-edited",
            )
        self.table = table
        counts = Counter(index for one in assignments for index in set(one.chosen.values()))
        self.contested = {index for index, count in counts.items() if count > 1}
        self.claims: dict[int, tuple[int, Grid | None, bytes]] = {}
        self.on_slices: dict[int, NDArray[Any]] = {}
        self.on_target: NDArray[Any] | None = None
        self.sizes_mm3: dict[int, float] = {}
        self.overlaps = 0
        self.changes: set[str] = set()
        self.notes: Counter[tuple[str, int]] = Counter()

    def add(self, drawn: Drawn) -> None:
        """Draw one object once: each part on a series that it belongs to, of several the one that its planes lie on.

        Raises:
            InputError: it can't be drawn; ``conflicting-labels``, another object draws one of its structures otherwise.
            FileError: it can't be read.
        """
        one, number = drawn.assignment, drawn.on[0]
        done: frozenset[int] = frozenset()
        for at in drawn.on if one.parts else ():
            if one.parts[at] - done:
                self._draw(one, at, one.parts[at] - done)
            done |= one.parts[at]
        if one.parts:
            return
        if len(drawn.on) > 1:
            number = min(drawn.on, key=lambda at: one.label_object.off_slices_mm(self.series[at]).max())
        self._draw(one, number, None)

    def _draw(self, one: Assignment, number: int, parts: frozenset[int] | None) -> None:
        drawing = one.label_object.draw(self.series[number], one.chosen, parts)
        self._require_agreement(drawing, number)
        self.sizes_mm3 |= drawing.sizes_mm3
        self.overlaps += drawing.overlaps
        self.changes |= {*drawing.changes, *([one.matched_by] if one.matched_by else [])}
        self.notes.update({(note.code, note.index): note.count for note in drawing.notes})
        if drawing.grid is None:
            self.on_slices[number] = self._merged(self.on_slices.get(number), drawing.labels)
            return
        own = Volume(drawing.labels.T, drawing.grid)
        if not _same_lattice(drawing.grid, self.series[number].grid):
            self.changes.add(RESAMPLED)
        self._lay(own)

    def _require_agreement(self, drawing: Drawing, number: int) -> None:
        for index in sorted(self.contested.intersection(drawing.sizes_mm3)):
            place = number if drawing.grid is None else -1
            claim = (place, drawing.grid, hashlib.blake2b(np.packbits(drawing.labels == index).data).digest())
            known = self.claims.setdefault(index, claim)
            apart = (known[0], known[2]) != (claim[0], claim[2])
            if apart or (known[1] is not None and claim[1] is not None and known[1].difference(claim[1])):
                raise InputError(
                    f"Several label objects of one case draw {self.table.name_of(index)}, and not alike. Keep one of "
                    "them in the folder, or choose other structures by --labels.",
                    code="conflicting-labels",
                )

    def _merged(self, known: NDArray[Any] | None, labels: NDArray[Any]) -> NDArray[Any]:
        if known is None:
            return labels
        merged, overlaps = smaller_wins(known, labels, self.sizes_mm3)
        self.overlaps += overlaps
        return merged

    def _lay(self, own: Volume, *, may_reach_out: bool = True) -> None:
        """Bring a drawing onto the grid of the image."""
        if may_reach_out:
            self._note_outside(own)
        self.on_target = self._merged(self.on_target, resample(own, self.target, interpolation="nearest").array.T)

    def _note_outside(self, own: Volume) -> None:
        """Count voxels of a drawing on its own grid that lie outside the image."""
        low, high = np.full(3, -0.5), np.array(self.target.shape) - 0.5
        for k in range(own.grid.shape[2]):
            filled = np.argwhere(own.array[:, :, k] != 0)
            if not len(filled):
                continue
            voxels = self.target.to_voxel(own.grid.to_world(np.column_stack((filled, np.full(len(filled), k)))))
            outside = ((voxels < low) | (voxels > high)).any(axis=1)
            if outside.any():
                lost = own.array[filled[outside, 0], filled[outside, 1], k]
                for index, count in count_labels(lost.reshape(-1, 1, 1)).items():
                    self.notes["voxels-outside", index] += count

    def labels(self) -> NDArray[Any]:
        """(i, j, k) on the grid of the image."""
        first = next(iter(self.series))
        for number, drawn in sorted(self.on_slices.items()):
            series = self.series[number]
            volume = (
                straighten(drawn, series.geometry, labels=True)
                if series.is_straightened
                else Volume(drawn.T, series.grid)
            )
            if not _same_lattice(series.grid, self.series[first].grid):
                self.changes.add(RESAMPLED)
            self._lay(volume, may_reach_out=number != first)
        assert self.on_target is not None, "there are label objects, and each has structures"
        return self.on_target.T


def _same_lattice(grid: Grid, image: Grid) -> bool:
    """Whether each voxel of a grid is one of the image's lattice, which may be flipped, turned and larger."""
    step = np.linalg.inv(image.affine) @ grid.affine
    turn = np.rint(step)
    extent = np.array((*grid.shape, 1.0))
    return bool((np.abs(step - turn)[:3] @ extent <= ON_SLICE).all())
