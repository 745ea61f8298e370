"""Validation scores in the bundle's README."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.bundle.write import SCORES_BEGIN, SCORES_END, cell
from volseg.errors import DataSetError, FileError, InputError
from volseg.files import read_bounded
from volseg.training.checkpoint import RunFolder
from volseg.training.history import best_epoch, read_history
from volseg.training.record import RunRecord
from volseg.verbs.train.publishing import published_run
from volseg.words import counted

if TYPE_CHECKING:
    from volseg.bundle.folder import Bundle
    from volseg.training.history import Epoch

MAX_README_BYTES = 2**20


def write_scores(bundle: Bundle) -> None:
    """Write the validation scores of all runs between the marks that ``volseg plan`` put into ``docs/README.md``.

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
    labels: tuple[str, ...] = ()
    for folder in sorted(bundle.runs.iterdir()):
        if RunFolder(folder).history.is_file():
            rows, labels = read_history(RunFolder(folder).history)
            best[folder.name] = best_epoch(rows)
    header = ["validation Dice", *best]
    rows_of = [["mean", *(_score(row, None) for row in best.values())]]
    rows_of += [[cell(label), *(_score(row, n) for row in best.values())] for n, label in enumerate(labels)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows_of))
    run = published_run(bundle)
    model = f"`models/model.pt` is the model of {run}.\n{_precision(bundle, run)}" if run else ""
    return f"\n## Scores\n\n{table}\n\nEach at its best validation, on the cases that the run held out. {model}\n"


def _precision(bundle: Bundle, run: str) -> str:
    """What bfloat16 changes in the masks of a run's model, where the run measured it."""
    try:
        change = RunRecord.read(RunFolder(bundle.runs / run).record).bfloat16_change
    except DataSetError:  # there is none, as of a run that was taken away; a damaged one is told by whoever needs it
        return ""
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
