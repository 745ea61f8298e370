from __future__ import annotations

import numpy as np
import pytest

from volseg.voxels import bounding_box, memory_order, slabs, union


@pytest.mark.parametrize("order", ["C", "F"])
def test_bounding_box_is_the_smallest(order: str) -> None:
    mask = np.zeros((6, 7, 8), np.uint8, order=order)
    mask[2:4, 5, 0:3] = 9
    assert bounding_box(mask) == (slice(2, 4), slice(5, 6), slice(0, 3))
    assert mask[bounding_box(np.zeros_like(mask))].size == 0


def test_union_holds_both_and_an_empty_box_adds_nothing() -> None:
    one, other = (slice(2, 4), slice(5, 6), slice(0, 3)), (slice(0, 1), slice(5, 9), slice(1, 2))
    empty = (slice(0, 0), slice(0, 0), slice(0, 0))
    assert union(one, other) == (slice(0, 4), slice(5, 9), slice(0, 3))
    assert union(one, empty) == union(empty, one) == one


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("voxels", [1, 13, 60, 10_000])
def test_slabs_hold_every_voxel_once_and_keep_to_their_size(
    order: str, voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volseg.voxels.SLAB_VOXELS", voxels)
    array = np.zeros((4, 5, 6), order=order)
    assert memory_order(array) == order
    layer = 20 if order == "F" else 30
    for slab in slabs(array):
        array[slab] += 1
        assert array[slab].size <= max(voxels, layer)
        assert array[slab].flags.forc
    assert (array == 1).all()
    assert list(slabs(np.zeros((0, 5, 6)))) == []
