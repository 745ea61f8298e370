from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from volseg.evaluation import METRICS, Evaluation, LabelSummary, ScoredCase
from volseg.labels import Label, LabelTable
from volseg.metrics import LabelScore
from volseg.outcomes import Ledger, Outcome, Provenance, Status

GOOD = LabelScore(1, 0.9, 0.8, 0.85, 0.99, 0.95, 1.9, 2.0, -0.1, -0.05, 1.5)
POOR = replace(GOOD, dice=0.5, hd95_mm=math.inf, precision=math.nan)


def evaluation() -> Evaluation:
    outcomes = (
        ScoredCase("a", Status.DONE, "done", scores=(GOOD,)),
        ScoredCase("b", Status.DONE, "done", scores=(replace(POOR, label=2), POOR)),
        Outcome("c", Status.SKIPPED, "missing-prediction", "no prediction"),
        Outcome("d", Status.REFUSED, "grids-differ", "other grid"),
        Outcome("e", Status.SKIPPED, "missing-reference", "no reference"),
    )
    table = LabelTable((Label(1, "liver"), Label(2, "=HYPERLINK(1)")))
    return Evaluation(table, Ledger(outcomes, Provenance("evaluate", {}, {})), ("a warning",))


def test_every_case_has_every_label_and_means_count_what_counts() -> None:
    result = evaluation()
    assert [[score.label for score in case.scores] for case in result.cases] == [[1, 2], [1, 2]]
    liver, other = result.means
    assert isinstance(liver, LabelSummary)
    assert (liver.name, liver.dice.mean, liver.dice.counted) == ("liver", pytest.approx(0.7), 2)
    assert (liver.hd95_mm.mean, liver.hd95_mm.counted, liver.hd95_mm.infinite) == (1.5, 1, 1)
    assert (liver.precision.counted, liver.precision.undefined) == (1, 1)
    assert (other.dice.mean, other.dice.counted, other.dice.undefined) == (0.5, 1, 1)
    assert result.mean_over_labels("dice") == pytest.approx(0.6)
    assert result.mean_over_labels("hd95_mm") == 1.5
    assert result.missing_predictions == ("c",)
    assert result.missing_references == ("e",)
    assert result.refused == ("d",)
    assert result.exit_code == 1


def test_a_reference_that_had_to_be_predicted_is_missing_and_makes_the_exit_code_one() -> None:
    outcomes = (
        ScoredCase("a", Status.DONE, "done", scores=(GOOD,)),
        Outcome("c", Status.REFUSED, "missing-prediction", "no prediction"),
    )
    result = replace(evaluation(), ledger=Ledger(outcomes, Provenance("evaluate", {}, {})))
    assert (result.exit_code, result.missing_predictions, result.refused) == (1, ("c",), ())


def test_the_csv_has_one_row_for_each_case_and_label() -> None:
    rows = list(csv.DictReader(io.StringIO(evaluation().to_csv())))
    assert [(row["case"], row["label"]) for row in rows] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert list(rows[0]) == ["case", "label", "name", *METRICS]
    assert float(rows[0]["dice"]) == 0.9
    assert (rows[1]["dice"], rows[1]["reference_ml"]) == ("", "0.0")
    assert float(rows[2]["hd95_mm"]) == math.inf
    assert rows[1]["name"] == "'=HYPERLINK(1)"


def test_the_json_is_strict_and_holds_what_is_in_no_mean() -> None:
    content = json.loads(evaluation().to_json(), parse_constant=pytest.fail)
    assert content["cases_scored"] == 2
    assert content["missing_predictions"] == ["c"]
    assert content["cases_refused"] == ["d"]
    assert content["labels"][0]["dice"]["counted"] == 2
    assert content["cases"][1]["scores"][0]["hd95_mm"] == "inf"
    assert content["cases"][0]["scores"][1]["dice"] is None
    assert [outcome["case"] for outcome in content["outcomes"]] == ["a", "b", "c", "d", "e"]
    assert "scores" not in content["outcomes"][0]
    assert content["provenance"]["command"] == "evaluate"
    assert evaluation().to_json() == evaluation().to_json()
