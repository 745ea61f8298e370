"""The curve of a training, as pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from volseg.pictures.curve import draw_curve

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LOSS = [(0.5, 1.75), (1.0, 1.5), (1.5, 1.25)]
SCORE = [(0.5, 0.25), (1.5, 0.75)]


def drawn(path: Path, *args: object) -> NDArray[np.float32]:
    draw_curve(path, *args)  # type: ignore[arg-type]
    picture: NDArray[np.float32] = matplotlib.image.imread(path)[..., :3]
    return picture


def colours(picture: NDArray[np.float32]) -> int:
    """How many of matplotlib's colours for labels occur; of the ten its grey may be text."""
    cycle = [matplotlib.colors.to_rgb(f"C{number}") for number in range(10) if number != 7]
    return sum(bool((np.abs(picture - np.array(colour)).max(axis=2) < 0.01).any()) for colour in cycle)


@pytest.mark.parametrize(
    "names",
    [
        ("liver", "spleen"),
        (r"$\frac{1}{0}$", "_hidden"),  # formulas and underscores mean something to matplotlib
        ("pied-à-terre", "a" * 200),
    ],
)
def test_every_label_is_drawn_and_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    without = drawn(tmp_path / "a.png", LOSS, SCORE, {})
    picture = drawn(tmp_path / "b.png", LOSS, SCORE, dict.fromkeys(names, SCORE))
    assert (colours(without), colours(picture)) == (0, 2)


def test_a_single_validation_is_a_mark(tmp_path: Path) -> None:
    labels = {"a": [(1.0, 0.3)], "b": [(1.0, 0.7)]}
    picture = drawn(tmp_path / "curve.png", [(1.0, 0.9)], [(1.0, 0.5)], labels)
    inside = picture[:, :800]  # the legend is at the right
    assert colours(inside) == 2


def test_labels_after_the_tenth_are_in_the_legend(tmp_path: Path) -> None:
    def rows_of_legend(count: int) -> int:
        picture = drawn(tmp_path / f"{count}.png", LOSS, [], {f"label_{n}": [] for n in range(count)})
        plain = drawn(tmp_path / "plain.png", LOSS, SCORE, {f"label_{n}": SCORE for n in range(count)})
        assert plain.shape[0] == picture.shape[0]
        ink = (plain[:, -60:] < 0.5).any(axis=(1, 2))
        return int((np.diff(ink.astype(int)) == 1).sum())

    assert rows_of_legend(24) >= rows_of_legend(10) + 12
    assert drawn(tmp_path / "many.png", LOSS, SCORE, {f"label_{n}": SCORE for n in range(100)}).shape[1] > 1200


def test_a_curve_without_validation_is_the_loss(tmp_path: Path) -> None:
    assert colours(drawn(tmp_path / "curve.png", [(0.5, 1.75)], [], {"a": []})) == 0
    assert colours(drawn(tmp_path / "curve.png", LOSS, [(0.5, math.nan)], {"a": [(0.5, math.nan)]})) == 0


def test_the_same_history_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_curve(tmp_path / name, LOSS, SCORE, {"x": SCORE})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
