"""Regions of masks: structures that may overlap, as unions of a mask's labels or as masks of their own on the disk."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.dataset.beside import labels_beside
from volseg.errors import InputError, UsageError
from volseg.labels import LABELS_NAME, MAX_INDEX, Region
from volseg.nomenclature import MAX_NAME_LENGTH, key_of
from volseg.volume import Volume, list_images, read_mask, stem_of
from volseg.voxels import values_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from volseg.labels import LabelTable

MAX_REGIONS = 2**12
"""More folders than this are no regions of one structure."""


@dataclass(frozen=True)
class RegionMasks:
    """The masks of one region, each 1 inside, or another single value, and 0 outside.

    Args:
        name: of the region.
        masks: the files by case; more than one where names come twice.
    """

    name: str
    masks: Mapping[str, tuple[Path, ...]]


def parse_regions(texts: Iterable[str], table: LabelTable) -> tuple[Region, ...]:
    """Read ``whole tumor=1,2,4; tumor core=1,4``, regions as unions of labels by their numbers or names.

    Args:
        texts: each with one region or several.
        table: the names of the labels.

    Raises:
        UsageError: a region has no name or no labels, stands twice, or names a label that there is not.
    """
    regions = []
    for entry in (entry.strip() for text in texts for entry in text.split(";")):
        if not entry:
            continue
        name, _, labels = entry.partition("=")
        name = " ".join(name.split())
        if not key_of(name) or len(name) > MAX_NAME_LENGTH or not name.isprintable() or not labels.strip():
            raise UsageError(
                f"{entry[:80]!r} names no region and its labels. Write them as whole tumor=1,2,4; tumor core=1,4."
            )
        found = table.find([labels.strip()])
        if any(not 1 <= label <= MAX_INDEX for label in found):
            raise UsageError(f"Labels are numbers from 1 to {MAX_INDEX}, not {labels.strip()[:80]!r}.")
        regions.append(Region(name, found))
    if len({key_of(region.name) for region in regions}) != len(regions):
        raise UsageError("Two regions have one name. Give each its own.")
    return tuple(regions)


def regions_in(folder: Path) -> dict[str, RegionMasks]:
    """The masks of regions, as ``volseg predict --regions`` writes them, by the keys of the regions' names.

    Each region has a folder of its own, and ``labels.txt`` in it names the region alone. A folder that holds masks
    itself has none.

    Raises:
        InputError: a ``labels.txt`` is damaged, or two folders are of one region.
    """
    if not folder.is_dir() or list_images(folder):
        return {}
    found: dict[str, RegionMasks] = {}
    below = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for place in below[:MAX_REGIONS]:
        if place.is_symlink() or not place.is_dir() or not (place / LABELS_NAME).exists():
            continue
        table = labels_beside(place)
        if table is None or len(table) != 1:
            continue
        (name,) = table.names
        if key_of(name) in found:
            raise InputError(f"Two folders in {folder} hold masks of the region {name!r}. Keep one.", code="name-twice")
        masks: dict[str, tuple[Path, ...]] = defaultdict(tuple)
        for path in list_images(place):
            masks[stem_of(path)] += (path,)
        found[key_of(name)] = RegionMasks(name, dict(masks))
    return found


def union_of(mask: Volume, labels: Sequence[int]) -> Volume:
    """The mask of a region: 1 where any of these labels is, and 0 elsewhere."""
    wanted = np.zeros(MAX_INDEX + 1, np.uint8)
    wanted[list(labels)] = 1
    return Volume(wanted[mask.array], mask.grid)


def read_region(path: Path) -> Volume:
    """The mask of a region, 1 inside and 0 outside.

    Raises:
        InputError: the file is no mask, or it has more values than two.
        GeometryError, FileError: as in ``read_mask``.
    """
    mask = read_mask(path)
    inside = [value for value in values_in(mask.array) if value]
    if len(inside) > 1:
        raise InputError("A mask of one region has more values than two.", code="not-a-region")
    return union_of(mask, inside)
