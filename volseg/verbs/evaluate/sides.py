"""The masks on each side of a comparison, and the regions that both have."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from volseg.dataset.beside import LABEL_FOLDERS, labels_beside, regions_beside
from volseg.errors import UsageError
from volseg.labels import LabelTable, Region
from volseg.nomenclature import key_of
from volseg.options import each
from volseg.regions import RegionMasks, parse_regions, regions_in
from volseg.verbs.evaluate.labels import named_apart
from volseg.verbs.evaluate.options import EvaluateOptions, names_labels, require_no_labels
from volseg.volume import list_images, stem_of
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Side:
    """The masks on one side.

    Args:
        masks: the files by case.
        labels: what their numbers stand for, if anybody says so.
        regions: the unions of labels that ``dataset.json`` names.
        parts: in their place, the masks of regions by the keys of their names; ``masks`` then has all files of a case.
    """

    masks: Mapping[str, tuple[Path, ...]]
    labels: LabelTable | None
    regions: tuple[Region, ...] = ()
    parts: Mapping[str, RegionMasks] = field(default_factory=dict)

    def of(self, case: str, region: Region) -> RegionSource:
        """Where a region of a case is."""
        if not self.parts:
            return RegionSource(self.masks[case], region.labels)
        return RegionSource(self.parts[key_of(region.name)].masks.get(case, ()))


@dataclass(frozen=True)
class RegionSource:
    """A mask of one region, or the labels of a mask whose union it is."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...] = ()


def side_of(path: Path) -> Side:
    """The masks of a folder, or one mask, and what a file beside them says of their labels."""
    parts = regions_in(path)
    if parts:
        files = (file for part in parts.values() for several in part.masks.values() for file in several)
        return Side(_by_name(files), None, (), parts)
    masks = {stem_of(path): (path,)} if not path.is_dir() else _by_name(list_images(path))
    return Side(masks, labels_beside(path), regions_beside(path))


def reference_side(path: Path) -> Side:
    """The same of the reference, which may be a data set.

    Raises:
        DataSetError: its ``dataset.json`` makes no sense.
    """
    from volseg.dataset.dataset import is_dataset, read_dataset

    if not path.is_dir() or not (is_dataset(path) or (path / LABEL_FOLDERS[0]).is_dir()):
        return side_of(path)
    dataset = read_dataset(path)
    masks = {case.name: (case.label,) for case in dataset.training if case.label is not None}
    # A mask whose image is absent is a reference all the same.
    listed = {mask for paths in masks.values() for mask in paths}
    others = _by_name(mask for mask in list_images(path / LABEL_FOLDERS[0]) if mask not in listed)
    return Side(others | masks, dataset.labels if len(dataset.labels) else None, dataset.regions)


def _by_name(paths: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = defaultdict(tuple)
    for path in paths:
        found[stem_of(path)] += (path,)
    return dict(found)


def regions_to_score(found: Side, true: Side, options: EvaluateOptions) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """The regions to score, none for labels; and which masks of regions are not scored, in sentences.

    Raises:
        UsageError: a region is not on both sides, or nobody says which labels it is the union of.
    """
    asked = asked_regions(options, found.labels, true.labels)
    regions = asked or (() if names_labels(options) else true.regions or found.regions)
    if asked or found.parts or true.parts:
        require_no_labels(options)
    if not regions:
        parts = found.parts or true.parts
        table = (true.labels if found.parts else found.labels) or LabelTable(())
        numbers = {key_of(label.name): (label.index,) for label in table.labels}
        regions = tuple(Region(part.name, numbers.get(key, ())) for key, part in parts.items())
        if found.parts and true.parts:
            regions = tuple(region for region in regions if key_of(region.name) in true.parts)
    keys = {key_of(region.name) for region in regions}
    for side in (found, true):
        absent = [region.name for region in regions if side.parts and key_of(region.name) not in side.parts]
        unknown = [region.name for region in regions if not side.parts and not region.labels]
        if absent:
            raise UsageError(f"There are no masks of the regions {listed(absent)}.", code="no-region")
        if unknown:
            raise UsageError(
                f"Nobody says which labels of the masks make up the regions {listed(unknown)}. "
                'Give --regions "NAME=1,2,4; NAME=1,4".',
                code="no-region",
            )
    beyond = {part.name for side in (found, true) for key, part in side.parts.items() if key not in keys}
    if (found.parts or true.parts) and not regions:
        raise UsageError(f"No region is on both sides: {listed(sorted(beyond))}.", code="no-region")
    warnings = (f"Not scored, since not on both sides or not asked for: {listed(sorted(beyond))}.",) * bool(beyond)
    if not found.parts and not true.parts:
        warnings += named_apart(found.labels, true.labels, {label for region in regions for label in region.labels})
    return regions, warnings


def asked_regions(
    options: EvaluateOptions, predicted: LabelTable | None, reference: LabelTable | None
) -> tuple[Region, ...]:
    """The regions that the options name.

    Raises:
        UsageError: they make no sense, or name labels that have other numbers in the prediction.
    """
    texts: tuple[str, ...] = each(options.regions)
    regions = parse_regions(texts, reference or predicted or LabelTable(()))
    try:
        theirs = parse_regions(texts, predicted or LabelTable(()))
    except UsageError:  # it doesn't know these names, so it tells no other numbers
        return regions
    for region, other in zip(regions, theirs, strict=True):
        if set(region.labels) != set(other.labels):
            raise UsageError(
                f"The labels of {region.name} have the numbers {listed([*map(str, region.labels)])} in the reference and "
                f"{listed([*map(str, other.labels)])} in the prediction. Make the labels of both the same first."
            )
    return regions
