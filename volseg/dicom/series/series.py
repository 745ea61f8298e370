"""A verified series of slices, and what is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from volseg.dicom.series.repair import STRAIGHTENINGS, straight_grid
from volseg.dicom.series.stack import StackFault
from volseg.outcomes import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volseg.dicom.series.slices import Slice
    from volseg.dicom.series.stack import StackGeometry
    from volseg.grid import Grid
    from volseg.pseudonyms import Identity

NAMED_FILES = 3
"""So many files are named on stderr where a series is refused for some of them."""

MONOCHROME1 = "monochrome1"
"""The code of a series whose lowest values are displayed brightest (PS3.3, C.7.6.3.1.2); its values stay as they are."""
LOCALIZER = "localizer"
"""The code of an image by which others are planned."""

Fact = str | int | float | tuple[float, ...]
"""A value of an acquisition fact: a number, several, or words from a closed list."""


@dataclass(frozen=True, eq=False)
class Series:
    """Slices that make one volume, verified.

    Args:
        identity: what tells it from every other; private.
        modality: ``CT``, ``MR`` or ``PT``, by its SOP class.
        order: its place among the series of its study, from 1.
        slices: ascending along the slice normal.
        geometry: where they lie.
        source: where its files are, relative to the folder that the user gave; private.
        changes: stable codes of what was put right, such as ``duplicates-dropped`` or ``tilt-straightened``.
        notes: codes of what a person has to know beside that, each with its number of files or series, or
            what else its sentence counts; see ``notes``.
        facts: of its acquisition, from an allow-list; nothing private.
        shows: what a person has to know of it beside its modality, such as ``phase`` or ``b 1000``; nothing private.
    """

    identity: Identity
    modality: str
    order: int
    slices: tuple[Slice, ...]
    geometry: StackGeometry
    source: str
    changes: tuple[str, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    shows: str = ""

    @cached_property
    def grid(self) -> Grid:
        """The volume's grid: i along the rows, j along the columns, k along the slice normal; orthogonal."""
        return straight_grid(self.geometry) if self.is_straightened else self.geometry.regular_grid()

    @property
    def voxel_bytes(self) -> int:
        """About how much memory its voxels take as they are stored."""
        columns, rows, count = self.grid.shape
        return 2 * columns * rows * count

    @property
    def is_straightened(self) -> bool:
        """Whether its slices lie on no regular orthogonal grid, so that its voxels are interpolated from them."""
        return not STRAIGHTENINGS.isdisjoint(self.changes)


@dataclass(frozen=True, eq=False)
class Rejected:
    """Slices that make no volume.

    Args:
        identity: what tells the series from every other; private.
        modality: ``CT``, ``MR`` or ``PT``.
        order: its place among the series of its study, from 1.
        status: skipped or refused.
        faults: why, the gravest first.
        remedy: what a person can do.
        count: how many images it has.
        source: where its files are, relative to the folder that the user gave; private.
    """

    identity: Identity
    modality: str
    order: int
    status: Status
    faults: tuple[StackFault, ...]
    remedy: str
    count: int
    source: str

    @property
    def code(self) -> str:
        """The stable reason code."""
        return self.faults[0].code

    @property
    def message(self) -> str:
        """The sentences for a person; nothing in them is private."""
        return " ".join([*(fault.sentence for fault in self.faults), self.remedy]).strip()


def put_aside(one: Series | Rejected, code: str, sentence: str) -> Rejected:
    """A series that is skipped for a reason that lies outside of it."""
    count = one.count if isinstance(one, Rejected) else len(one.slices)
    fault = StackFault(code, sentence)
    return Rejected(one.identity, one.modality, one.order, Status.SKIPPED, (fault,), "", count, one.source)
