"""Opening with a ball, against a structuring element."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.surgery import SPACING, applied, ball, organs
from volseg.errors import UsageError
from volseg.postprocessing import Opening


def plain(mask: np.ndarray, groups: list[tuple[int, ...]], radius_mm: float) -> np.ndarray:
    result = mask.copy()
    for labels in groups:
        region = np.pad(np.isin(mask, labels), 8, mode="edge")  # beyond the border it goes on as on it
        left = ndimage.binary_opening(np.pad(region, 8, mode="edge"), ball(radius_mm))[16:-16, 16:-16, 16:-16]
        result[np.isin(mask, labels) & ~left] = 0
    return result


@pytest.mark.parametrize("radius_mm", [1.1, 2.5])
def test_what_no_ball_fits_into_becomes_background(radius_mm: float) -> None:
    for seed in range(4):
        mask = organs(seed)
        assert np.array_equal(applied(Opening(radius_mm=radius_mm), mask), plain(mask, [(1,), (2,), (3,)], radius_mm))
        one, pair = Opening(labels=(2,), radius_mm=radius_mm), Opening(labels=((1, 3), 9), radius_mm=radius_mm)
        assert np.array_equal(applied(one, mask), plain(mask, [(2,)], radius_mm))
        assert np.array_equal(applied(pair, mask), plain(mask, [(1, 3)], radius_mm))


def test_a_bridge_is_cut_and_a_flat_end_at_the_border_stays() -> None:
    mask = np.zeros((30, 12, 8), np.uint8)
    mask[:10, 2:10, :] = mask[20:, 2:10, :] = 1
    mask[10:20, 5:7, 4] = 1
    found = applied(Opening(radius_mm=2.5), mask, (1.0, 1.0, 1.0))
    assert not found[12:18].any()
    assert found[0, 3:9].all()
    assert found[-1, 3:9].all()


@pytest.mark.parametrize("radius_mm", [0.0, -1.0, 100.1, float("nan"), float("inf")])
def test_a_radius_that_makes_no_sense_is_refused(radius_mm: float) -> None:
    with pytest.raises(UsageError, match="radius_mm is above 0 and up to 100 mm"):
        Opening(radius_mm=radius_mm)


def test_the_spacing_counts() -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[2:7, 2:7, 2:7] = 1
    assert (
        applied(Opening(radius_mm=4), mask, (0.5, 0.5, 0.5)).any()
        == applied(Opening(radius_mm=8), mask, (1.0, 1.0, 1.0)).any()
    )
    assert applied(Opening(radius_mm=1), mask, SPACING).any()
