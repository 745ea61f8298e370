"""The Dice that chooses a checkpoint, against what ``volseg evaluate`` makes of the same masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from volseg.metrics import overlaps
from volseg.training import EvaluatedDice

CLASSES = 4


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    predicted, reference = random.integers(0, CLASSES, (2, 5, 6, 7)).astype(np.uint8)
    if seed % 2:
        reference[reference == 3] = 0  # found, and not there
    if seed % 3 == 0:
        predicted[predicted == 2] = 0
        reference[reference == 2] = 0  # neither found nor there
    return predicted, reference


def run(cases: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, torch.Tensor]:
    def step(_: Engine, pair: tuple[np.ndarray, np.ndarray]) -> list[list[torch.Tensor]]:
        return [[torch.stack([torch.from_numpy(mask == n) for n in range(CLASSES)]).float()] for mask in pair]

    engine = Engine(step)
    EvaluatedDice().attach(engine, "dice")
    state = engine.run(cases)
    return float(state.metrics["dice"]), state.metric_details["dice"]


def test_each_case_and_label_scores_as_volseg_evaluate_counts_it() -> None:
    cases = [masks(seed) for seed in range(6)]
    score, details = run(cases)
    expected = np.array([[found.dice for found in overlaps(*case, range(1, CLASSES))] for case in cases])
    assert (expected == 0).any()
    assert np.isnan(expected).any()
    np.testing.assert_allclose(details.numpy(), expected, rtol=1e-6)
    assert score == pytest.approx(np.nanmean(np.nanmean(expected, axis=1)))


def test_nothing_to_find_and_nothing_found_is_no_score() -> None:
    nothing = np.zeros((3, 3, 3), np.uint8)
    assert math.isnan(run([(nothing, nothing)])[1].nanmean())
