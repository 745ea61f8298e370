"""The scores of a cohort: per case and label, their summary, and what is not in it."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.metrics import LabelScore, Overlap, Summary, summarise
from volseg.outcomes import Ledger, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from volseg.labels import LabelTable

EVALUATION_FORMAT = 1
CSV_NAME = "evaluation.csv"
JSON_NAME = "evaluation.json"
METRICS = tuple(field.name for field in fields(LabelScore) if field.name != "label")

MISSING_PREDICTION = "missing-prediction"
MISSING_REFERENCE = "missing-reference"

FORMULA_STARTS = ("=", "+", "-", "@", "\t")
"""A spreadsheet runs what begins so, and names come from files of strangers."""


@dataclass(frozen=True)
class ScoredCase(Outcome):
    """The outcome of a case that was compared with its reference."""

    scores: tuple[LabelScore, ...] = ()


@dataclass(frozen=True)
class LabelSummary:
    """One label over all cases; each field sums up the figure of that name in ``LabelScore``."""

    label: int
    name: str
    dice: Summary
    iou: Summary
    sensitivity: Summary
    specificity: Summary
    precision: Summary
    predicted_ml: Summary
    reference_ml: Summary
    volume_difference_ml: Summary
    relative_volume_difference: Summary
    hd95_mm: Summary

    @classmethod
    def of(cls, label: int, name: str, scores: Iterable[LabelScore]) -> LabelSummary:
        """Sum up one label's scores, one for each case."""
        scores = tuple(scores)
        return cls(label, name, **{metric: summarise(getattr(score, metric) for score in scores) for metric in METRICS})

    def summary_of(self, metric: str) -> Summary:
        """The summary of one of ``METRICS``."""
        found: Summary = getattr(self, metric)
        return found


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What a comparison of masks with their references gave.

    Args:
        labels: the labels that were scored, in every case.
        ledger: one outcome for each case; those of kind ``ScoredCase`` carry their scores. A reference without a
            prediction stands there as skipped with the code ``missing-prediction``, or as refused when every
            reference was to have one.
        warnings: what a person should know about the cohort as a whole.
    """

    labels: LabelTable
    ledger: Ledger
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        dice = ", ".join(f"{label.name} {label.dice.mean:.4f}" for label in self.means)
        return f"Evaluation({len(self.cases)} case{'s' * (len(self.cases) != 1)}; mean Dice {dice})"

    @cached_property
    def cases(self) -> tuple[ScoredCase, ...]:
        """The cases that were scored, each with one score for every label, ascending."""
        scored = (outcome for outcome in self.ledger.outcomes if isinstance(outcome, ScoredCase))
        return tuple(_complete(case, self.labels.indices) for case in scored)

    @cached_property
    def means(self) -> tuple[LabelSummary, ...]:
        """One summary for each label, ascending."""
        return tuple(
            LabelSummary.of(label.index, label.name, (case.scores[position] for case in self.cases))
            for position, label in enumerate(self.labels.labels)
        )

    @property
    def missing_predictions(self) -> tuple[str, ...]:
        """The cases that have a reference and no prediction: they are in no mean."""
        return tuple(outcome.case for outcome in self.ledger.outcomes if outcome.code == MISSING_PREDICTION)

    @property
    def missing_references(self) -> tuple[str, ...]:
        """The cases that have a prediction and no reference."""
        return tuple(outcome.case for outcome in self.ledger.outcomes if outcome.code == MISSING_REFERENCE)

    @property
    def refused(self) -> tuple[str, ...]:
        """The cases whose masks could not be compared: they are in no mean."""
        bad = (Status.REFUSED, Status.FAILED)
        return tuple(o.case for o in self.ledger.outcomes if o.status in bad and o.code != MISSING_PREDICTION)

    @property
    def exit_code(self) -> int:
        """0 all pairs compared, 1 some refused or failed, 2 none compared."""
        return self.ledger.exit_code

    def mean_over_labels(self, metric: str) -> float:
        """The mean of the labels' means of one of ``METRICS``: each label weighs the same. NaN when there is none."""
        return summarise(label.summary_of(metric).mean for label in self.means).mean

    def to_csv(self) -> str:
        """One row for each case and label; an empty cell is a figure that is not defined, ``inf`` an infinite one."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("case", "label", "name", *METRICS))
        for case in self.cases:
            for label, score in zip(self.labels.labels, case.scores, strict=True):
                figures = (getattr(score, metric) for metric in METRICS)
                cells = ("" if math.isnan(figure) else repr(figure) for figure in figures)
                table.writerow((_harmless(case.case), label.index, _harmless(label.name), *cells))
        return text.getvalue()

    def to_json(self) -> str:
        """All of it as JSON: null is a figure that is not defined, the string ``inf`` an infinite one."""
        plain_ledger = Ledger(tuple(map(_plain_outcome, self.ledger.outcomes)), self.ledger.provenance)
        ledger = json.loads(plain_ledger.to_json())
        content = {
            "format": EVALUATION_FORMAT,
            "warnings": list(self.warnings),
            "cases_scored": len(self.cases),
            "cases_refused": list(self.refused),
            "missing_predictions": list(self.missing_predictions),
            "missing_references": list(self.missing_references),
            "mean_over_labels": {metric: self.mean_over_labels(metric) for metric in METRICS},
            "labels": [asdict(label) for label in self.means],
            "cases": [{"case": case.case, "scores": [asdict(score) for score in case.scores]} for case in self.cases],
            "outcomes": ledger["outcomes"],
            "provenance": ledger["provenance"],
        }
        return json.dumps(_writable(content), indent=1, allow_nan=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``evaluation.csv`` and ``evaluation.json``, each atomically.

        Raises:
            FileError: a file can't be written.
        """
        write_text(folder / CSV_NAME, self.to_csv())
        write_text(folder / JSON_NAME, self.to_json())


def _complete(case: ScoredCase, labels: Iterable[int]) -> ScoredCase:
    """The case with a score for each label: one that neither mask has is scored as such, never left out."""
    known = {score.label: score for score in case.scores}
    absent = {label: LabelScore.of(Overlap(label, 0, 0, 0, 1), math.nan, 0.0) for label in labels if label not in known}
    scores = tuple((known | absent)[label] for label in labels)
    return ScoredCase(case.case, case.status, case.code, case.message, case.outputs, case.warnings, scores=scores)


def _plain_outcome(outcome: Outcome) -> Outcome:
    """Without the scores, which stand elsewhere."""
    return Outcome(outcome.case, outcome.status, outcome.code, outcome.message, outcome.outputs, outcome.warnings)


def _writable(value: object) -> object:
    """The same data with what JSON has no number for written as null and ``inf``."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    if isinstance(value, dict):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(item) for item in value]
    return value


def _harmless(name: str) -> str:
    return f"'{name}" if name.startswith(FORMULA_STARTS) else name
