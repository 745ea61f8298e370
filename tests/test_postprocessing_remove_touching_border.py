"""Components at the border, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.surgery import applied, organs
from volseg.postprocessing import RemoveTouchingBorder


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_components_that_touch_the_border_are_removed(connectivity: int) -> None:
    structure = ndimage.generate_binary_structure(3, (6, 18, 26).index(connectivity) + 1)
    removed = 0
    for seed in range(6):
        mask = organs(seed, labels=5)
        mask[:2] = mask[:, :1] = 0  # two faces are free
        expected = mask.copy()
        for labels in ((1,), (2, 4)):
            numbers, _ = ndimage.label(np.isin(mask, labels), structure)
            edge = np.ones(mask.shape, bool)
            edge[1:-1, 1:-1, 1:-1] = False
            expected[np.isin(numbers, np.setdiff1d(numbers[edge], 0))] = 0
        found = applied(RemoveTouchingBorder(labels=(1, (4, 2)), connectivity=connectivity), mask)
        assert np.array_equal(found, expected)
        removed += int((found != mask).sum())
    assert removed
