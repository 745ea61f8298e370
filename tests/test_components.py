from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from volseg.components import find_cavities, find_components
from volseg.errors import InputError, UsageError

STRUCTURES = {6: 1, 18: 2, 26: 3}


def largest_components(mask: np.ndarray, labels: tuple[int, ...] = (), connectivity: int = 26) -> np.ndarray:
    """The largest of each label, or of those named; others stay."""
    components = find_components(mask, connectivity)
    others = ~components.of_labels(labels) if labels else np.zeros(len(components.sizes), bool)
    return components.keep(mask, components.largest() | others)


def fill_holes(mask: np.ndarray, labels: tuple[int, ...] | None = None, connectivity: int = 26) -> np.ndarray:
    cavities = find_cavities(mask, connectivity)
    return cavities.fill(mask, cavities.of_labels(labels))


def blobs(seed: int, labels: int = 4, shape: tuple[int, int, int] = (37, 29, 23), dtype: type = np.uint8) -> np.ndarray:
    """Labels in many pieces of many sizes: smoothed noise, cut at levels, with single voxels strewn over it."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    mask = np.digitize(field, np.quantile(field, np.linspace(0.5, 0.98, labels))).astype(dtype)
    strewn = rng.random(shape) < 0.02
    mask[strewn] = rng.integers(0, labels + 1, int(strewn.sum()))
    return mask


def scipy_pieces(mask: np.ndarray, label: int, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """One label's components by scipy, and their sizes; scipy numbers them in C order."""
    structure = ndimage.generate_binary_structure(3, STRUCTURES[connectivity])
    numbers, count = ndimage.label(mask == label, structure)
    return numbers, np.bincount(numbers.ravel(), minlength=count + 1)[1:]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_largest_components_are_those_of_scipy_per_label(connectivity: int, order: str) -> None:
    for seed in range(4):
        mask = blobs(seed)
        given = mask.repeat(2, axis=1)[:, ::2] if order == "strided" else np.asarray(mask, order=order)
        expected = np.zeros_like(mask)
        for label in range(1, 5):
            numbers, sizes = scipy_pieces(mask, label, connectivity)
            expected[numbers == np.flatnonzero(sizes == sizes.max())[-1] + 1] = label  # the last of equals
        found = largest_components(given, connectivity=connectivity)
        assert np.array_equal(found, expected)
        assert found.dtype == mask.dtype
        assert np.array_equal(given, mask)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_records_count_as_scipy_does(connectivity: int) -> None:
    mask = blobs(7)
    for record in find_components(mask, connectivity).by_label:
        _, sizes = scipy_pieces(mask, record.label, connectivity)
        assert (record.voxels, record.components, record.largest_voxels) == (sizes.sum(), len(sizes), sizes.max())
        assert record.largest_share == sizes.max() / sizes.sum()
    assert [record.label for record in find_components(mask, connectivity).by_label] == [1, 2, 3, 4]


