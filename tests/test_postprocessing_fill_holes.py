"""Holes, against MONAI's own transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai import transforms

from volseg.grid import Grid
from volseg.postprocessing import FillHoles, PostprocessingRules


def theirs(mask: np.ndarray, transform: dict[str, Any]) -> np.ndarray:
    arguments = {key: value for key, value in transform.items() if key != "_target_"}
    step = transforms.FillHolesd(**arguments)
    return np.asarray(step({"pred": torch.from_numpy(mask.astype(np.float32))[None]})["pred"][0])


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_monai_s_transform_gives_the_same_mask_of_one_label(connectivity: Any) -> None:
    rule = FillHoles(connectivity=connectivity)
    transform = rule.to_transform((5,))
    assert transform is not None
    filled = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mask = np.zeros((12, 11, 10), np.uint8)
        mask[1:, 1:10, :9] = 5
        mask[rng.random(mask.shape) < 0.1] = 0
        for given in (rule, FillHoles.from_transform(transform, (5,))):
            found, _ = PostprocessingRules((given,)).apply(mask, Grid(mask.shape, np.eye(4)))
            assert np.array_equal(found, theirs(mask, transform)), seed
        filled += int((found != mask).sum())
    assert filled > 20


def test_of_several_labels_monai_s_transform_says_something_else() -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1:8, 1:8, 1:8] = 1
    mask[2:7, 2:7, 2:7] = 0
    mask[4, 4, 4] = 2
    found, _ = PostprocessingRules((FillHoles(),)).apply(mask, Grid(mask.shape, np.eye(4)))
    assert np.array_equal(found, mask)
    assert not np.array_equal(theirs(mask, {"keys": "pred", "applied_labels": [1]}), mask)
    assert FillHoles().to_transform((1, 2)) is None
    assert FillHoles.from_transform({"_target_": "monai.transforms.FillHolesd", "keys": "pred"}, (1, 2)) is None


def test_a_transform_of_another_label_or_neighbourhood_is_left_to_monai() -> None:
    stock = {"_target_": "monai.transforms.FillHolesd", "keys": "pred"}
    assert FillHoles.from_transform({**stock, "applied_labels": [2]}, (1,)) is None
    assert FillHoles.from_transform({**stock, "connectivity": 2}, (1,)) is None
    assert FillHoles.from_transform(stock, (1,)) == FillHoles(labels=(1,), connectivity=6)
    assert FillHoles(labels=(2,)).to_transform((1,)) is None
