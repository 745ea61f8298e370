"""The rules that tidy a predicted mask: largest component, smallest size, holes. Plain data in a bundle's config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np

from volseg.components import CONNECTIVITIES, find_cavities, find_components
from volseg.errors import BundleError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from volseg.grid import Grid

Labels: TypeAlias = tuple[int, ...] | Literal["all"]
ALL: Literal["all"] = "all"

VOLUME_TOLERANCE = 1e-6
"""Relative. A voxel's volume comes from a float32 affine; a component of exactly the minimum size must stay."""


@dataclass(frozen=True)
class PostprocessingRules:
    """What to do with a mask, in this order: remove components, then fill holes.

    Raises:
        UsageError: a label is not above 0, a size is negative or not finite, or the connectivity is not 6, 18 or 26.
    """

    keep_largest: Labels = ()
    """The labels of which only the largest component stays, or ``all``."""
    minimum_size_mm3: float | tuple[tuple[int, float], ...] = 0.0
    """Components below this volume are removed: one number for all labels, or pairs of label and number."""
    fill_holes: Labels = ()
    """The labels whose pockets of background are filled, or ``all``; see ``volseg.components.fill_holes``."""
    connectivity: int = 26
    """6, 18 or 26 neighbours."""

    def __post_init__(self) -> None:
        for name, labels in (("keep_largest", self.keep_largest), ("fill_holes", self.fill_holes)):
            if labels != ALL and any(label < 1 for label in labels):
                raise UsageError(f"{name} names labels from 1 upwards, not {list(labels)}.")
        sizes = self.minimum_size_mm3
        pairs = sizes if isinstance(sizes, tuple) else ((1, sizes),)
        if any(label < 1 or not math.isfinite(size) or size < 0 for label, size in pairs):
            raise UsageError("minimum_size_mm3 is a volume of 0 mm3 or more, for labels from 1 upwards.")
        if self.connectivity not in CONNECTIVITIES:
            raise UsageError(f"connectivity is 6, 18 or 26 neighbours, not {self.connectivity}.")

    @property
    def is_empty(self) -> bool:
        """Whether these rules ask for nothing."""
        return not (self.keep_largest or self.fill_holes or self._removes_small)

    @property
    def _removes_small(self) -> bool:
        sizes = self.minimum_size_mm3
        return any(size > 0 for _, size in sizes) if isinstance(sizes, tuple) else sizes > 0

    def minimum_of(self, label: int) -> float:
        """The smallest volume in mm3 that a component of this label may have."""
        if isinstance(self.minimum_size_mm3, tuple):
            return dict(self.minimum_size_mm3).get(label, 0.0)
        return self.minimum_size_mm3

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> PostprocessingRules:
        """Read the rules from a bundle's plain data, such as ``{keep_largest: [1, 2], fill_holes: all}``.

        ``minimum_size_mm3`` is a number, or a mapping from label to number.

        Raises:
            BundleError: a key is unknown, or a value is of the wrong type or out of range.
        """
        unknown = sorted(str(key) for key in config if key not in cls.__dataclass_fields__)
        if unknown:
            raise BundleError(
                f"The postprocessing rules have no {', '.join(unknown)}. "
                f"They have {', '.join(cls.__dataclass_fields__)}."
            )
        connectivity = config.get("connectivity", 26)
        if not _is_whole(connectivity):
            raise BundleError(f"The postprocessing rule connectivity is 6, 18 or 26, not {connectivity!r}.")
        try:
            return cls(
                keep_largest=_labels("keep_largest", config.get("keep_largest", ())),
                minimum_size_mm3=_sizes(config.get("minimum_size_mm3", 0.0)),
                fill_holes=_labels("fill_holes", config.get("fill_holes", ())),
                connectivity=cast("int", connectivity),
            )
        except UsageError as error:
            raise BundleError(f"The postprocessing rules can't be used: {error.message}") from error

    def to_config(self) -> dict[str, object]:
        """The rules as plain data for a bundle's config; ``from_config`` gives the same rules back."""
        sizes = self.minimum_size_mm3
        return {
            "keep_largest": _plain(self.keep_largest),
            "minimum_size_mm3": dict(sizes) if isinstance(sizes, tuple) else sizes,
            "fill_holes": _plain(self.fill_holes),
            "connectivity": self.connectivity,
        }


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
    def changed_voxels(self) -> int:
        """How many voxels have another label than before, at most: what was removed may have been filled again."""
        return sum(change.removed_voxels + change.filled_voxels for change in self.labels)

    @property
    def vanished(self) -> tuple[int, ...]:
        """The labels of which nothing is left."""
        return tuple(change.label for change in self.labels if not change.voxels)

    def __str__(self) -> str:
        removed, pieces = sum(c.removed_voxels for c in self.labels), sum(c.removed_components for c in self.labels)
        filled, holes = sum(c.filled_voxels for c in self.labels), sum(c.filled_cavities for c in self.labels)
        said = []
        if pieces:
            said.append(f"removed {removed} voxels in {pieces} component{'s' * (pieces != 1)}")
        if holes:
            said.append(f"filled {filled} voxels in {holes} hole{'s' * (holes != 1)}")
        return ", ".join(said) or "nothing to change"


