"""What a network is to give: labels that exclude each other, or regions that overlap; and what nobody judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from volseg.dataset.listing import MAX_NAME_LENGTH
from volseg.errors import UsageError
from volseg.labels import MAX_INDEX, Label, LabelTable, Region
from volseg.nomenclature import key_of
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TRAINED_REGIONS = 8
"""Stock transforms merge regions by a table of all that may lie on one voxel, 256 of them."""


@dataclass(frozen=True)
class Target:
    """What a network is to give.

    Args:
        labels: of the data set's masks, with the number of what nobody judged.
        regions: unions of these, one for each output, in the order in which a mask that merges them is painted; none
            where labels exclude each other. Each has its number in that mask.
    """

    labels: LabelTable
    regions: tuple[Region, ...] = ()

    @classmethod
    def of(cls, labels: LabelTable, regions: Sequence[Region] = ()) -> Target:
        """The target; regions that have no numbers get some.

        Larger regions are painted first, and each gets the lowest of its labels that none of the later ones has. One
        that the others cover gets a number above all labels, or where masks hold none, the lowest that is free.

        Raises:
            UsageError: there are too many regions, or two of the same labels, or one has a label that there is not.
        """
        if len(regions) > MAX_TRAINED_REGIONS:
            raise UsageError(f"A network learns up to {MAX_TRAINED_REGIONS} regions, not {len(regions)}.")
        named: dict[frozenset[int], str] = {}
        for region in regions:
            unknown = sorted(set(region.labels).difference(labels.indices))
            if unknown or not region.labels:
                raise UsageError(
                    f"The region {region.name} has the label {unknown[0] if unknown else 'none'}, and the data set names "
                    f"{', '.join(map(str, labels.indices))}."
                )
            if frozenset(region.labels) in named:
                raise UsageError(
                    f"The regions {named[frozenset(region.labels)]} and {region.name} have the same labels. Keep one."
                )
            named[frozenset(region.labels)] = region.name
        if len({key_of(region.name) for region in regions}) < len(regions):
            raise UsageError(
                "Two regions have names that differ only in case, blanks and punctuation. Give each its own."
            )
        if all(region.value is not None for region in regions):
            return cls(labels, tuple(regions))
        ordered = sorted(regions, key=lambda region: -len(region.labels))
        highest = max(*labels.indices, labels.ignore or 0)
        taken = {*labels.indices, labels.ignore}
        free = (n for n in (*range(highest + 1, MAX_INDEX + 1), *range(1, highest)) if n not in taken)
        found: list[Region] = []
        for place, region in enumerate(ordered):
            own = set(region.labels).difference(*(later.labels for later in ordered[place + 1 :]))
            found.append(replace(region, value=min(own) if own else next(free)))
        return cls(labels, tuple(found))

    @property
    def ignore(self) -> int | None:
        """The number of voxels that nobody judged; None where every voxel is."""
        return self.labels.ignore

    @property
    def mark(self) -> int | None:
        """What stands for ``ignore`` in training: the number after those of ``numbering``."""
        return None if self.ignore is None else max(self.numbering.values(), default=0) + 1

    @property
    def sigmoid(self) -> bool:
        """Whether each output is cut at a threshold by itself."""
        return bool(self.regions)

    @property
    def classes(self) -> int:
        """Numbers of ``numbering`` that patches are drawn around, the background's among them.

        Of labels that lie in the same regions there is one, and none of those that no merged mask can show.
        """
        return len(self.numbering if not self.regions else self._sets[: len(self.regions)]) + 1

    @property
    def outputs(self) -> int:
        """Of the network: one for each region, or for each label and the background."""
        return len(self.regions) or len(self.labels) + 1

    @cached_property
    def numbering(self) -> dict[int, int]:
        """The number of each label in training, from 1 without a gap: one for all that lie in the same regions.

        0, the background, is that of labels in no region.
        """
        if not self.regions:
            return {index: number for number, index in enumerate(self.labels.indices, 1)}
        numbers = {inside: number for number, inside in enumerate(self._sets, 1)}
        return {index: numbers.get(self._inside(index), 0) for index in self.labels.indices}

    @cached_property
    def _sets(self) -> tuple[tuple[bool, ...], ...]:
        """The sets of regions that labels lie in, those that a merged mask shows first."""
        labels = set(self.labels.indices)
        shown = [region.value for region in self.regions if region.value in labels]
        return tuple(
            inside for inside in dict.fromkeys(map(self._inside, (*shown, *self.labels.indices))) if any(inside)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the structures that are scored, in the order of the outputs."""
        return tuple(region.name for region in self.regions) or self.labels.names

    @property
    def learnt(self) -> LabelTable:
        """The names of all that is learnt, regions and the labels in them, as sides may be told by either."""
        parts = [label.name for label in self.labels.labels if label.name != f"label {label.index}"]
        names = dict.fromkeys([*(region.name for region in self.regions), *parts])
        return (
            LabelTable(tuple(Label(number, name) for number, name in enumerate(names, 1)))
            if self.regions
            else self.labels
        )

    @cached_property
    def table(self) -> LabelTable:
        """Of a mask that is predicted: the labels, or the numbers that regions are painted with."""
        if not self.regions:
            return LabelTable(self.labels.labels)
        return LabelTable(tuple(self._painted(region) for region in self.regions))

    def _painted(self, region: Region) -> Label:
        """What a region's number stands for, once later ones are painted over it: the labels that lie in the same ones.

        Where nobody named these, it is the region without those that are painted over it.
        """
        value = region.value or 0
        inside = self._inside(value)
        alike = [label for label in self.labels.labels if any(inside) and self._inside(label.index) == inside]
        if len(alike) == 1 and alike[0].name != f"label {value}":
            return alike[0]
        if alike and all(label.name != f"label {label.index}" for label in alike):
            name = " or ".join(label.name for label in alike)
        else:
            later = self.regions[self.regions.index(region) + 1 :]
            over = [one for one in later if set(one.labels) & set(region.labels)]
            largest = [one.name for one in over if not any(set(one.labels) < set(other.labels) for other in over)]
            name = region.name + (f" without {' and '.join(largest)}" if largest else "")
        return Label(value, name if len(name) <= MAX_NAME_LENGTH else f"label {value}")

    def _inside(self, label: int | None) -> tuple[bool, ...]:
        return tuple(label in region.labels for region in self.regions)

    def paint(self, found: Iterable[bool | int]) -> int:
        """The number of a voxel in a mask that merges regions: that of the last region that it lies in, else 0."""
        value = 0
        for region, inside in zip(self.regions, found, strict=True):
            value = (region.value or 0) if inside else value
        return value

    @property
    def hidden(self) -> tuple[int, ...]:
        """Labels that a mask which merges regions can't tell: they lie in regions of which none is inside another."""
        return tuple(
            label
            for label in self.labels.indices
            if any(self._inside(label)) and self._inside(self.paint(self._inside(label))) != self._inside(label)
        )

    @property
    def numbers_of_regions(self) -> list[list[int]]:
        """The labels of each region by ``numbering``."""
        return [sorted({self.numbering[label] for label in region.labels}) for region in self.regions]

    def words(self) -> tuple[tuple[str, str], ...]:
        """What it is, as choices with their reasons, for a person; nothing of labels alone."""
        found = []
        for region in self.regions:
            labels = f"label{'s' * (len(region.labels) > 1)} {', '.join(map(self.labels.told, region.labels))}"
            found.append((f"region {region.name}", f"{labels}; {region.value} in a mask that merges regions"))
        if self.ignore is not None:
            found.append((f"ignore label {self.ignore}", "no loss and no metric counts voxels that nobody judged"))
        return tuple(found)

    def warnings(self) -> tuple[str, ...]:
        """What a person may not expect of the regions, in sentences."""
        outside = [
            self.labels.told(label) for label in self.labels.indices if self.regions and not any(self._inside(label))
        ]
        said = []
        if outside:
            said.append(f"In no region, and so learnt as background: label {listed(outside)}.")
        if self.hidden:
            said.append(
                f"A mask that merges regions can't show label {listed([self.labels.told(label) for label in self.hidden])}, where "
                "regions overlap and none is inside the other. volseg predict --regions writes each by itself."
            )
        return tuple(said)