def test_work_in_many_slabs_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = blobs(3)
    whole = largest_components(mask), fill_holes(mask), find_components(mask).by_label
    monkeypatch.setattr("volseg.voxels.SLAB_VOXELS", 1)
    sliced = largest_components(mask), fill_holes(mask), find_components(mask).by_label
    assert whole[2] == sliced[2]
    for one, other in zip(whole, sliced, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("order", ["C", "F"])
def test_of_equal_components_the_last_to_begin_stays(order: str) -> None:
    mask = np.zeros((9, 9, 9), np.uint8, order=order)
    # Label 1: the second piece has the largest i, the first the largest k, the third the largest j. Label 2: no tie.
    mask[4:6, 4, 7], mask[6:8, 1, 2], mask[0:2, 8, 5] = 1, 1, 1
    mask[0, 0, 0], mask[2:4, 6, 1] = 2, 2
    kept = largest_components(mask)
    assert np.argwhere(kept == 1).tolist() == [[6, 1, 2], [7, 1, 2]]
    assert np.argwhere(kept == 2).tolist() == [[2, 6, 1], [3, 6, 1]]


def test_ties_of_several_labels_keep_one_each() -> None:
    mask = np.zeros((20, 20, 3), np.uint16)
    mask[::2, ::2, 0] = np.arange(100).reshape(10, 10) % 7 + 300
    kept = largest_components(mask)
    assert [int((kept == label).sum()) for label in range(300, 307)] == [1] * 7
    for label in range(300, 307):
        last = np.flatnonzero((mask == label).ravel(order="C"))[-1]
        assert np.flatnonzero((kept == label).ravel(order="C")).tolist() == [last]


def test_only_the_named_labels_are_treated() -> None:
    mask = blobs(1)
    kept = largest_components(mask, labels=(2, 99))
    for label in (1, 3, 4):
        assert np.array_equal(kept == label, mask == label)
    assert np.array_equal(kept == 2, largest_components(mask) == 2)
    assert not np.array_equal(kept == 2, mask == 2)


def test_neighbours_of_different_labels_are_not_joined() -> None:
    mask = np.array([1, 2, 1, 1, 2], np.uint8).reshape(5, 1, 1)
    assert [(r.label, r.components, r.largest_voxels) for r in find_components(mask).by_label] == [(1, 2, 2), (2, 2, 1)]


def shell(shape: tuple[int, int, int] = (9, 9, 9)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[1:8, 1:8, 1:8] = 1
    mask[2:7, 2:7, 2:7] = 0
    return mask


@pytest.mark.parametrize("order", ["C", "F"])
def test_holes_of_one_label_are_filled_as_scipy_fills_them(order: str) -> None:
    mask = np.asarray(blobs(5, labels=1), order=order)
    filled = fill_holes(mask)
    assert np.array_equal(filled > 0, ndimage.binary_fill_holes(mask > 0))
    assert (filled > 0).sum() > (mask > 0).sum()


def test_a_hole_between_two_labels_stays_and_is_counted() -> None:
    mask = shell()
    mask[4, 4, 4] = 2  # an island in the cavity: the cavity touches both labels
    assert np.array_equal(fill_holes(mask), mask)
    assert find_cavities(mask).between_labels == 1
    assert np.array_equal(fill_holes(mask, labels=(1,)), mask)


def test_a_hole_is_filled_with_the_label_around_it_and_no_other_voxel_changes() -> None:
    mask = shell()
    mask[2:7, 2:7, 2:7] = 2
    mask[4, 4, 4] = 0
    filled = fill_holes(mask)
    assert filled[4, 4, 4] == 2
    filled[4, 4, 4] = 0
    assert np.array_equal(filled, mask)
    assert np.array_equal(fill_holes(mask, labels=(1,)), mask)


def test_a_hole_open_to_the_outside_or_the_border_stays() -> None:
    mask = shell()
    mask[4, 4, 1] = 0
    assert np.array_equal(fill_holes(mask), mask)
    half = shell()[:5]
    assert np.array_equal(fill_holes(half), half)


def test_the_wall_of_a_hole_is_joined_as_the_labels_are() -> None:
    # Six voxels around one: joined to each other across edges only.
    mask = ndimage.generate_binary_structure(3, 1).astype(np.uint8)
    mask[1, 1, 1] = 0
    assert fill_holes(mask)[1, 1, 1] == 1
    assert fill_holes(mask, connectivity=18)[1, 1, 1] == 1
    assert fill_holes(mask, connectivity=6)[1, 1, 1] == 0


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int32, np.int64])
def test_every_whole_type_is_kept(dtype: type) -> None:
    mask = shell().astype(dtype)
    mask[0, 0, 8] = 1
    tidy = fill_holes(largest_components(mask, connectivity=6))
    assert tidy.dtype == dtype
    assert int(tidy.sum()) == 343


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 1, 1), (5, 1, 1), (1, 1, 5)])
def test_an_empty_mask_stays_empty(shape: tuple[int, int, int]) -> None:
    mask = np.zeros(shape, np.uint8)
    assert find_components(mask).by_label == ()
    for tidy in (largest_components(mask), fill_holes(mask)):
        assert np.array_equal(tidy, mask)


def test_a_full_mask_stays_full() -> None:
    mask = np.ones((3, 4, 5), np.uint8)
    assert np.array_equal(fill_holes(largest_components(mask)), mask)
    assert find_components(mask).sizes.tolist() == [0, 60]


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(UsageError, match="6, 18 or 26"):
        largest_components(shell(), connectivity=8)
    with pytest.raises(UsageError, match="6, 18 or 26"):
        fill_holes(shell(), connectivity=4)
    with pytest.raises(InputError, match="whole numbers") as caught:
        largest_components(shell().astype(np.float32))
    assert caught.value.code == "mask-values"
    with pytest.raises(InputError, match="three axes"):
        fill_holes(shell()[0])


def test_a_read_only_mask_without_background_is_taken() -> None:
    mask = np.ones((3, 4, 5), np.uint8)
    mask[2] = 2
    mask.setflags(write=False)
    found = find_components(mask)
    assert [(record.label, record.voxels, record.components) for record in found.by_label] == [(1, 40, 1), (2, 20, 1)]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_pieces_that_meet_are_one(connectivity: int, order: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    mask = np.asarray(random.integers(1, 4, (9, 8, 7)) * (random.random((9, 8, 7)) < share), np.uint8, order=order)
    whole = find_components(mask, connectivity)
    for voxels in (1, 100, 200):
        monkeypatch.setattr("volseg.components.PIECE_VOXELS", voxels)
        found = find_components(mask, connectivity)
        assert found.box == whole.box
        assert len(found.sizes) == len(whole.sizes)
        pairs = np.unique(np.stack([found.numbers.ravel(), whole.numbers.ravel()]), axis=1)
        assert pairs.shape[1] == len(set(pairs[0])) == len(set(pairs[1]))  # one to one
        assert np.array_equal(found.sizes[pairs[0]], whole.sizes[pairs[1]])
        assert np.array_equal(found.owners[pairs[0]], whole.owners[pairs[1]])


def test_more_components_than_two_bytes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.components.PIECE_VOXELS", 200_000)
    mask = np.zeros((100, 100, 60), np.uint8)
    mask[::2, ::2, ::2] = 1
    found = find_components(mask, 26)
    assert (len(found.sizes) - 1, found.numbers.dtype) == (75_000, np.uint32)
    assert (found.sizes[1:] == 1).all()
