"""Augmentations: what a plan may choose, as MONAI builds it."""

from __future__ import annotations

from typing import Any

import pytest

from volseg.planning.augmentations import ROTATION_RADIANS, SmallChanges


@pytest.mark.parametrize(
    ("spacing", "turned"),
    [((1, 1, 1), (1, 1, 1)), ((0.8, 0.8, 5), (0, 0, 1)), ((5, 0.8, 0.8), (1, 0, 0)), ((1, 4, 4), (0, 0, 0)), ((1, 1, 2), (1, 1, 1))],
)  # fmt: skip
def test_no_rotation_mixes_thick_slices(spacing: Any, turned: Any) -> None:
    """MONAI turns about each axis of the array in turn (the first angle leaves the first axis alone)."""
    [affine] = [step for step in SmallChanges(spacing).components() if str(step["_target_"]).endswith("RandAffined")]
    assert affine["rotate_range"] == [ROTATION_RADIANS * one for one in turned]
