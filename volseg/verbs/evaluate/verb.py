"""Compare masks with reference masks, per case and label or region."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.batch import choose_executor, run_cases, voxel_bytes
from volseg.errors import UsageError
from volseg.evaluation import MISSING_PREDICTION, MISSING_REFERENCE, Evaluation, ScoredCase
from volseg.labels import Label, LabelTable, Region
from volseg.outcomes import Ledger, Outcome, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.regions import union_of
from volseg.verbs.evaluate.labels import labels_to_show, named_apart, wanted_labels
from volseg.verbs.evaluate.options import DEFAULTS, EvaluateOptions, require_no_labels, require_usable
from volseg.verbs.evaluate.scoring import (
    Pair,
    RegionPair,
    compare_masks,
    ignored_in,
    require_judged,
    score,
    scored_regions,
)
from volseg.verbs.evaluate.sides import asked_regions, reference_side, regions_to_score, side_of
from volseg.volume import Mask, Volume, stem_of
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


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
    ignore = tables[1].ignore if tables[1] else None
    regions = asked_regions(options, tables[0], tables[1])
    if regions:
        require_no_labels(options)
        require_judged(predicted, ignore)
        pairs = (
            (union_of(predicted, region.labels), union_of(reference, region.labels), ignored_in(reference, ignore))
            for region in regions
        )
        used = {label for region in regions for label in region.labels}
        ledger = Ledger((scored_regions(case, pairs),), Provenance.of("evaluate", options))
        warnings = (*named_apart(tables[0], tables[1], used), *_ignoring(ignore))
        return Evaluation(_table_of(regions), ledger, warnings)
    wanted = wanted_labels(options.labels, tables[0], tables[1])
    require_judged(predicted, ignore)
    scores = compare_masks(predicted, reference, wanted or None, ignored_in(reference, ignore))
    outcome = ScoredCase(case, Status.DONE, "done", scores=scores)
    labels, warnings = labels_to_show(tables[0], tables[1], (outcome,), wanted)
    return Evaluation(labels, Ledger((outcome,), Provenance.of("evaluate", options)), (*warnings, *_ignoring(ignore)))


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
    require_usable(predicted, reference, options)
    found, true = side_of(predicted), reference_side(reference)
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
    regions, warnings = regions_to_score(found, true, options)
    ignore = true.labels.ignore if true.labels else None
    wanted = () if regions else wanted_labels(options.labels, found.labels, true.labels)
    pairs: Sequence[Pair | RegionPair]
    if regions:
        pairs = [
            RegionPair(
                case, tuple((region, found.of(case, region), true.of(case, region)) for region in regions), ignore
            )
            for case in common
        ]
    else:
        pairs = [Pair(case, found.masks[case], true.masks[case], wanted, ignore) for case in common]
    scored = run_cases(
        score,
        pairs,
        name_of=lambda pair: pair.name,
        title="Comparing regions" if regions else "Comparing masks",
        executor=choose_executor(options.jobs, (voxel_bytes(pair.paths) for pair in pairs)),
        progress=progress,
    )
    outcomes = sorted((*scored, *_unpaired(found.masks, true.masks, options)), key=lambda outcome: outcome.case)
    if regions:
        labels = _table_of(regions)
    else:
        labels, warnings = labels_to_show(found.labels, true.labels, scored, wanted)
    warnings += _ignoring(ignore)
    evaluation = Evaluation(labels, Ledger(tuple(outcomes), Provenance.of("evaluate", options)), warnings)
    if options.out is not None:
        evaluation.write(Path(options.out))
    return evaluation


def _ignoring(ignore: int | None) -> tuple[str, ...]:
    """That some voxels count nowhere, in a sentence."""
    if ignore is None:
        return ()
    return (f"Voxels where the reference has the ignore label, {ignore}, count in no figure.",)


def _table_of(regions: Sequence[Region]) -> LabelTable:
    """Regions are numbered in their order, and told by their names."""
    return LabelTable(tuple(Label(number, region.name) for number, region in enumerate(regions, 1)))


def _unpaired(
    predicted: Mapping[str, object], reference: Mapping[str, object], options: EvaluateOptions
) -> Iterable[Outcome]:
    status = Status.REFUSED if options.require_all else Status.SKIPPED
    for name in set(reference) - set(predicted):
        message = "There is a reference and no prediction, so this case is in no mean."
        yield Outcome(name, status, MISSING_PREDICTION, message)
    for name in set(predicted) - set(reference):
        yield Outcome(name, Status.SKIPPED, MISSING_REFERENCE, "There is a prediction and no reference for it.")
