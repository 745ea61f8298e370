"""Resampling against closed forms and scipy.ndimage."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.resampling import downsampling_factors, is_turned, reorient, resample, resample_telling, turned_onto
from volseg.resampling.index_map import IndexMap
from volseg.volume import Volume

SLOPE = np.array([0.7, -1.3, 0.4])


def grid_of(shape=(20, 24, 18), spacing=(0.8, 1.1, 2.5), angles=(0.0, 0.0, 0.0), shear=0.0, origin=(-31.0, 12.0, 5.0)):
    a, b, c = np.radians(angles)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    lean = np.eye(3)
    lean[1, 2] = np.tan(np.radians(shear))
    affine = np.eye(4)
    affine[:3, :3] = rx @ ry @ rz @ lean @ np.diag(spacing)
    affine[:3, 3] = origin
    return Grid(shape, affine)


def ramp(grid, dtype=np.float64):
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    return (grid.to_world(voxels) @ SLOPE + 100).astype(dtype)


def inner(grid, source, margin):
    """The target voxels whose place in the source lies at least ``margin`` voxels inside its border."""
    places = source.to_voxel(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    return ((places >= margin) & (places <= np.array(source.shape) - 1 - margin)).all(axis=-1)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
@pytest.mark.parametrize(
    ("angles", "shear"), [((0, 0, 0), 0), ((10, -20, 33), 0), ((0, 0, 0), 18.5), ((5, 6, 7), 14.0), ((0, 180, 90), 0)]
)
def test_a_linear_function_of_world_position_is_reproduced(interpolation, angles, shear):
    source = grid_of(angles=angles, shear=shear)
    centre = source.to_world((np.array(source.shape) - 1) / 2)
    target = Grid((9, 10, 11), grid_of(spacing=(0.6, 0.9, 0.7), angles=(3, 4, 5)).affine)
    affine = target.affine.copy()
    affine[:3, 3] += centre - target.to_world((4, 4.5, 5))
    target = Grid(target.shape, affine)
    got = resample(Volume(ramp(source), source), target, interpolation=interpolation)
    where = inner(target, source, 0 if interpolation == "linear" else 5)
    assert where.sum() > 100
    assert np.abs(got.array - ramp(target))[where].max() < (1e-9 if interpolation == "linear" else 0.02)


def test_a_ramp_survives_the_smoothing_before_downsampling():
    source = grid_of(shape=(40, 40, 40), spacing=(1, 1, 1))
    target = source.with_spacing((2.0, 3.0, 2.5))
    got = resample(Volume(ramp(source), source), target)
    where = inner(target, source, 6)
    assert where.any()
    assert np.abs(got.array - ramp(target))[where].max() < 1e-9


def test_linear_agrees_with_scipy():
    rng = np.random.default_rng(0)
    source = grid_of(angles=(12, 3, -8))
    array = rng.normal(size=source.shape).astype(np.float32)
    target = grid_of(shape=(25, 20, 30), spacing=(0.8, 1.1, 2.5), angles=(12, 3, -8), origin=(-30.2, 11.5, 6.1))
    places = source.to_voxel(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))
    expected = ndimage.map_coordinates(array, np.moveaxis(places, -1, 0), order=1, mode="nearest")
    got = resample(Volume(array, source), target).array
    where = inner(target, source, 0)
    assert np.abs(got - expected)[where].max() < 1e-5


@pytest.mark.parametrize("factor", [1.3, 2.0, 4.0, 6.5])
def test_smoothing_has_the_stated_width(factor):
    """A symmetric kernel of variance v turns x^2 into x^2 + v, and v is (w^2 - s^2) / (8 ln 2)."""
    source = Grid((121, 2, 2), np.eye(4))
    array = np.broadcast_to((np.arange(121.0)[:, None, None] - 60) ** 2, source.shape)
    affine = np.diag([factor, 1.0, 1.0, 1.0])
    affine[0, 3] = 60
    got = resample(Volume(array, source), Grid((2, 2, 2), affine)).array[0, 0, 0]
    assert got == pytest.approx((factor**2 - 1) / (8 * np.log(2)), rel=0.03)


def test_a_rotation_alone_asks_for_no_smoothing():
    factors = downsampling_factors(grid_of(spacing=(1, 1, 1), angles=(30, 45, 60)), grid_of(spacing=(1, 1, 1)))
    assert np.allclose(factors, 1)


def test_straightening_a_tilt_asks_for_no_smoothing():
    tilted = grid_of(spacing=(0.5, 0.5, 4.0), shear=18.5)
    assert (downsampling_factors(tilted, grid_of(spacing=(0.5, 0.5, 4.0))) <= 1 + 1e-9).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.3, 2.9, 4.1), (0.31, 0.47, 0.9), (7, 7, 7)])
@pytest.mark.parametrize("interpolation", ["linear", "bspline", "nearest"])
def test_inside_the_same_box_no_border_gets_the_fill(spacing, interpolation):
    source = grid_of()
    volume = Volume(np.full(source.shape, 7, np.uint8), source)
    got = resample(volume, source.with_spacing(spacing), interpolation=interpolation, fill=200)
    assert (got.array == 7).all()


def test_outside_the_box_the_fill_stands_and_only_there():
    source = Grid((4, 4, 4), np.eye(4))
    target = Grid((8, 4, 4), np.array([[1, 0, 0, -2.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    volume = Volume(np.full((4, 4, 4), 5, np.int16) + np.arange(4, dtype=np.int16), source)
    assert resample(volume, target, fill=-9).array[:, 0, 1].tolist() == [-9, -9, 6, 6, 6, 6, -9, -9]
    assert resample(volume, target).array[:, 0, 1].tolist() == [5, 5, 6, 6, 6, 6, 5, 5]
    assert resample(volume, target, interpolation="nearest").array[0, 0, 1] == 0


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_the_type_is_kept_and_nothing_wraps(dtype):
    rng = np.random.default_rng(1)
    whole = np.dtype(dtype).kind in "iu"
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if whole else (-1000, 1000)
    source = Grid((8, 8, 8), np.eye(4))
    array = rng.choice([low, high], size=source.shape).astype(dtype)
    target = source.with_spacing((0.7, 0.7, 0.7))
    for interpolation in ("linear", "bspline"):
        got = resample(Volume(array, source), target, interpolation=interpolation).array
        assert got.dtype == dtype
        exact = resample(Volume(array.astype(np.float64), source), target, interpolation=interpolation).array
        expected = np.clip(exact, low, high) if whole else exact
        assert np.abs(got.astype(np.float64) - expected).max() <= (0.51 if whole else 1e-3)


def test_integers_are_rounded_not_truncated():
    source = Grid((2, 1, 1), np.eye(4))
    array = np.array([0, 10], np.int16).reshape(2, 1, 1)
    target = Grid((1, 1, 1), np.array([[1, 0, 0, 0.27], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert resample(Volume(array, source), target).array.item() == 3
    assert resample(Volume(-array, source), target).array.item() == -3


def test_channels_bytes_and_booleans():
    source = grid_of(shape=(6, 7, 8))
    target = source.with_spacing((1.0, 1.0, 1.0))
    two = np.stack([ramp(source, np.float32), ramp(source, np.float32) * 2], axis=-1)
    got = resample(Volume(two, source), target)
    assert got.array.shape == (*target.shape, 2)
    assert np.allclose(got.array[..., 1], 2 * got.array[..., 0], rtol=1e-6)
    swapped = resample(Volume(two[..., 0].astype(">f4"), source), target).array
    assert np.array_equal(swapped.astype(np.float32), got.array[..., 0])
    flags = np.zeros(source.shape, bool)
    flags[2:4, 2:5, 2:6] = True
    assert resample(Volume(flags, source), target, interpolation="nearest").array.dtype == bool


def test_the_same_grid_gives_the_same_voxels():
    source = grid_of(angles=(3, 2, 1))
    volume = Volume(np.random.default_rng(0).normal(size=source.shape), source)
    assert resample(volume, Grid(source.shape, source.affine), interpolation="bspline").array is volume.array


def ball(grid, radius_mm):
    centre = grid.to_world((np.array(grid.shape) - 1) / 2)
    places = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(places - centre, axis=-1)
    return np.where(distance < radius_mm / 2, 2, np.where(distance < radius_mm, 300, 0)).astype(np.uint16), centre


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 2, 2), (2, 2, 3), (3.3, 2.1, 2.7), (0.7, 0.5, 0.9)])
def test_masks_keep_volume_and_centroid(spacing):
    source = grid_of(shape=(60, 60, 60), spacing=(1, 1, 1), angles=(0, 0, 90))
    array, centre = ball(source, 22.0)
    target = source.with_spacing(spacing)
    got = resample(Volume(array, source), target, interpolation="nearest").array
    assert got.dtype == np.uint16
    assert set(np.unique(got)) == {0, 2, 300}
    for label in (2, 300):
        before, after = (array == label).sum(), (got == label).sum() * target.voxel_volume_mm3
        assert after == pytest.approx(before, rel=0.03)
        assert np.linalg.norm(target.to_world(np.argwhere(got == label)).mean(axis=0) - centre) < 0.15 * max(spacing)


def test_a_wider_mask_voxel_takes_the_label_that_fills_most_of_it():
    source = Grid((3, 3, 3), np.eye(4))
    array = np.full((3, 3, 3), 9, np.uint8)
    array[1, 1, 1] = 4  # what a plain nearest neighbour would take
    array[0] = 1
    target = source.with_spacing((3, 3, 3))
    assert resample(Volume(array, source), target, interpolation="nearest").array.item() == 9


@pytest.mark.parametrize("factor", [2, 3])
def test_the_vote_agrees_with_counting(factor):
    rng = np.random.default_rng(3)
    source = Grid((12, 12, 12), np.diag([-1.0, 2.0, 0.5, 1]))
    array = rng.integers(0, 4, source.shape).astype(np.uint8)
    target = source.with_spacing(tuple(factor * s for s in source.spacing_mm))
    got = resample(Volume(array, source), target, interpolation="nearest").array
    for place in np.ndindex(*target.shape):
        block = array[tuple(slice(p * factor, (p + 1) * factor) for p in place)]
        counts = np.bincount(block.ravel(), minlength=4)
        assert counts[got[place]] == counts.max()


def test_grids_of_the_same_voxels_are_known_in_any_order():
    """At 45 degrees too, where the nearest anatomical axes are a matter of rounding."""
    random = np.random.default_rng(2)
    for angles in ((0, 0, 45), (45, 0, 0), (11, -7, 31)):
        grid = grid_of(shape=(4, 5, 6), angles=angles)
        volume = Volume(random.normal(size=(4, 5, 6, 2)), grid)
        for order in itertools.permutations(range(3)):
            for signs in itertools.product((1, -1), repeat=3):
                change = np.column_stack((order, signs))
                array = nibabel.orientations.apply_orientation(volume.array, change)
                affine = grid.affine @ nibabel.orientations.inv_ornt_aff(change, grid.shape)
                other = Grid(array.shape[:3], affine)
                np.testing.assert_array_equal(turned_onto(volume, other).array, array)
                shifted = affine.copy()
                shifted[:3, 3] += affine[:3, 0]
                assert not is_turned(grid, Grid(other.shape, shifted))
                assert turned_onto(volume, Grid((5, 5, 5), affine)) is None
    assert not is_turned(grid, grid_of(shape=(4, 5, 6), angles=(11, -7, 32)))


def test_reorient_moves_no_voxel():
    source = grid_of(shape=(5, 6, 7), angles=(10, 20, 30))
    volume = Volume(np.arange(5 * 6 * 7).reshape(5, 6, 7), source)
    places = {int(v): source.to_world(p) for p, v in np.ndenumerate(volume.array)}
    for letters in itertools.product("LR", "AP", "IS"):
        for order in itertools.permutations(letters):
            word = "".join(order)
            got = reorient(volume, word)
            assert got.grid.orientation == word
            for place in ((0, 0, 0), (1, 2, 3), tuple(n - 1 for n in got.grid.shape)):
                assert np.allclose(got.grid.to_world(place), places[int(got.array[place])], atol=1e-9)


@pytest.mark.parametrize("word", ["", "RA", "RRS", "RLS", "XYZ", "RASS"])
def test_reorient_refuses_other_words(word):
    volume = Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2), np.eye(4)))
    with pytest.raises(UsageError, match="three letters"):
        reorient(volume, word)


@pytest.mark.parametrize("spacing", [(0.5, 0.7, 1.9), (0.8, 0.8, 2.5), (0.33, 1.1, 2.5)])
@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_aligned_and_oblique_ways_agree(spacing, interpolation):
    """ITK interpolates the same function where the axes are turned by next to nothing."""
    rng = np.random.default_rng(4)
    source = grid_of(spacing=(0.8, 1.1, 2.5))
    array = ndimage.gaussian_filter(rng.normal(size=source.shape), 1.0)
    target = source.with_spacing(spacing)
    turn = np.eye(4)
    turn[:3, :3] = grid_of(spacing=(1, 1, 1), angles=(1e-3, 0, 0)).affine[:3, :3]
    turned = Grid(target.shape, turn @ target.affine)
    assert IndexMap.between(source, target).axes is not None
    assert IndexMap.between(source, turned).axes is None
    aligned = resample(Volume(array, source), target, interpolation=interpolation).array
    oblique = resample(Volume(array, source), turned, interpolation=interpolation).array
    where = inner(target, source, 1)
    assert np.abs(aligned - oblique)[where].max() < 1e-3 * np.abs(array).max()


def test_bspline_agrees_with_scipy():
    rng = np.random.default_rng(5)
    source = Grid((14, 9, 2), np.eye(4))
    array = rng.normal(size=source.shape)
    affine = np.diag([0.61, 0.83, 0.5, 1])
    target = Grid((20, 10, 3), affine)
    got = resample(Volume(array, source), target, interpolation="bspline").array
    places = np.moveaxis(np.indices(target.shape), 0, -1) * np.diag(affine)[:3]
    expected = ndimage.map_coordinates(array, np.moveaxis(places, -1, 0), order=3, mode="mirror")
    assert np.abs(got - expected.clip(array.min(), array.max())).max() < 1e-7


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, -20, 33)])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32, np.float64])
def test_a_spline_stays_within_the_values_of_the_source(angles, dtype):
    """SimpleITK's spline rings beside edges; clipped to the source, it is ours."""
    source = grid_of(shape=(16, 15, 14), spacing=(1, 1, 1), angles=angles)
    low, high = (0, 200) if dtype == np.uint8 else (-1024, 3071)
    array = np.full(source.shape, low, dtype)
    array[5:11, 4:10, 3:9] = high
    target = grid_of(shape=(24, 23, 22), spacing=(0.6, 0.55, 0.5), angles=(0, 0, 0))
    told = resample_telling(Volume(array, source), target, interpolation="bspline")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T, dtype=np.float64))
    to_lps = np.diag([-1.0, -1, 1])
    image.SetSpacing(source.spacing_mm)
    image.SetOrigin((to_lps @ source.affine[:3, 3]).tolist())
    image.SetDirection((to_lps @ source.direction).ravel().tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.shape)
    resampler.SetOutputSpacing(target.spacing_mm)
    resampler.SetOutputOrigin((to_lps @ target.affine[:3, 3]).tolist())
    resampler.SetOutputDirection((to_lps @ target.direction).ravel().tolist())
    resampler.SetInterpolator(sitk.sitkBSpline3)
    ringing = sitk.GetArrayFromImage(resampler.Execute(image)).T
    where = inner(target, source, 1)
    assert ringing[where].min() < low - 50 / 4
    assert ringing[where].max() > high + 50 / 4
    clipped = np.clip(ringing, low, high)
    clipped = np.rint(clipped) if np.dtype(dtype).kind in "iu" else clipped
    off = np.abs(told.volume.array[where].astype(np.float64) - clipped[where])
    assert off.max() <= (1 if np.dtype(dtype).kind in "iu" else 1e-3 * (high - low))
    assert told.volume.array.min() == low
    assert told.volume.array.max() == high
    assert told.clamped


