"""Components inside another label, against scipy's, component by component."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.surgery import SPACING, applied, organs
from volseg.errors import UsageError
from volseg.postprocessing import KeepInside


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("grown_mm", [0.0, 1.5])
def test_components_near_the_other_label_stay_whole(connectivity: int, grown_mm: float) -> None:
    structure = ndimage.generate_binary_structure(3, (6, 18, 26).index(connectivity) + 1)
    removed = kept = 0
    for seed in range(6):
        mask = organs(seed, labels=9)
        mask[mask > 4] = 0
        organ = np.isin(mask, (2, 4))
        near = ndimage.distance_transform_edt(~organ, sampling=SPACING) <= grown_mm + 1e-5
        near |= ndimage.binary_dilation(organ, structure)
        numbers, _ = ndimage.label(mask == 1, structure)
        inside = np.setdiff1d(numbers[near], 0)
        expected = np.where((numbers > 0) & ~np.isin(numbers, inside), 0, mask)
        rule = KeepInside(labels=(1,), inside=(4, 2), grown_mm=grown_mm, connectivity=connectivity)
        assert np.array_equal(applied(rule, mask), expected)
        removed, kept = removed + int((expected != mask).sum()), kept + len(inside)
    assert removed
    assert kept


def test_without_the_other_label_nothing_stays() -> None:
    mask = organs(0)
    found = applied(KeepInside(labels=(1,), inside=(9,)), mask)
    assert np.array_equal(found, np.where(mask == 1, 0, mask))


def test_what_is_inside_itself_is_refused() -> None:
    for labels, inside in (((1,), (1,)), ("all", (1,)), ((1, (2, 3)), (3,)), ((1,), ()), ((1,), (0,))):
        with pytest.raises(UsageError, match="keep_inside"):
            KeepInside(labels=labels, inside=inside)
    with pytest.raises(UsageError, match="up to 100 mm"):
        KeepInside(labels=(1,), inside=(2,), grown_mm=1e6)
