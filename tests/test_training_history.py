"""A run's CSV and curve."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import matplotlib.image
import pytest

from volseg.training.history import FIXED_COLUMNS, Epoch, Validation, draw_curve, write_csv

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (
    Epoch(1, 4, 0.5, 1e-2, 1.75, Validation(0.25, (0.5, math.nan))),
    Epoch(2, 8, 1.0, 5e-3, 1.5),
    Epoch(3, 12, 1.5, 0.0, 1.25, Validation(0.75, (0.8, 0.7))),
)


def test_rows_survive_a_checkpoint() -> None:
    for row in ROWS:
        again = Epoch.from_plain(row.to_plain())
        assert repr(again) == repr(row)  # NaN is not equal to itself


def test_the_csv_parses_and_leaves_empty_what_was_not_measured(tmp_path: Path) -> None:
    write_csv(tmp_path / "history.csv", ROWS, ("liver", 'the "other", one'))
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*FIXED_COLUMNS, "dice_liver", 'dice_the "other", one']
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert float(rows[2]["validation"]) == pytest.approx(0.75)
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-2)
    assert math.isnan(float(rows[0]['dice_the "other", one']))
    assert [rows[1][key] for key in ("validation", "dice_liver", 'dice_the "other", one')] == ["", "", ""]


def test_a_validation_without_labels_fills_its_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "history.csv", [Epoch(1, 4, 0.5, 1e-2, 1.75, Validation(0.25))], ("a", "b"))
    rows = list(csv.reader((tmp_path / "history.csv").read_text().splitlines()))
    assert [len(row) for row in rows] == [8, 8]


@pytest.mark.parametrize(
    "labels",
    [
        ("liver", "spleen"),
        (r"$\frac{1}{0}$", "_hidden"),  # formulas and underscores mean something to matplotlib
        ("pied-à-terre", "a" * 200),
        (),
    ],
)
def test_the_curve_is_a_picture(tmp_path: Path, labels: tuple[str, ...]) -> None:
    draw_curve(tmp_path / "curve.png", ROWS, labels)
    picture = matplotlib.image.imread(tmp_path / "curve.png")
    assert picture.shape[:2] == (495, 880)
    assert picture[..., :3].min() < 0.2  # something is drawn


def test_the_curve_of_one_epoch_without_validation_is_drawn(tmp_path: Path) -> None:
    draw_curve(tmp_path / "curve.png", [Epoch(1, 4, 0.5, 1e-2, 1.75)], ("a",))
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_the_same_history_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_curve(tmp_path / name, ROWS, ("x", "y"))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
