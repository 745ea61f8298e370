"""The largest component, against MONAI's own transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai import transforms

from volseg.grid import Grid
from volseg.postprocessing import KeepLargest, PostprocessingRules

STOCK = "monai.transforms.KeepLargestConnectedComponentd"
TABLE = (1, 2, 3)


def boxes(seed: int) -> np.ndarray:
    """Up to four boxes of each of three labels, many of one size, some touching across edges and corners."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((13, 12, 11), np.uint8)
    for label in TABLE:
        for _ in range(rng.integers(0, 5)):
            size = rng.integers(1, 4, 3) if rng.random() < 0.5 else (2, 2, 2)
            corner = rng.integers(0, 9, 3)
            mask[tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))] = label
    return mask


def theirs(mask: np.ndarray, transform: dict[str, Any]) -> np.ndarray:
    arguments = {key: value for key, value in transform.items() if key != "_target_"}
    step = getattr(transforms, transform["_target_"].rpartition(".")[2])(**arguments)
    return np.asarray(step({"pred": torch.from_numpy(mask.astype(np.float32))[None]})["pred"][0])


def ours(mask: np.ndarray, rule: KeepLargest) -> np.ndarray:
    return PostprocessingRules((rule,)).apply(mask, Grid(mask.shape, np.eye(4)))[0]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("labels", ["all", (1,), (3, 1), (2, 9)])
def test_monai_s_transform_gives_the_same_mask_with_ties_too(connectivity: Any, labels: Any) -> None:
    rule = KeepLargest(labels=labels, connectivity=connectivity)
    transform = rule.to_transform(TABLE)
    assert KeepLargest.from_transform(transform, TABLE) == rule
    changed = 0
    for seed in range(25):
        mask = np.asarray(boxes(seed), order="FC"[seed % 2])
        found = ours(mask, rule)
        assert np.array_equal(found, theirs(mask, transform)), seed
        changed += not np.array_equal(found, mask)
    assert changed > 5


def test_of_two_equal_components_monai_s_is_kept() -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1:3, 1:3, 6:8] = mask[1:3, 6:8, 1:3] = mask[6:8, 1:3, 1:3] = 1
    found = ours(mask, KeepLargest())
    assert np.array_equal(found, theirs(mask, KeepLargest().to_transform((1,))))
    assert found[6, 1, 1] == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, KeepLargest()),
        ({"keys": ["pred"], "applied_labels": 2}, KeepLargest(labels=(2,))),
        ({"is_onehot": None, "independent": True, "connectivity": 1}, KeepLargest(connectivity=6)),
        ({"allow_missing_keys": True}, KeepLargest()),
        ({"is_onehot": True}, None),
        ({"independent": False}, None),
        ({"num_components": 2}, None),
        ({"connectivity": 4}, None),
        ({"keys": ["pred", "image"]}, None),
        ({"applied_labels": [0, 1]}, None),
        ({"applied_labels": "@labels"}, None),
        ({"applied_labels": [1.0]}, None),
        ({"_target_": "monai.transforms.KeepLargestConnectedComponent"}, None),
    ],
)
def test_what_says_something_else_is_left_to_monai(arguments: dict[str, Any], expected: KeepLargest | None) -> None:
    assert KeepLargest.from_transform({"_target_": STOCK, "keys": "pred", **arguments}, TABLE) == expected
