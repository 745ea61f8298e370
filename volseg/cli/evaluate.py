"""``volseg evaluate``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volseg.cli.results import print_ledger, print_table
from volseg.console import ConsoleProgress
from volseg.outcomes import Ledger, Status
from volseg.verbs.evaluate import DEFAULTS, EvaluateOptions
from volseg.verbs.evaluate import evaluate as run_evaluate
from volseg.words import counted, listed, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.evaluation import Evaluation
    from volseg.metrics import LabelScore, Metric, Summary

MAX_ROWS = 60
"""More rows of cases than this hide the means above them; they go to a file."""

NOT_SHOWN = ("predicted_ml",)
"""It follows from the two columns on volume."""


def evaluate(
    predicted: Path,
    reference: Path,
    /,
    *,
    options: Annotated[EvaluateOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Compare masks with reference masks, per case and label.

    Masks of the same name are a pair. Prints Dice, IoU, sensitivity, specificity, precision, the 95th-percentile
    Hausdorff distance in mm and the difference in volume, per case and as means. A dash is a figure that is not
    defined, such as the Dice of a label that neither mask has; inf is a distance to nothing.

    Args:
        predicted: A folder of masks, one mask, or the folders of regions that predict --regions wrote.
        reference: A folder of masks, one mask, folders of regions, or a data set with its labelsTr.
        options: How to compare.

    Examples:
        volseg evaluate predicted hippocampus --out evaluation
        volseg evaluate predicted hippocampus --labels anterior
        volseg evaluate predicted brats --regions "whole tumor=1,2,4; tumor core=1,4"
        volseg evaluate predicted/case_1.nii.gz drawn/case_1.nii.gz
    """
    evaluation = run_evaluate(predicted, reference, options, ConsoleProgress())
    show(evaluation, is_written=options.out is not None)
    if options.out is not None:
        print(printable(f"Wrote evaluation.csv and evaluation.json in {options.out}"))
    return evaluation.exit_code


def show(evaluation: Evaluation, *, is_written: bool = False) -> None:
    """Print the cases, the means, and what is in no mean."""
    for warning in evaluation.warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr, flush=True)
    heads, names = [metric.title for metric in _shown().values()], evaluation.labels.names
    rows = [
        (case.case, name, *_cells(score))
        for case in evaluation.cases
        for name, score in zip(names, case.scores, strict=True)
    ]
    if 0 < len(rows) <= MAX_ROWS:
        print_table(("case", "label", *heads), rows)
        print()
    elif rows and not is_written:
        print(f"{len(rows)} rows of cases and labels are not shown; --out DIR writes them to a file.\n")
    if evaluation.cases:
        _print_means(evaluation, heads)
    _print_rest(evaluation)


def _shown() -> dict[str, Metric]:
    """The metrics that have a column."""
    from volseg.metrics import METRICS

    return {name: metric for name, metric in METRICS.items() if name not in NOT_SHOWN}


def _cells(score: LabelScore) -> tuple[str, ...]:
    return tuple(_number(getattr(score, name), metric.decimals) for name, metric in _shown().items())


def _print_means(evaluation: Evaluation, heads: Sequence[str]) -> None:
    cases = len(evaluation.cases)
    rows = [
        (
            label.name,
            *(_mean(label.metrics[name], cases, metric.decimals) for name, metric in _shown().items()),
        )
        for label in evaluation.means
    ]
    if len(rows) > 1:
        means = (_number(evaluation.mean_over_labels(name), metric.decimals) for name, metric in _shown().items())
        rows.append(("mean of the labels", *means))
    print_table((f"mean of {counted(cases, 'case')}", *heads), rows)
    if any("/" in cell for row in rows for cell in row[1:]):
        print("/n: the mean of n cases; in the others the figure is infinite or not defined.")


def _print_rest(evaluation: Evaluation) -> None:
    told = [outcome for outcome in evaluation.ledger.outcomes if outcome.status is not Status.SKIPPED]
    for what, names in (
        ("References without a prediction, in no mean", evaluation.missing_predictions),
        ("Predictions without a reference", evaluation.missing_references),
    ):
        if names:
            print(printable(f"{what}: {len(names)} ({listed(names)})"))
    infinite = sum(label.metrics["hd95_mm"].infinite for label in evaluation.means)
    if infinite:
        print(f"Infinite HD95, in no mean: {infinite}. One of the two masks lacks the label, which the mean hides.")
    print_ledger(Ledger(tuple(told), evaluation.ledger.provenance))


def _mean(summary: Summary, cases: int, decimals: int) -> str:
    text = _number(summary.mean, decimals)
    return text if summary.counted in (0, cases) else f"{text} /{summary.counted}"


def _number(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.{decimals}f}"
