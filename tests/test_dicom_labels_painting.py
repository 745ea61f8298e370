"""Painting structures into labels: the smaller one wins, whatever the order, and every lost claim is counted."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.dicom.labels.painting import Patch, mask_dtype, paint, smaller_wins

SHAPE = (4, 30, 40)


def random_masks(count: int, seed: int = 0) -> dict[int, np.ndarray]:
    """Boxes of distinct sizes, many of which overlap."""
    random = np.random.default_rng(seed)
    masks = {}
    for index in random.permutation(count) + 1:
        mask = np.zeros(SHAPE, dtype=bool)
        low = random.integers(0, np.array(SHAPE) - 1)
        high = low + 1 + random.integers(0, (3, 20, 30))
        mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
        masks[int(index)] = mask
    return masks


def expected(masks: dict[int, np.ndarray]) -> np.ndarray:
    labels = np.zeros(SHAPE, int)
    for index in sorted(masks, key=lambda index: (-masks[index].sum(), index)):
        labels[masks[index]] = index
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_the_smaller_structure_wins(seed: int) -> None:
    masks = random_masks(9, seed)

    def patches(k: int):
        for index, mask in masks.items():
            # In two parts, as a structure of several contours or frames comes.
            for part in (mask[k] & (np.arange(40) < 20), mask[k] & (np.arange(40) >= 18)):
                patch, outside = Patch.of_plane(part, 0, 0, SHAPE[1:])
                assert outside == 0
                if patch is not None:
                    yield index, patch

    painted = paint(SHAPE, masks, patches)
    np.testing.assert_array_equal(painted.labels, expected(masks))
    assert painted.counts == {index: mask.sum() for index, mask in masks.items()}
    claims = np.sum(list(masks.values()), axis=0)
    assert painted.overlaps == (claims[claims > 0] - 1).sum()


@pytest.mark.parametrize("seed", range(5))
def test_merging_two_drawings_is_drawing_at_once(seed: int) -> None:
    masks = random_masks(8, seed)
    sizes = {index: float(mask.sum()) for index, mask in masks.items()}
    halves = [{i: m for i, m in masks.items() if i % 2 == odd} for odd in (0, 1)]
    first, second = (expected(half).astype(np.uint8) for half in halves)
    for one, other in ((first, second), (second, first)):
        merged, overlaps = smaller_wins(one, other, sizes)
        np.testing.assert_array_equal(merged, expected(masks))
        assert overlaps == ((first > 0) & (second > 0)).sum()


def test_equal_sizes_go_to_the_higher_label() -> None:
    mask = np.ones(SHAPE[1:], dtype=bool)
    for order in ((1, 2), (2, 1)):
        painted = paint(SHAPE, order, lambda _, order=order: [(index, Patch(0, 0, mask)) for index in order])
        assert (painted.labels == 2).all()
        assert painted.overlaps == np.prod(SHAPE)


def test_planes_are_cut_to_the_slice_and_the_loss_is_counted() -> None:
    plane = np.zeros((10, 10), dtype=bool)
    plane[2:6, 3:9] = True
    assert Patch.of_plane(np.zeros((5, 5), dtype=bool), 0, 0, (5, 5)) == (None, 0)
    for row, column in ((0, 0), (-4, 0), (0, -5), (27, 36), (-20, 0), (0, 50)):
        slice_ = np.zeros(SHAPE[1:], dtype=bool)
        wide = np.zeros((120, 140), dtype=bool)
        wide[50 + row : 60 + row, 50 + column : 60 + column] = plane
        patch, outside = Patch.of_plane(plane, row, column, SHAPE[1:])
        inside = wide[50:80, 50:90]
        assert outside == plane.sum() - inside.sum()
        if patch is None:
            assert not inside.any()
            continue
        assert patch.count == inside.sum()
        patch.within(slice_)[...] = patch.pixels
        np.testing.assert_array_equal(slice_, inside)


def test_more_than_255_labels_take_two_bytes() -> None:
    assert mask_dtype([1, 255]) == np.uint8
    assert mask_dtype([256]) == np.uint16
    assert mask_dtype([]) == np.uint8
    pixels = np.ones((1, 1), dtype=bool)
    painted = paint(SHAPE, [300, 7], lambda k: [(300 if k else 7, Patch(k, k, pixels))])
    assert painted.labels.dtype == np.uint16
    assert painted.labels[2, 2, 2] == 300
    assert painted.labels[0, 0, 0] == 7
    merged, _ = smaller_wins(np.zeros(SHAPE, np.uint8), painted.labels, {300: 1.0, 7: 2.0})
    np.testing.assert_array_equal(merged, painted.labels)
