"""Closing with a ball, against a structuring element."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.surgery import SPACING, applied, ball, organs
from volseg.postprocessing import Closing


def closed(mask: np.ndarray, labels: tuple[int, ...], radius_mm: float) -> np.ndarray:
    region = np.pad(np.isin(mask, labels), 16, mode="edge")
    return ndimage.binary_closing(region, ball(radius_mm))[16:-16, 16:-16, 16:-16]


@pytest.mark.parametrize("radius_mm", [1.1, 2.5])
def test_background_that_no_ball_reaches_gets_the_label(radius_mm: float) -> None:
    for seed in range(4):
        mask = organs(seed)
        expected = np.where((mask == 0) & closed(mask, (2,), radius_mm), 2, mask)
        assert np.array_equal(applied(Closing(labels=(2,), radius_mm=radius_mm), mask), expected)


def test_where_several_would_get_a_voxel_the_nearest_does() -> None:
    for seed in range(4):
        mask = organs(seed)
        away = np.full((4, *mask.shape), np.inf)
        for label in (1, 2, 3):
            wanted = (mask == 0) & closed(mask, (label,), 2.5)
            away[label][wanted] = ndimage.distance_transform_edt(mask != label, sampling=SPACING)[wanted]
        expected = np.where(np.isfinite(away).any(axis=0), np.argmin(np.round(away, 4), axis=0), mask)
        assert np.array_equal(applied(Closing(radius_mm=2.5), mask), expected)


def test_what_a_group_gets_is_its_nearest_label_s() -> None:
    mask = np.zeros((9, 7, 7), np.uint8)
    mask[1:4, 1:6, 1:6], mask[5:8, 1:6, 1:6] = 1, 2
    mask[1:8, 0, :] = 4  # another label keeps its voxels
    found = applied(Closing(labels=((1, 2),), radius_mm=1.5), mask, (1.0, 1.0, 1.0))
    assert (found[4, 2:5, 2:5] == 1).all()  # as near to 2
    assert np.array_equal(found == 4, mask == 4)
    assert not applied(Closing(labels=(1, 2), radius_mm=1.5), mask, (1.0, 1.0, 1.0))[4, 3, 3]
