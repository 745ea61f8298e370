"""The scores of a cohort: per case and label, their summary, and what is not in it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.atomic import write_text
from volseg.errors import InputError, UsageError
from volseg.files import read_bounded
from volseg.labels import LabelTable
from volseg.metrics import METRICS, LabelScore, Summary, summarise
from volseg.outcomes import LEDGER_FORMAT, MAX_LEDGER_BYTES, Ledger, Outcome, Provenance, Status
from volseg.words import counted, harmless, printable

if TYPE_CHECKING:
    from pandas import DataFrame

    from volseg.options import StrPath

CSV_NAME = "evaluation.csv"
JSON_NAME = "evaluation.json"
MISSING_PREDICTION = "missing-prediction"
MISSING_REFERENCE = "missing-reference"

COLUMNS = ("case", "label", "name", *METRICS)
"""Of ``evaluation.csv`` and of the data frame."""


@dataclass(frozen=True)
class ScoredCase(Outcome):
    """The outcome of a case that was compared with its reference."""

    scores: tuple[LabelScore, ...] = ()


@dataclass(frozen=True)
class LabelSummary:
    """One label over all cases, with a summary of each metric of ``LabelScore`` by its name."""

    label: int
    name: str
    metrics: Mapping[str, Summary]

    @classmethod
    def of(cls, label: int, name: str, scores: Collection[LabelScore]) -> LabelSummary:
        """Sum up one label's scores, one for each case."""
        return cls(label, name, {metric: summarise(getattr(score, metric) for score in scores) for metric in METRICS})


@dataclass(frozen=True)
class _Record:
    """What of ``evaluation.json`` doesn't follow from the rest."""

    outcomes: tuple[ScoredCase, ...]
    provenance: Provenance
    label_table: LabelTable
    warnings: tuple[str, ...]


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
        dice = ", ".join(f"{label.name} {label.metrics['dice'].mean:.4f}" for label in self.means)
        return f"Evaluation({counted(len(self.cases), 'case')}; mean Dice {dice})"

    @cached_property
    def cases(self) -> tuple[ScoredCase, ...]:
        """The cases that were scored, each with one score for every label, ascending."""
        scored = (outcome for outcome in self.ledger.outcomes if isinstance(outcome, ScoredCase))
        return tuple(_complete(case, self.labels.indices) for case in scored)

    @cached_property
    def means(self) -> tuple[LabelSummary, ...]:
        """One summary for each label, ascending."""
        return tuple(
            LabelSummary.of(label.index, label.name, [case.scores[position] for case in self.cases])
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
        """The mean of the labels' means of a metric: each label weighs the same. NaN when there is none."""
        return summarise(label.metrics[metric].mean for label in self.means).mean

    def to_csv(self) -> str:
        """One row for each case and label; an empty cell is a figure that is not defined, ``inf`` an infinite one."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for case, label, name, *figures in self._rows():
            cells = ("" if math.isnan(figure) else repr(figure) for figure in figures)
            table.writerow((harmless(printable(case)), label, harmless(printable(name)), *cells))
        return text.getvalue()

    def to_dataframe(self) -> DataFrame:
        """One row for each case and label, with the columns of ``evaluation.csv``; NaN is a figure that is not defined.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise UsageError("A data frame needs pandas: install it with pip install pandas.") from error
        return DataFrame(list(self._rows()), columns=list(COLUMNS))

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for case in self.cases:
            for label, score in zip(self.labels.labels, case.scores, strict=True):
                yield (case.case, label.index, label.name, *(getattr(score, metric) for metric in METRICS))

    def to_json(self) -> str:
        """All of it as JSON: null is a figure that is not defined, the string ``inf`` an infinite one."""
        scored = {case.case: case for case in self.cases}
        outcomes = tuple(scored.get(outcome.case, outcome) for outcome in self.ledger.outcomes)
        content = {
            **json.loads(replace(self.ledger, outcomes=outcomes).to_json()),
            "warnings": list(self.warnings),
            "cases_scored": len(self.cases),
            "cases_refused": list(self.refused),
            "missing_predictions": list(self.missing_predictions),
            "missing_references": list(self.missing_references),
            "mean_over_labels": {metric: self.mean_over_labels(metric) for metric in METRICS},
            "labels": [
                {"label": label.label, "name": label.name} | {m: asdict(one) for m, one in label.metrics.items()}
                for label in self.means
            ],
            "label_table": asdict(self.labels),
        }
        return json.dumps(_writable(content), indent=1, allow_nan=False) + "\n"

    @classmethod
    def read(cls, path: StrPath) -> Evaluation:
        """Read an ``evaluation.json``, or the one in a folder.

        Raises:
            FileError: there is none, or it can't be read.
            InputError: it is damaged, or of another version of volseg.
        """
        from pydantic import TypeAdapter, ValidationError

        file = Path(path) / JSON_NAME if Path(path).is_dir() else Path(path)
        content = read_bounded(file, MAX_LEDGER_BYTES, "evaluation")
        try:
            plain = json.loads(content)
            if plain["format"] != LEDGER_FORMAT:
                raise ValueError("another format")
            for score in (score for outcome in plain["outcomes"] for score in outcome.get("scores", ())):
                score.update({metric: math.nan for metric in METRICS if score[metric] is None})
            record = TypeAdapter(_Record).validate_python(plain)
        except (ValidationError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{file} is no evaluation of this version of volseg. Compare the masks again with volseg evaluate.",
                code="bad-evaluation",
                path=file,
            ) from error
        outcomes = tuple(one if one.status is Status.DONE else _without_scores(one) for one in record.outcomes)
        return cls(record.label_table, Ledger(outcomes, record.provenance), record.warnings)

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
    return replace(case, scores=tuple(known.get(label) or LabelScore.absent(label) for label in labels))


def _without_scores(case: ScoredCase) -> Outcome:
    return Outcome(**{field.name: getattr(case, field.name) for field in fields(Outcome)})


def _writable(value: object) -> object:
    """The same data with what JSON has no number for written as null and ``inf``."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    if isinstance(value, dict):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(item) for item in value]
    return value