def test_clamping_is_told_only_where_there_was_some():
    source = grid_of(shape=(9, 9, 9), spacing=(1, 1, 1))
    target = source.with_spacing((0.5, 0.5, 0.5))
    smooth = np.full(source.shape, 1000.1, np.float32)
    edge = smooth.copy()
    edge[4:] = 0
    for array, interpolation, clamped in (
        (smooth, "bspline", False),
        (edge, "bspline", True),
        (edge, "linear", False),
        (edge, "nearest", False),
        (np.stack((smooth, edge), axis=-1), "bspline", True),
    ):
        assert resample_telling(Volume(array, source), target, interpolation=interpolation).clamped == clamped
    edge[0, 0, 0] = np.nan
    assert resample_telling(Volume(edge, source), target, interpolation="bspline").clamped


@pytest.mark.parametrize("interpolation", ["linear", "bspline", "nearest"])
def test_axes_may_be_permuted_and_flipped(interpolation):
    source = grid_of(shape=(9, 8, 7))
    volume = Volume(np.random.default_rng(6).integers(0, 5, source.shape).astype(np.uint8), source)
    target = source.with_spacing((0.5, 0.9, 4.0))
    straight = resample(volume, target, interpolation=interpolation)
    turned = reorient(volume, "SLP")
    got = resample(turned, target, interpolation=interpolation)
    assert np.array_equal(got.array, straight.array)
    back = resample(volume, reorient(Volume(straight.array, target), "ASR").grid, interpolation=interpolation)
    assert np.array_equal(reorient(back, target.orientation).array, straight.array)


