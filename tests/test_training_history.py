"""A run's history, written and read back."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import pytest

from volseg.errors import FileError, InputError
from volseg.training.history import FIXED_COLUMNS, Epoch, Validation, best_epoch, read_history, write_history

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (
    Epoch(1, 4, 0.5, 1e-2, 1.75, Validation(0.25, (0.5, math.nan))),
    Epoch(2, 8, 1.0, 5e-3, 1.5),
    Epoch(3, 12, 1.5, 0.0, 1.25, Validation(0.75, (0.8, 0.7))),
)


def test_the_csv_parses_and_leaves_empty_what_was_not_measured(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", ROWS, ("liver", 'the "other", one'))
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*FIXED_COLUMNS, "dice_liver", 'dice_the "other", one']
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert float(rows[2]["validation"]) == pytest.approx(0.75)
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-2)
    assert math.isnan(float(rows[0]['dice_the "other", one']))
    assert [rows[1][key] for key in ("validation", "dice_liver", 'dice_the "other", one')] == ["", "", ""]


def test_a_validation_without_labels_fills_its_row(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", [Epoch(1, 4, 0.5, 1e-2, 1.75, Validation(0.25))], ("a", "b"))
    rows = list(csv.reader((tmp_path / "history.csv").read_text().splitlines()))
    assert [len(row) for row in rows] == [8, 8]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    labels = ("liver", 'the "other", one')
    write_history(tmp_path / "history.csv", ROWS, labels)
    rows, names = read_history(tmp_path / "history.csv")
    assert names == labels
    assert repr(rows) == repr(ROWS)  # NaN is not equal to itself


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", ",".join(FIXED_COLUMNS) + "\n1,2\n", "\0", "x" * 1000])
def test_what_is_no_history_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "history.csv").write_text(content)
    with pytest.raises(InputError, match="is no history of a training run"):
        read_history(tmp_path / "history.csv")
    with pytest.raises(FileError, match="does not exist"):
        read_history(tmp_path / "absent.csv")


def test_the_best_epoch_is_the_first_of_the_highest_scores() -> None:
    assert best_epoch(ROWS) is ROWS[2]
    assert best_epoch([*ROWS, Epoch(4, 16, 2.0, 0.0, 1.0, Validation(0.75))]) is ROWS[2]
    assert best_epoch([Epoch(1, 4, 0.5, 1e-2, 1.75, Validation(math.nan)), Epoch(2, 8, 1.0, 1e-2, 1.5)]) is None
