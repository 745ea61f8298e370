from __future__ import annotations

import csv
import io
import json
import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from volseg.errors import FileError, InputError, UsageError
from volseg.evaluation import Evaluation, LabelSummary, ScoredCase
from volseg.labels import Label, LabelCode, LabelTable
from volseg.metrics import METRICS, LabelScore
from volseg.outcomes import Ledger, Outcome, Provenance, Status

if TYPE_CHECKING:
    from pathlib import Path

GOOD = LabelScore(1, 0.9, 0.8, 0.85, 0.99, 0.95, 1.5, 1.9, 2.0, -0.1, -0.05)
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
    assert (liver.name, liver.metrics["dice"].mean, liver.metrics["dice"].counted) == ("liver", pytest.approx(0.7), 2)
    assert (liver.metrics["hd95_mm"].mean, liver.metrics["hd95_mm"].counted, liver.metrics["hd95_mm"].infinite) == (
        1.5,
        1,
        1,
    )
    assert (liver.metrics["precision"].counted, liver.metrics["precision"].undefined) == (1, 1)
    assert (other.metrics["dice"].mean, other.metrics["dice"].counted, other.metrics["dice"].undefined) == (0.5, 1, 1)
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
    assert content["outcomes"][1]["scores"][0]["hd95_mm"] == "inf"
    assert content["outcomes"][0]["scores"][1]["dice"] is None
    assert [outcome["case"] for outcome in content["outcomes"]] == ["a", "b", "c", "d", "e"]
    assert ["scores" in outcome for outcome in content["outcomes"]] == [True, True, False, False, False]
    assert content["provenance"]["command"] == "evaluate"
    assert evaluation().to_json() == evaluation().to_json()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    before = evaluation()
    before.write(tmp_path)
    for path in (tmp_path, tmp_path / "evaluation.json", str(tmp_path)):
        after = Evaluation.read(path)
        assert (after.to_json(), after.to_csv()) == (before.to_json(), before.to_csv())
        assert after.labels == before.labels
        assert after.warnings == ("a warning",)
        assert after.exit_code == 1
    (good, poor) = (case.scores for case in after.cases)
    assert good[0] == GOOD
    assert isinstance(after.ledger.outcomes[0], ScoredCase)
    assert poor[0].hd95_mm == math.inf
    assert math.isnan(good[1].dice)
    assert math.isnan(poor[0].precision)


def test_an_evaluation_of_masks_comes_back_with_the_labels_colours(tmp_path: Path) -> None:
    table = LabelTable((Label(1, "liver", (1, 2, 3), LabelCode("10200004", "SCT", "Liver")),))
    scored = ScoredCase("a", Status.DONE, "done", scores=(GOOD,))
    before = Evaluation(table, Ledger((scored,), Provenance("evaluate", {"labels": ["liver"]}, {"numpy": "2"})))
    before.write(tmp_path)
    assert Evaluation.read(tmp_path) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.pop("outcomes"),
        lambda c: c.pop("label_table"),
        lambda c: c.update(format=99),
        lambda c: c["outcomes"][0]["scores"][0].pop("dice"),
        lambda c: c["outcomes"][0]["scores"][0].update(dice="much"),
        lambda c: c["outcomes"][0].update(scores=5),
        lambda c: c["label_table"]["labels"][0].update(index=0),
        lambda c: c.update(warnings="one"),
        lambda c: c.clear(),
    ],
)
def test_a_damaged_evaluation_is_refused_by_its_name(tmp_path: Path, damage: Any) -> None:
    content = json.loads(evaluation().to_json())
    damage(content)
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"evaluation\.json") as caught:
        Evaluation.read(tmp_path)
    assert caught.value.code == "bad-evaluation"


def test_a_case_of_empty_masks_comes_back(tmp_path: Path) -> None:
    before = Evaluation(LabelTable(()), Ledger((ScoredCase("a", Status.DONE, "done"),), Provenance("evaluate", {}, {})))
    before.write(tmp_path)
    assert Evaluation.read(tmp_path) == before
    assert len(Evaluation.read(tmp_path).cases) == 1


def test_an_absent_evaluation_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        Evaluation.read(tmp_path)


def test_a_data_frame_has_the_rows_of_the_csv() -> None:
    frame = evaluation().to_dataframe()
    assert list(frame.columns) == ["case", "label", "name", *METRICS]
    assert frame["case"].tolist() == ["a", "a", "b", "b"]
    assert frame["name"].tolist() == ["liver", "=HYPERLINK(1)"] * 2
    assert frame.groupby("name")["dice"].mean()["liver"] == pytest.approx(0.7)
    assert frame["hd95_mm"].tolist()[2] == math.inf


def test_without_pandas_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        evaluation().to_dataframe()