def apply(mask: NDArray[np.generic], grid: Grid, rules: PostprocessingRules) -> tuple[NDArray[np.generic], Changes]:
    """Apply the rules to one mask: one pass over the components, then one over the background.

    Args:
        mask: (i, j, k) whole numbers, 0 is the background.
        grid: where the voxels lie; sizes are in mm3.
        rules: what to do.

    Returns:
        A new mask of the same type, and what was changed.

    Raises:
        InputError: the mask is not three-dimensional, or not of whole numbers.
    """
    components = find_components(mask, rules.connectivity)
    kept = np.ones(len(components.sizes), bool)
    if rules.keep_largest:
        kept = components.largest()
        if rules.keep_largest != ALL:
            kept |= ~components.of_labels(rules.keep_largest)
    if rules._removes_small:
        volume_mm3 = components.sizes * grid.voxel_volume_mm3
        labels, which = np.unique(components.owners, return_inverse=True)
        minimum_mm3 = np.array([rules.minimum_of(int(label)) for label in labels])[which]
        kept &= volume_mm3 >= minimum_mm3 * (1 - VOLUME_TOLERANCE)
    result = components.keep(mask, kept)
    removed = ~kept
    removed[0] = False
    records = components.by_label
    removed_owners, removed_sizes = components.owners[removed], components.sizes[removed]

    filled_owners = filled_sizes = np.zeros(0, np.int64)
    between = 0
    if rules.fill_holes:
        del components
        cavities = find_cavities(result, rules.connectivity)
        filled = cavities.of_labels(None if rules.fill_holes == ALL else rules.fill_holes)
        result = cavities.fill(result, filled)
        filled_owners, filled_sizes = cavities.owners[filled], cavities.sizes[filled]
        between = cavities.between_labels
    changes = []
    for record in records:
        lost, gained = removed_owners == record.label, filled_owners == record.label
        fewer, more = int(removed_sizes[lost].sum()), int(filled_sizes[gained].sum())
        voxels = record.voxels - fewer + more
        changes.append(LabelChanges(record.label, int(lost.sum()), fewer, int(gained.sum()), more, voxels))
    return result, Changes(tuple(changes), between)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _labels(name: str, value: object) -> Labels:
    if value == ALL:
        return ALL
    if not isinstance(value, (list, tuple)) or not all(_is_whole(label) for label in value):
        raise BundleError(f"The postprocessing rule {name} is a list of labels such as [1, 2], or all, not {value!r}.")
    return tuple(value)


def _sizes(value: object) -> float | tuple[tuple[int, float], ...]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, Mapping):
        pairs = []
        for key, size in value.items():
            # JSON has no whole numbers as keys.
            label = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 6 else key
            if not _is_whole(label) or not isinstance(size, (int, float)) or isinstance(size, bool):
                break
            pairs.append((label, float(size)))
        else:
            return tuple(sorted(pairs))
    raise BundleError(
        f"The postprocessing rule minimum_size_mm3 is a number, or a mapping from label to number, not {value!r}."
    )


def _plain(labels: Collection[int] | Literal["all"]) -> list[int] | str:
    return ALL if labels == ALL else [int(label) for label in labels]
