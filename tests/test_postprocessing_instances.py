"""Instances: scipy's components, and a watershed from known seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed

from tests.surgery import applied, grid_of, organs
from volseg.errors import InputError, UsageError
from volseg.labels import Label, LabelTable
from volseg.postprocessing import Instances, KeepLargest, PostprocessingRules


@pytest.mark.parametrize("connectivity", [6, 26])
def test_each_component_gets_a_number_from_the_largest_down(connectivity: int) -> None:
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    for seed in range(3):
        mask = organs(seed)
        found = applied(Instances(labels=(2, 3), connectivity=connectivity), mask)
        assert found.dtype == np.uint16
        assert np.array_equal(found[mask < 2], mask[mask < 2])
        for label in (2, 3):
            numbers, count = ndimage.label(mask == label, structure)
            sizes = np.bincount(numbers.ravel())[1:]
            order = np.argsort(-sizes, kind="stable")  # scipy numbers in the order in which components begin
            expected = np.zeros(mask.shape, int)
            for place, which in enumerate(order):
                expected[numbers == which + 1] = label * 1000 + place + 1
            assert np.array_equal(np.where(mask == label, found, 0), expected)
            assert count > 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.0, 2.0)])
def test_touching_balls_are_split_as_by_a_watershed_from_their_centres(spacing: tuple[float, float, float]) -> None:
    shape, centres, radii = (46, 30, 30), np.array([[13.0, 14, 14], [30, 15, 14]]), (10.0, 8.5)
    steps = np.array(spacing)[:, None, None, None]
    places = np.indices(tuple(int(n / s) for n, s in zip(shape, spacing, strict=True))) * steps
    away = [np.sqrt(((places - c[:, None, None, None]) ** 2).sum(axis=0)) for c in centres]
    region = (away[0] < radii[0]) | (away[1] < radii[1])
    assert ndimage.label(region)[1] == 1
    depth = ndimage.distance_transform_edt(region, sampling=spacing)
    seeds = (away[0] < 3) + 2 * (away[1] < 3).astype(int)
    expected = watershed(-depth, seeds, mask=region)
    found = applied(Instances(split_mm=1.5), region.astype(np.uint8), spacing)
    assert set(np.unique(found)) == {0, 1001, 1002}
    assert np.array_equal(found > 0, region)
    assert (np.where(region, found - 1000, 0) != expected).sum() < 0.01 * region.sum()
    whole = applied(Instances(split_mm=8), region.astype(np.uint8), spacing)
    assert np.array_equal(whole, region * 1001)
    assert np.array_equal(applied(Instances(), region.astype(np.uint8), spacing), region * 1001)


def test_the_image_s_border_is_no_surface() -> None:
    places = np.indices((46, 30, 30))
    away = [
        np.sqrt(((places - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0))
        for centre in ((13, 14, 14), (30, 15, 14))
    ]
    region = ((away[0] < 10) | (away[1] < 8.5)).astype(np.uint8)
    one_mm = (1.0, 1.0, 1.0)
    whole = applied(Instances(split_mm=1.5), region, one_mm)
    assert set(np.unique(whole)) == {0, 1001, 1002}
    for cut in (np.s_[:, :, 14:], np.s_[:, :, 12:17]):  # through their centres; a slab that both run through
        assert (applied(Instances(split_mm=1.5), region[cut], one_mm) != whole[cut]).mean() < 0.002
    full = np.ones((8, 9, 10), np.uint16)
    assert np.array_equal(applied(Instances(split_mm=1), full), full * 1001)


def test_small_components_stay_beside_split_ones() -> None:
    mask = np.zeros((30, 12, 12), np.uint8)
    mask[1:9, 2:10, 2:10] = mask[11:19, 2:10, 2:10] = mask[9:11, 5:7, 5:7] = 2
    mask[25, 5, 5] = mask[28, 5, 5] = 2
    found = applied(Instances(labels=(2,), split_mm=1.5), mask, (1.0, 1.0, 1.0))
    assert (found[25, 5, 5], found[28, 5, 5]) == (2003, 2004)
    assert {int(found[4, 5, 5]), int(found[15, 5, 5])} == {2001, 2002}


def test_instances_have_names_and_leave_their_label() -> None:
    mask = organs(0)
    rules = PostprocessingRules((KeepLargest(labels=(2,), count=2), Instances(labels=(2,))))
    found, changes = rules.apply(mask, grid_of(mask))
    assert changes.vanished == ()
    assert changes.split == (2,)
    assert str(changes).endswith("numbered the instances of 1 label")
    table = rules.named(LabelTable((Label(1, "liver"), Label(2, "lesion"))), np.unique(found).tolist())
    assert table.names == ("liver", "lesion", "lesion 1", "lesion 2")
    assert table.indices == (1, 2, 2001, 2002)
    assert PostprocessingRules((Instances(),)).named(LabelTable(()), [0, 3, 3001]).names == ("label 3 1",)


def test_where_numbers_end_is_told() -> None:
    for labels in ((66,), ((1, 2),)):
        with pytest.raises(UsageError, match="instances"):
            Instances(labels=labels)
    crowd = np.zeros((40, 40, 8), np.uint8)
    crowd[::2, ::2, ::2] = 1
    with pytest.raises(InputError, match="instances, more than"):
        applied(Instances(), crowd)
    crowd[:] = 0
    crowd[0, 0, 0] = 70
    with pytest.raises(InputError, match="label 70"):
        applied(Instances(), crowd)
    taken = np.zeros((4, 4, 4), np.uint16)
    taken[0], taken[2] = 1, 1001
    with pytest.raises(InputError, match="instances of label 1 would get"):
        applied(Instances(labels=(1,)), taken)
