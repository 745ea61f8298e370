"""Validation scores in the bundle's README."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.bundle.own_runs import is_own_run
from volseg.bundle.trials import trials_of
from volseg.bundle.write import MAX_README_BYTES, SCORES_BEGIN, SCORES_END, cell
from volseg.errors import DataSetError, FileError, InputError
from volseg.files import read_bounded
from volseg.training.checkpoint import RunFolder
from volseg.training.cross_validation import NAME, CrossValidation
from volseg.training.history import best_epoch, read_history
from volseg.training.record import RunRecord
from volseg.verbs.train.publishing import published_run
from volseg.words import counted

if TYPE_CHECKING:
    from volseg.bundle.folder import Bundle
    from volseg.training.history import Epoch


def write_scores(bundle: Bundle) -> None:
    """Write the validation scores of all runs that were made here between the marks that ``volseg plan`` put into ``docs/README.md``.

    What a person wrote around them stays as it is; where the marks were taken out, nothing is written.

    Raises:
        FileError: the file can't be written.
        InputError: a run's history is damaged.
    """
    path = bundle.root / "docs" / "README.md"
    if path.is_symlink():
        return
    try:
        text = read_bounded(path, MAX_README_BYTES, "README").decode("utf-8", "surrogateescape")
    except (FileError, InputError):  # not ours to tell of
        return
    before, begin, rest = text.partition(SCORES_BEGIN)
    _, end, after = rest.partition(SCORES_END)
    if not begin or not end or SCORES_BEGIN in rest:
        return
    new = f"{before}{begin}\n{_table(bundle)}{end}{after}"
    if new != text:
        write_text(path, new)


def _table(bundle: Bundle) -> str:
    best: dict[str, Epoch | None] = {}
    told = ""
    labels: tuple[str, ...] = ()
    for folder in sorted(bundle.runs.iterdir()):
        if RunFolder(folder).history.is_file() and is_own_run(folder):
            rows, labels = read_history(RunFolder(folder).history)
            best[folder.name] = best_epoch(rows)
            told += _validated(RunFolder(folder))
    header = ["validation Dice", *best]
    rows_of = [["mean", *(_score(row, None) for row in best.values())]]
    rows_of += [[cell(label), *(_score(row, n) for row in best.values())] for n, label in enumerate(labels)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows_of))
    run = published_run(bundle)
    model = ""
    if run:
        trial = "".join(f" {words}" for words in trials_of(bundle, bundle.model_path))
        model = f"`models/model.pt` is the model of {run}.{trial}\n{_precision(bundle, run)}"
    return (
        f"\n## Scores\n\n{table}\n\nEach at its best validation, on the cases that the run held out.{told} {model}\n"
        f"{_cross_validation(bundle)}"
    )


def _cross_validation(bundle: Bundle) -> str:
    """The scores of all folds together; nothing where a fold was trained on since."""
    found = CrossValidation.read(bundle.runs) if is_own_run(bundle.runs / NAME) else None
    if found is None or not found.is_current(bundle.runs):
        return ""
    header = ["Dice", "mean", "spread over cases", *(f"fold {fold}" for fold in found.folds), "HD95 mm"]
    rows = [
        [cell(name), _shown(found.dice(n).mean), _shown(found.dice(n).standard_deviation)]
        + [_shown(found.dice(n, fold).mean) for fold in found.folds]
        + [_shown(found.hd95_mm(n).mean, 2)]
        for n, name in enumerate(found.labels)
    ]
    rows.append(["mean", _shown(found.mean()), "", *(_shown(found.mean(fold)) for fold in found.folds), ""])
    table = "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
    said = (
        f"\n## Cross-validation\n\nEach of {counted(len(found.cases), 'case')} as `volseg predict --fold` segments it with "
        f"the model of the fold that held it out, all rules included.\n\n{table}\n"
    )
    if found.rules:
        rows = [
            [cell(one.rule), f"{one.before:.4f}", f"{one.after:.4f}", f"{one.gain:+.4f}", "yes" if one.kept else "no"]
            for one in found.rules
        ]
        header = ["rule", "mean Dice without", "with", "gain", "in the bundle"]
        table = "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
        said += f"\nRules for labels that were tried on these masks, holes after pieces:\n\n{table}\n"
    return said


def _shown(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _record(run: RunFolder) -> RunRecord | None:
    try:
        return RunRecord.read(run.record)
    except DataSetError:  # there is none, as of a run that was taken away; a damaged one is told by whoever needs it
        return None


def _validated(run: RunFolder) -> str:
    """That a run's score is of some of the cases held out alone."""
    record = _record(run)
    if record is None or record.validated is None:
        return ""
    if not record.validated:
        return f" {run.folder.name} has none, for its minutes had no room for a validation."
    of = f"{record.validated} of {counted(len(record.cases.validation), 'case')} alone"
    return f" That of {run.folder.name} is of the first {of}, for its minutes had no room for all."


def _precision(bundle: Bundle, run: str) -> str:
    """What bfloat16 changes in the masks of a run's model, where the run measured it."""
    record = _record(RunFolder(bundle.runs / run))
    change = None if record is None else record.bfloat16_change
    if change is None:
        return ""
    share = 100 * change.changed / change.voxels
    return (
        f"\nIn bfloat16 it gives {change.changed:,} of {change.voxels:,} voxels ({share:.3f} %) another label than in "
        f"float32: {counted(change.cases, 'case')} that {run} held out, on the grid of the preprocessing and before any "
        "rule.\n"
    )


def _score(row: Epoch | None, label: int | None) -> str:
    if row is None or row.validation is None:
        return ""
    per_label = row.validation.per_label
    value = row.validation.score if label is None else per_label[label] if label < len(per_label) else math.nan
    return f"{value:.3f}" if math.isfinite(value) else ""