def test_a_single_slice_is_resampled_in_its_plane():
    source = Grid((8, 8, 1), np.diag([1.0, 1, 5, 1]))
    volume = Volume(np.arange(64, dtype=np.float64).reshape(8, 8, 1), source)
    for interpolation in ("linear", "bspline", "nearest"):
        got = resample(volume, source.with_spacing((0.5, 0.5, 2.5)), interpolation=interpolation)
        assert got.array.shape == (16, 16, 2)
        assert np.array_equal(got.array[:, :, 0], got.array[:, :, 1])


def test_voxels_that_are_no_numbers_stay_where_they_are():
    source = Grid((9, 9, 9), np.eye(4))
    array = np.ones(source.shape, np.float32)
    array[4, 4, 4] = np.nan
    got = resample(Volume(array, source), Grid((9, 9, 9), np.diag([1, 1, 1, 1.0]) + np.eye(4, k=3) * 0.5)).array
    assert np.isnan(got).sum() == 2
    assert (got[~np.isnan(got)] == 1).all()


def test_memory_is_bounded_by_the_result():
    import tracemalloc

    source = Grid((200, 200, 100), np.diag([0.7, 0.7, 1.0, 1]))
    volume = Volume(np.zeros((100, 200, 200), np.int16).T, source)
    tracemalloc.start()
    got = resample(volume, source.with_spacing((1, 1, 1)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * got.array.nbytes


def test_oblique_masks_take_the_nearest_label():
    rng = np.random.default_rng(7)
    source = grid_of(angles=(12, 3, -8))
    array = rng.integers(0, 400, source.shape).astype(np.uint16)
    target = grid_of(shape=(25, 20, 30), spacing=(0.5, 0.5, 1.0), origin=(-30.2, 11.5, 6.1))
    places = source.to_voxel(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))
    expected = ndimage.map_coordinates(array, np.moveaxis(places, -1, 0), order=0, mode="nearest")
    inside = ((places >= -0.5) & (places <= np.array(source.shape) - 0.5)).all(axis=-1)
    got = resample(Volume(array, source), target, interpolation="nearest").array
    assert np.array_equal(got[inside], expected[inside])
    assert (got[~inside] == 0).all()
    assert (~inside).any()


def test_oblique_masks_keep_volume_and_centroid_when_downsampled():
    source = grid_of(shape=(60, 60, 60), spacing=(1, 1, 1))
    array, centre = ball(source, 22.0)
    target = grid_of(shape=(40, 40, 40), spacing=(2, 2, 2), angles=(20, 30, 40))
    affine = target.affine.copy()
    affine[:3, 3] += centre - target.to_world((19.5, 19.5, 19.5))
    target = Grid(target.shape, affine)
    got = resample(Volume(array, source), target, interpolation="nearest").array
    for label in (2, 300):
        assert (got == label).sum() * 8 == pytest.approx((array == label).sum(), rel=0.03)
        assert np.linalg.norm(target.to_world(np.argwhere(got == label)).mean(axis=0) - centre) < 0.2
