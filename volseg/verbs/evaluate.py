"""Evaluate: compare masks with reference masks, per case and label."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.batch import choose_executor, run_cases, voxel_bytes
from volseg.dataset.beside import LABEL_FOLDERS, labels_beside, regions_beside
from volseg.errors import GeometryError, InputError, OutputExistsError, UsageError, VolsegError
from volseg.evaluation import CSV_NAME, JSON_NAME, MISSING_PREDICTION, MISSING_REFERENCE, Evaluation, ScoredCase
from volseg.labels import MAX_INDEX, Label, LabelTable, Region, is_name
from volseg.metrics import LabelScore, compare
from volseg.nomenclature import key_of
from volseg.options import Many, PathOption, each
from volseg.outcomes import Ledger, Outcome, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.regions import RegionMasks, parse_regions, read_region, regions_in, union_of
from volseg.resampling import turned_onto
from volseg.volume import Mask, Volume, list_images, read_mask, stem_of
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["DEFAULTS", "EvaluateOptions", "Evaluation", "evaluate", "evaluate_volumes"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to compare."""

    out: PathOption | None = None
    """Folder for evaluation.csv and evaluation.json."""

    labels: Many[str | int] = ()
    """Labels to score instead of all: numbers such as 1,2, or names such as liver, as labels.txt or dataset.json beside
    the masks has them. A number is never taken for a name."""

    regions: Many[str] = ()
    """Structures to score in place of the labels, as unions of labels: "whole tumor=1,2,4; tumor core=1,4". A
    dataset.json of nnU-Net's beside the reference may name them, and so may folders that predict --regions wrote."""

    require_all: bool = False
    """Count a reference without a prediction as a refused case, so that the exit code is 1."""

    overwrite: bool = False
    """Replace an evaluation that is there already."""

    jobs: int = 0
    """How many cases are compared at once; 0 takes all cores."""


DEFAULTS = EvaluateOptions()


