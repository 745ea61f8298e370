"""Balls in millimetres against structuring elements, and the limits of lengths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.surgery import SPACING, ball, organs
from volseg.distances import closed, distances_mm, nearest_of, opened, radius_voxels, spacing_of, within
from volseg.errors import GeometryError, InputError
from volseg.grid import Grid


@pytest.mark.parametrize("radius_mm", [0.7, 2.1, 2.5, 3.0])
def test_balls_are_those_of_a_structuring_element(radius_mm: float) -> None:
    for seed in range(4):
        region = np.pad(organs(seed) == 1, 6)  # room, so that the border tells nothing
        element = ball(radius_mm)
        assert np.array_equal(within(region, radius_mm, SPACING), ndimage.binary_dilation(region, element))
        assert np.array_equal(opened(region, radius_mm, SPACING), ndimage.binary_opening(region, element))
        assert np.array_equal(closed(region, radius_mm, SPACING), ndimage.binary_closing(region, element))


@pytest.mark.parametrize("order", ["C", "F"])
def test_distances_are_in_mm_however_the_mask_lies_in_memory(order: str) -> None:
    region = np.asarray(organs(0) == 2, order=order)
    expected = ndimage.distance_transform_edt(~region, sampling=SPACING)
    np.testing.assert_allclose(distances_mm(region, SPACING), expected, rtol=1e-6)
    assert np.isinf(distances_mm(np.zeros((3, 4, 5), bool), SPACING)).all()


def test_the_nearest_label_is_found_and_the_lower_of_two() -> None:
    mask = organs(1)
    where = mask == 0
    away = np.stack([ndimage.distance_transform_edt(mask != label, sampling=SPACING)[where] for label in (1, 2, 3)])
    expected = 1 + np.argmin(np.round(away, 4), axis=0)
    assert np.array_equal(nearest_of(mask, (1, 2, 3), where, SPACING), expected)
    line = np.array([3, 0, 2], np.uint8).reshape(3, 1, 1)
    assert nearest_of(line, (2, 3), line == 0, SPACING).tolist() == [2]


def test_lengths_need_right_angles_and_have_an_end() -> None:
    assert spacing_of(Grid((4, 4, 4), np.diag([-0.5, 2.0, 1.0, 1.0]))) == (0.5, 2.0, 1.0)
    sheared = np.eye(4)
    sheared[0, 2] = 0.2
    with pytest.raises(GeometryError, match=r"11\.3 degrees off right angles"):
        spacing_of(Grid((4, 4, 4), sheared))
    assert radius_voxels(2.1, (0.7, 1.0, 5.0)) == (4, 3, 1)
    with pytest.raises(InputError, match=r"10000[01] voxels here"):
        radius_voxels(100.0, (1.0, 0.001, 1.0))
