"""Components below a size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.pieces import pieces, sizes
from volseg.grid import Grid
from volseg.postprocessing import PostprocessingRules, RemoveSmall


def tidy(mask: np.ndarray, grid: Grid, *rules: RemoveSmall) -> np.ndarray:
    return PostprocessingRules(rules).apply(mask, grid)[0]


@pytest.mark.parametrize("scale", [1.0, 1.0000001, 0.9999999])
def test_the_smallest_size_is_a_volume_of_the_grid(scale: float) -> None:
    """A component of exactly the size stays, also when the float32 affine is off by rounding."""
    grid = Grid((12, 12, 12), np.diag([2 * scale, 2, 2, 1]))
    kept = [sizes(tidy(pieces(), grid, RemoveSmall(minimum_mm3=size)), 1) for size in (8, 8.1, 32, 33)]
    assert kept == [[1, 4, 98], [4, 98], [4, 98], [98]]


def test_each_label_may_have_its_own_smallest_size() -> None:
    grid = Grid((12, 12, 12), np.eye(4))
    both = tidy(pieces(), grid, RemoveSmall(minimum_mm3=2, labels=(1,)), RemoveSmall(minimum_mm3=4, labels=(2,)))
    assert (sizes(both, 1), sizes(both, 2)) == ([4, 98], [])
    one = tidy(pieces(), grid, RemoveSmall(minimum_mm3=3, labels=(2,)))
    assert (sizes(one, 1), sizes(one, 2)) == ([1, 4, 98], [3])


@pytest.mark.parametrize(("connectivity", "hops"), [(6, 1), (18, 2), (26, 3)])
def test_components_are_those_of_scipy(connectivity: int, hops: int) -> None:
    mask = (np.random.default_rng(0).random((15, 14, 13)) < 0.15).astype(np.uint8)
    numbers, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, hops))
    counts = np.bincount(numbers.ravel())
    counts[0] = 0
    kept = tidy(mask, Grid(mask.shape, np.eye(4)), RemoveSmall(minimum_mm3=4, connectivity=connectivity))
    assert np.array_equal(kept, counts[numbers] >= 4)
    assert 0 < kept.sum() < mask.sum()


def test_monai_has_no_transform_for_it() -> None:
    assert RemoveSmall(minimum_mm3=4).to_transform((1,)) is None
