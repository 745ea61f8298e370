"""Gaps between labels, against distances label by label."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.surgery import SPACING, applied, ball, organs
from volseg.errors import UsageError
from volseg.postprocessing import FillBetweenLabels


@pytest.mark.parametrize("within_mm", [0.7, 1.4, 3.0])
@pytest.mark.parametrize("labels", [(1, 2, 3), (1, 3), ((1, 2), 3)])
def test_background_near_two_labels_gets_the_nearest(within_mm: float, labels: tuple) -> None:
    for seed in range(3):
        mask = organs(seed)
        mask[(mask == 2) & (np.indices(mask.shape)[0] < 9)] = 0
        groups = [part if isinstance(part, tuple) else (part,) for part in labels]
        near = np.stack(
            [
                ndimage.distance_transform_edt(~np.isin(mask, group), sampling=SPACING) <= within_mm + 1e-5
                for group in groups
            ]
        )
        flat = sorted(label for group in groups for label in group)
        away = np.round([ndimage.distance_transform_edt(mask != label, sampling=SPACING) for label in flat], 4)
        region = np.pad(np.isin(mask, flat), 16, mode="edge")
        closed = ndimage.binary_closing(region, ball(within_mm + min(SPACING) / 2))[16:-16, 16:-16, 16:-16]
        filled = (mask == 0) & (near.sum(axis=0) >= 2) & closed
        expected = np.where(filled, np.array(flat)[np.argmin(away, axis=0)], mask)
        assert np.array_equal(applied(FillBetweenLabels(labels=labels, within_mm=within_mm), mask), expected)


def test_a_gap_of_a_voxel_is_closed_and_the_outside_stays() -> None:
    mask = np.zeros((9, 5, 5), np.uint8)
    mask[1:4, 1:4, 1:4], mask[5:8, 1:4, 1:4] = 1, 2
    found = applied(FillBetweenLabels(within_mm=1.0), mask, (1.0, 1.0, 1.0))
    assert (found[4, 2, 1:4] == 1).all()
    assert (found[4, 1:4, 2] == 1).all()  # a ball reaches the corners
    found[4] = 0
    assert np.array_equal(found, mask)


def test_no_ridge_grows_where_labels_meet() -> None:
    mask = np.zeros((20, 14, 14), np.uint8)
    mask[4:10, 4:10, 4:10], mask[10:16, 4:10, 4:10] = 1, 2
    assert np.array_equal(applied(FillBetweenLabels(within_mm=3.0), mask, (1.0, 1.0, 1.0)), mask)
    gap = mask.copy()
    gap[9:11] = 0
    found = applied(FillBetweenLabels(within_mm=3.0), gap, (1.0, 1.0, 1.0))
    assert np.array_equal(found, mask)


def test_a_gap_is_between_two() -> None:
    with pytest.raises(UsageError, match="between two labels or more"):
        FillBetweenLabels(labels=((1, 2),), within_mm=1)
