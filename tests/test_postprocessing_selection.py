"""Rules chosen by the Dice that they give."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.grid import Grid
from volseg.postprocessing import FillHoles, KeepLargest, RemoveSmall
from volseg.postprocessing.selection import Selection, Trial

GRID = Grid((20, 20, 20), np.eye(4))


def cube(mask: np.ndarray, corner: tuple[int, int, int], side: int, label: int) -> None:
    i, j, k = corner
    mask[i : i + side, j : j + side, k : k + side] = label


def reference() -> np.ndarray:
    mask = np.zeros(GRID.shape, np.uint8)
    cube(mask, (2, 2, 2), 6, 1)
    cube(mask, (10, 10, 10), 6, 2)
    return mask


def dice(one: np.ndarray, other: np.ndarray, label: int) -> float:
    a, b = one == label, other == label
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def choose(trial: Trial, *cases: tuple[np.ndarray, np.ndarray]) -> Selection:
    for found, true in cases:
        trial.add(found, true, GRID)
    return trial.choose()


def test_a_rule_is_chosen_for_the_label_that_gains_and_for_no_other() -> None:
    true = reference()
    found = true.copy()
    cube(found, (16, 2, 2), 2, 1)  # a crumb of label 1
    trial = Trial((1, 2), {1: 216.0, 2: 216.0})
    trial.add(found, true, GRID)
    chosen = trial.choose()
    assert chosen.rules.rules == (KeepLargest(labels=(1,)),)
    (largest,) = [one for one in chosen.tried if one.kept]
    assert largest.before == pytest.approx(dice(found, true, 1))
    assert largest.after == 1


def test_a_rule_that_costs_dice_is_dropped_and_one_that_costs_nothing_stays() -> None:
    true = reference()
    cube(true, (2, 12, 2), 3, 1)  # label 1 is two pieces in truth
    trial = Trial((1, 2), {1: 243.0, 2: 216.0}, largest_before=(1, 2))
    trial.add(true.copy(), true, GRID)
    chosen = trial.choose()
    assert chosen.rules.rules == (KeepLargest(labels=(2,)),)
    assert not choose(Trial((1, 2), {}), (true, true)).rules


def test_small_pieces_go_where_the_largest_is_not_enough() -> None:
    true = reference()
    cube(true, (2, 12, 2), 5, 1)
    found = true.copy()
    cube(found, (16, 2, 2), 2, 1)
    chosen = choose(Trial((1, 2), {1: 341.0, 2: 216.0}), (found, true))
    # 8 mm3 is below 10 % of the label's volume, 34 mm3, and below 3 %, 10 mm3: the smaller size is enough
    assert chosen.rules.rules == (RemoveSmall(labels=(1,), minimum_mm3=10.0),)


def test_holes_are_filled_where_that_gains() -> None:
    true = reference()
    found = true.copy()
    found[12:14, 12:14, 12:14] = 0
    chosen = choose(Trial((1, 2), {1: 216.0, 2: 216.0}), (found, true))
    assert chosen.rules.rules == (FillHoles(labels=(2,)),)
    assert not choose(Trial((1, 2), {1: 216.0, 2: 216.0}), (true, found)).rules


def test_the_mean_over_cases_decides() -> None:
    true = reference()
    gained, lost = true.copy(), true.copy()
    cube(gained, (16, 2, 2), 2, 1)
    two = true.copy()
    cube(two, (2, 12, 2), 5, 1)
    lost = two.copy()  # here the second piece is true
    assert not choose(Trial((1,), {}), (gained, true), (lost, two)).rules
    assert choose(Trial((1,), {}), (gained, true)).rules


def test_what_nobody_judged_counts_for_nothing() -> None:
    true = reference()
    found = true.copy()
    cube(found, (16, 2, 2), 2, 1)
    cube(true, (15, 1, 1), 4, 9)  # where the crumb lies nobody judged
    assert not choose(Trial((1, 2), {}, ignored=9), (found, true)).rules
    assert choose(Trial((1, 2), {}), (found, true)).rules


def test_a_label_that_no_case_has_keeps_what_it_had() -> None:
    true = reference()
    chosen = choose(Trial((1, 2, 3), {}, largest_before=(3,)), (true, true))
    assert chosen.rules.rules == (KeepLargest(labels=(3,)),)