@dataclass(frozen=True)
class _Pair:
    name: str
    predicted: tuple[Path, ...]
    reference: tuple[Path, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class _Side:
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

    def of(self, case: str, region: Region) -> _RegionSource:
        """Where a region of a case is."""
        if not self.parts:
            return _RegionSource(self.masks[case], region.labels)
        return _RegionSource(self.parts[key_of(region.name)].masks.get(case, ()))


@dataclass(frozen=True)
class _RegionSource:
    """A mask of one region, or the labels of a mask whose union it is."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class _RegionPair:
    """A case, and for each region the predicted one and its reference."""

    name: str
    regions: tuple[tuple[Region, _RegionSource, _RegionSource], ...]

    @property
    def paths(self) -> Iterable[Path]:
        """All files that are read."""
        return {path for _, *sources in self.regions for source in sources for path in source.paths}


def evaluate_volumes(
    predicted: Volume, reference: Volume, options: EvaluateOptions = DEFAULTS, case: str = "case"
) -> Evaluation:
    """Compare one mask with its reference in memory, as ``evaluate`` does files.

    Raises:
        GeometryError: the two lie on different grids, with the code ``grids-differ``.
        InputError: one is no mask.
    """
    tables = [
        volume.labels if isinstance(volume, Mask) and len(volume.labels) else None for volume in (predicted, reference)
    ]
    regions = parse_regions(each(options.regions), tables[1] or tables[0] or LabelTable(()))
    if regions:
        _require_no_labels(options)
        scores = (
            _compare(union_of(predicted, region.labels), union_of(reference, region.labels), (1,))[0]
            for region in regions
        )
        return _of_regions(regions, (_numbered(case, scores),), options, ())
    wanted = _wanted(options.labels, tables[0], tables[1])
    outcome = ScoredCase(case, Status.DONE, "done", scores=_compare(predicted, reference, wanted or None))
    labels, warnings = _labels(tables[0], tables[1], (outcome,), wanted)
    return Evaluation(labels, Ledger((outcome,), Provenance.of("evaluate", options)), warnings)


def evaluate(
    predicted: Path, reference: Path, options: EvaluateOptions = DEFAULTS, progress: Progress = SILENT
) -> Evaluation:
    """Compare masks with reference masks of the same names.

    Args:
        predicted: a folder of masks, or one mask.
        reference: a folder of masks, one mask, or a data set, whose ``labelsTr`` is meant.
        options: how to compare.
        progress: receives the progress.

    Raises:
        UsageError: a path is absent, both are the same, or no case is on both sides.
        OutputExistsError: an evaluation is there already.
        DataSetError: the reference's ``dataset.json`` makes no sense.
        FileError: the result can't be written.
    """
    _check(predicted, reference, options)
    found, true = _side(predicted), _references(reference)
    if not predicted.is_dir() and not reference.is_dir():
        # Two files that a person names are a pair, whatever they are called.
        true = replace(true, masks={stem_of(predicted): (reference,)})
    common = sorted(set(found.masks) & set(true.masks))
    if not common:
        raise UsageError(
            f"No case is on both sides. Predicted: {listed(sorted(found.masks)) or 'no mask'}. Reference: {listed(sorted(true.masks)) or 'no mask'}. "
            "Give a mask and its reference the same file name.",
            code="no-pairs",
        )
    regions, missing = _regions(found, true, options)
    if regions:
        return _evaluate_regions(found, true, common, regions, missing, options, progress)
    wanted = _wanted(options.labels, found.labels, true.labels)
    pairs = [_Pair(name, found.masks[name], true.masks[name], wanted) for name in common]
    scored = run_cases(
        _score,
        pairs,
        name_of=lambda pair: pair.name,
        title="Comparing masks",
        executor=choose_executor(options.jobs, (voxel_bytes((*pair.predicted, *pair.reference)) for pair in pairs)),
        progress=progress,
    )
    outcomes = sorted((*scored, *_unpaired(found.masks, true.masks, options)), key=lambda outcome: outcome.case)
    labels, warnings = _labels(found.labels, true.labels, scored, wanted)
    evaluation = Evaluation(labels, Ledger(tuple(outcomes), Provenance.of("evaluate", options)), warnings)
    if options.out is not None:
        evaluation.write(Path(options.out))
    return evaluation


def _evaluate_regions(
    found: _Side,
    true: _Side,
    common: Sequence[str],
    regions: tuple[Region, ...],
    warnings: tuple[str, ...],
    options: EvaluateOptions,
    progress: Progress,
) -> Evaluation:
    pairs = [
        _RegionPair(case, tuple((region, found.of(case, region), true.of(case, region)) for region in regions))
        for case in common
    ]
    scored = run_cases(
        _score_regions,
        pairs,
        name_of=lambda pair: pair.name,
        title="Comparing regions",
        executor=choose_executor(options.jobs, (voxel_bytes(pair.paths) for pair in pairs)),
        progress=progress,
    )
    outcomes = sorted((*scored, *_unpaired(found.masks, true.masks, options)), key=lambda outcome: outcome.case)
    evaluation = _of_regions(regions, outcomes, options, warnings)
    if options.out is not None:
        evaluation.write(Path(options.out))
    return evaluation


def _of_regions(
    regions: Sequence[Region], outcomes: Sequence[Outcome], options: EvaluateOptions, warnings: tuple[str, ...]
) -> Evaluation:
    """Regions are numbered in their order, and told by their names."""
    table = LabelTable(tuple(Label(number, region.name) for number, region in enumerate(regions, 1)))
    return Evaluation(table, Ledger(tuple(outcomes), Provenance.of("evaluate", options)), warnings)


def _regions(found: _Side, true: _Side, options: EvaluateOptions) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """The regions to score, none for labels; and which masks of regions are not scored, in sentences.

    Raises:
        UsageError: a region is not on both sides, or nobody says which labels it is the union of.
    """
    asked = parse_regions(each(options.regions), true.labels or found.labels or LabelTable(()))
    regions = asked or (() if _names_labels(options) else true.regions or found.regions)
    if asked or found.parts or true.parts:
        _require_no_labels(options)
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
    return regions, (f"Not scored, since not on both sides or not asked for: {listed(sorted(beyond))}.",) * bool(beyond)


def _names_labels(options: EvaluateOptions) -> bool:
    given: tuple[int | str, ...] = each(options.labels)
    return bool(given)


def _require_no_labels(options: EvaluateOptions) -> None:
    if _names_labels(options):
        raise UsageError("These masks are scored by regions: leave --labels out, or name the regions by --regions.")


def _score_regions(pair: _RegionPair) -> Outcome:
    read: dict[Path, Volume] = {}

    def of(which: str, region: Region, source: _RegionSource) -> Volume:
        if len(source.paths) != 1:
            what = "Several masks" if source.paths else "No mask"
            raise InputError(
                f"{what} of the {which} region {region.name} bear this case's name.", code="missing-region"
            )
        (path,) = source.paths
        try:
            if not source.labels:
                return read_region(path)
            if path not in read:
                read[path] = read_mask(path)
            return union_of(read[path], source.labels)
        except VolsegError as error:
            raise error.reworded(f"The {which} mask: {error.message}") from error

    scores = (
        _compare(of("predicted", region, predicted), of("reference", region, reference), (1,))[0]
        for region, predicted, reference in pair.regions
    )
    return _numbered(pair.name, scores)


def _numbered(case: str, scores: Iterable[LabelScore]) -> ScoredCase:
    numbered = tuple(replace(score, label=number) for number, score in enumerate(scores, 1))
    return ScoredCase(case, Status.DONE, "done", scores=numbered)


def _check(predicted: Path, reference: Path, options: EvaluateOptions) -> None:
    for path in (predicted, reference):
        if not path.exists():
            raise UsageError(f"{path} does not exist.", code="missing-file")
    if predicted.resolve() == reference.resolve():
        raise UsageError(f"{predicted} would be compared with itself. Name the reference.", code="same-folder")
    if options.out is None:
        return
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, and the results need a folder.", code="not-a-folder")
    there = [name for name in (CSV_NAME, JSON_NAME) if (out / name).exists()]
    if there and not options.overwrite:
        raise OutputExistsError(f"{out} has {' and '.join(there)} already. Name another folder, or add --overwrite.")


def _wanted(asked: Many[int | str], predicted: LabelTable | None, reference: LabelTable | None) -> tuple[int, ...]:
    """The labels to score by their numbers; none for all."""
    given: tuple[int | str, ...] = each(asked)
    table = reference or predicted or LabelTable(())
    labels = table.each(given)
    found = table.find(labels)
    if any(not 1 <= label <= MAX_INDEX for label in found):
        raise UsageError(f"Labels are numbers from 1 to {MAX_INDEX}, not {list(labels)}.")
    theirs = {label.name.casefold(): label.index for label in predicted.labels} if predicted else {}
    for label, index in zip(labels, found, strict=True):
        if is_name(label) and theirs.get(label.casefold(), index) != index:
            raise UsageError(
                f"{label} is {index} in the reference and {theirs[label.casefold()]} in the prediction. "
                "Make the labels of both the same first."
            )
    return found


def _side(path: Path) -> _Side:
    """The masks of a folder, or one mask, and what a file beside them says of their labels."""
    parts = regions_in(path)
    if parts:
        files = (file for part in parts.values() for several in part.masks.values() for file in several)
        return _Side(_by_name(files), None, (), parts)
    masks = {stem_of(path): (path,)} if not path.is_dir() else _by_name(list_images(path))
    return _Side(masks, labels_beside(path), regions_beside(path))


def _references(path: Path) -> _Side:
    from volseg.dataset.dataset import is_dataset, read_dataset

    if not path.is_dir() or not (is_dataset(path) or (path / LABEL_FOLDERS[0]).is_dir()):
        return _side(path)
    dataset = read_dataset(path, regions=True)
    masks = {case.name: (case.label,) for case in dataset.training if case.label is not None}
    # A mask whose image is absent is a reference all the same.
    listed = {mask for paths in masks.values() for mask in paths}
    others = _by_name(mask for mask in list_images(path / LABEL_FOLDERS[0]) if mask not in listed)
    return _Side(others | masks, dataset.labels if len(dataset.labels) else None, dataset.regions)


def _by_name(paths: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = defaultdict(tuple)
    for path in paths:
        found[stem_of(path)] += (path,)
    return dict(found)


def _score(pair: _Pair) -> Outcome:
    for which, paths in (("predicted", pair.predicted), ("reference", pair.reference)):
        if len(paths) > 1:
            raise InputError(
                f"Several {which} masks bear this name: {', '.join(path.name for path in paths)}. Keep one.",
                code="name-twice",
            )
    masks = []
    for which, (path,) in (("predicted", pair.predicted), ("reference", pair.reference)):
        try:
            masks.append(read_mask(path))
        except VolsegError as error:
            raise error.reworded(f"The {which} mask: {error.message}") from error
    scores = _compare(masks[0], masks[1], pair.labels or None)
    return ScoredCase(pair.name, Status.DONE, "done", scores=scores)


def _compare(predicted: Volume, reference: Volume, labels: Sequence[int] | None) -> tuple[LabelScore, ...]:
    """The scores of one mask; see ``volseg.metrics.compare``. Masks of the same voxels may list them in other orders.

    Raises:
        GeometryError: the two lie on different grids, with the code ``grids-differ``.
    """
    apart = predicted.grid.difference(reference.grid)
    alike = predicted if apart is None else turned_onto(predicted, reference.grid)
    if alike is None:
        raise GeometryError(
            f"The prediction and its reference lie on different grids: {apart}. Resample the prediction onto the "
            "reference's grid with the nearest neighbour, or predict on the image that the reference was drawn on.",
            code="grids-differ",
        )
    return compare(alike.array, reference.array, reference.grid, labels)


def _unpaired(
    predicted: Mapping[str, object], reference: Mapping[str, object], options: EvaluateOptions
) -> Iterable[Outcome]:
    status = Status.REFUSED if options.require_all else Status.SKIPPED
    for name in set(reference) - set(predicted):
        message = "There is a reference and no prediction, so this case is in no mean."
        yield Outcome(name, status, MISSING_PREDICTION, message)
    for name in set(predicted) - set(reference):
        yield Outcome(name, Status.SKIPPED, MISSING_REFERENCE, "There is a prediction and no reference for it.")


def _labels(
    predicted: LabelTable | None, reference: LabelTable | None, outcomes: Iterable[Outcome], chosen: tuple[int, ...]
) -> tuple[LabelTable, tuple[str, ...]]:
    """The labels to show: those of the table, and those that were met beyond it."""
    met = {score.label for outcome in outcomes if isinstance(outcome, ScoredCase) for score in outcome.scores}
    table = reference or predicted
    names = {label.index: label for label in table.labels} if table else {}
    wanted = set(chosen) or (met | set(names))
    warnings = []
    beyond = sorted(label for label in wanted if label not in names)
    if table and beyond:
        warnings.append(f"The label table has no label {', '.join(map(str, beyond))}, and masks have it.")
    if predicted and reference:
        theirs = {label.index: label.name for label in predicted.labels}
        warnings += [
            f"Label {index} is {name!r} in the reference and {theirs[index]!r} in the prediction: is it the same thing?"
            for index, name in ((label.index, label.name) for label in reference.labels)
            if index in theirs and key_of(theirs[index]) != key_of(name)
        ]
    taken = {label.name for label in names.values()}
    labels = [names[index] for index in wanted if index in names]
    labels += [Label(index, _free_name(index, taken)) for index in beyond]
    return LabelTable(tuple(labels)), tuple(warnings)


def _free_name(index: int, taken: set[str]) -> str:
    name = f"label_{index}"
    return name if name not in taken else f"label_{index} (not in the table)"
