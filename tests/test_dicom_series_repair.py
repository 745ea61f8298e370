"""Straightening: a linear function of the place in the patient must come out where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.dicom.series.repair import Repairs, Run, is_planned, runs_of, straight_grid, straighten
from volseg.dicom.series.stack import StackGeometry
from volseg.grid import LPS_FROM_RAS, Grid
from volseg.resampling import resample
from volseg.volume import Volume

SLOPE = np.array([1.7, -2.3, 3.1])
HEAD = [4.002] * 13 + [1.081] + [6.999] * 13


def axes(degrees=(0.0, 0.0)):
    a, b = np.radians(degrees)
    row = np.array([np.cos(a), np.sin(a), 0.0])
    column = np.array([-np.sin(a) * np.cos(b), np.cos(a) * np.cos(b), np.sin(b)])
    return np.stack((row, column, np.cross(row, column)))


def stack(gaps, tilt_degrees=0.0, turned=(12.0, -20.0), size=(24, 20), pixel_mm=(0.45, 0.6), towards=(0.0, 1.0)):
    axis = axes(turned)
    along = np.concatenate(([0.0], np.cumsum(gaps)))
    drift = np.tan(np.radians(tilt_degrees)) * np.array(towards)
    positions = np.array([-50.0, 30.0, 12.0]) + np.outer(along, axis[2]) + np.outer(along, drift) @ axis[:2]
    return StackGeometry(axis, positions, pixel_mm, size)


def world_of(geometry):
    """(n, rows, columns, 3) LPS mm of every pixel."""
    columns, rows = geometry.size
    right = np.arange(columns)[None, None, :, None] * geometry.pixel_mm[0] * geometry.axes[0]
    down = np.arange(rows)[None, :, None, None] * geometry.pixel_mm[1] * geometry.axes[1]
    return geometry.positions_mm[:, None, None, :] + right + down


def ramp(lps_mm):
    return lps_mm @ SLOPE + 500


def lps_of(grid: Grid):
    return grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) * np.array([-1.0, -1.0, 1.0])


@pytest.mark.parametrize("gaps", [HEAD, [3.0] * 9, [4.0] * 4 + [7.0] * 5, [5.0, 5.0, 10.0, 5.0, 5.0]])
@pytest.mark.parametrize(("tilt", "towards"), [(0, (0, 1)), (18.5, (0, 1)), (-14.0, (0.6, 0.8)), (0.4, (1, 0))])
def test_values_stay_at_their_place(gaps, tilt, towards):
    geometry = stack(gaps, tilt, towards=towards)
    got = straighten(ramp(world_of(geometry)), geometry, fill=np.nan)
    np.testing.assert_allclose(got.grid.direction.T @ got.grid.direction, np.eye(3), atol=2e-6)
    expected = ramp(lps_of(got.grid))
    known = np.isfinite(got.array)
    # Half a pixel at either side takes the border's value; what lies deeper is exact.
    inner = known.copy()
    for axis in (0, 1):
        inner &= np.roll(known, 1, axis) & np.roll(known, -1, axis)
    inner[[0, -1]] = False
    inner[:, [0, -1]] = False
    assert inner.sum() > 0.5 * np.prod((geometry.size[0] - 2, geometry.size[1] - 2, got.grid.shape[2]))
    error_mm = np.abs(got.array - expected)[inner] / np.linalg.norm(SLOPE)
    assert error_mm.max() < 0.01


def test_the_grid_covers_every_slice_and_begins_and_ends_with_one():
    geometry = stack(HEAD, 18.5)
    grid = straight_grid(geometry)
    assert grid.spacing_mm[2] == pytest.approx(4.002, rel=0.01)
    corners = world_of(geometry)[:, [0, 0, -1, -1]][:, :, [0, -1]].reshape(-1, 3)
    voxels = grid.to_voxel(corners * np.array([-1.0, -1.0, 1.0]))
    assert voxels.min() > -0.51
    assert (voxels <= np.array(grid.shape) - 0.49).all()
    ends = grid.to_voxel(geometry.positions_mm[[0, -1]] * np.array([-1.0, -1.0, 1.0]))
    assert np.allclose(ends[:, 2], (0, grid.shape[2] - 1), atol=1e-6)


def test_slices_that_lie_on_a_plane_of_the_grid_keep_their_bits():
    rng = np.random.default_rng(0)
    geometry = stack([5.0, 5.0, 10.0, 5.0])
    slices = rng.integers(-1000, 3000, (5, 20, 24)).astype(np.int16)
    got = straighten(slices, geometry)
    assert got.grid.shape == (24, 20, 6)
    assert got.array.dtype == np.int16
    for k, number in ((0, 0), (1, 1), (2, 2), (4, 3), (5, 4)):
        assert np.array_equal(got.array[:, :, k].T, slices[number])
    middle = (slices[2].astype(float) + slices[3]) / 2
    assert np.abs(got.array[:, :, 3].T - middle).max() <= 0.5


def test_a_pure_tilt_agrees_with_resampling_the_sheared_grid_by_itk():
    rng = np.random.default_rng(2)
    geometry = stack([4.0] * 9, 18.5)
    slices = rng.normal(size=(10, 20, 24)).astype(np.float32)
    got = straighten(slices, geometry, fill=-9)
    lps = np.eye(4)
    lps[:3, 0] = geometry.axes[0] * geometry.pixel_mm[0]
    lps[:3, 1] = geometry.axes[1] * geometry.pixel_mm[1]
    lps[:3, 2] = geometry.positions_mm[1] - geometry.positions_mm[0]
    lps[:3, 3] = geometry.positions_mm[0]
    sheared = Volume(slices.T, Grid((24, 20, 10), LPS_FROM_RAS @ lps))
    expected = resample(sheared, got.grid, fill=-9)
    assert np.abs(got.array - expected.array).max() < 1e-4


def test_labels_are_picked_and_never_blended():
    geometry = stack(HEAD, 18.5)
    slices = np.zeros((28, 20, 24), np.uint8)
    slices[:, 5:15, 6:18] = 3
    slices[:, 8:12, 9:13] = 200
    got = straighten(slices, geometry, labels=True)
    assert set(np.unique(got.array)) == {0, 3, 200}
    image = straighten((slices == 200).astype(np.float32), geometry, fill=0)
    centre = np.argwhere(got.array == 200).mean(axis=0)
    expected = (np.indices(got.grid.shape) * image.array).sum(axis=(1, 2, 3)) / image.array.sum()
    assert np.abs((centre - expected) * got.grid.spacing_mm).max() < 0.3


def test_what_no_slice_reaches_gets_the_lowest_value():
    geometry = stack([4.0] * 9, 18.5)
    got = straighten(np.full((10, 20, 24), 70, np.int16) - np.arange(24, dtype=np.int16), geometry)
    assert got.array.min() == 47
    assert (got.array == 47).sum() > 20


def test_int32_and_uint16_don_t_wrap():
    geometry = stack([5.0, 5.0, 10.0])
    for dtype in (np.uint16, np.int32):
        high = np.iinfo(dtype).max
        slices = np.full((4, 20, 24), high, dtype)
        slices[0] = 0
        got = straighten(slices, geometry).array
        assert got.dtype == dtype
        assert set(np.unique(got)) == {0, high}


@pytest.mark.parametrize(
    ("gaps", "planned"),
    [
        (HEAD, True),
        ([4.0] * 3 + [7.0] * 3, True),
        ([5.0, 5.01, 4.99, 7.0, 7.02, 6.99, 3.0, 3.0, 3.0], True),
        ([5.0, 5.0, 10.0, 5.0, 5.0], False),
        ([4.0] * 5 + [1.0] + [4.0] * 5, False),
        ([4.0] * 5 + [9.0] + [7.0] * 5, False),
        ([4.0, 5.0, 6.0, 7.0], False),
        ([1.0] + [4.0] * 5, False),
        ([4.0] * 5 + [2.0], False),
        ([4.0] * 4 + [7.0] * 2, False),
    ],
)
def test_planned_runs_are_told_from_lost_slices(gaps, planned):
    assert is_planned(np.array(gaps)) is planned


def test_runs_are_counted():
    assert runs_of(np.array([4.0, 4.0, 4.01, 7.0, 7.0])) == (Run(3, pytest.approx(4.0033, abs=1e-3)), Run(2, 7.0))


@pytest.mark.parametrize(
    ("gaps", "tilt", "repairs", "changes", "left"),
    [
        ([4.0] * 9, 0.0, Repairs(), (), ()),
        ([4.0] * 9, 18.5, Repairs(), ("tilt-straightened",), ()),
        ([4.0] * 9, -29.0, Repairs(), ("tilt-straightened",), ()),
        ([4.0] * 9, 18.5, Repairs(tilt=False), (), ("gantry-tilt",)),
        ([4.0] * 9, 60.0, Repairs(), (), ("gantry-tilt",)),
        (HEAD, 18.5, Repairs(), ("tilt-straightened", "spacing-evened"), ()),
        ([4.0, 4.0, 8.0, 4.0, 4.0], 0.0, Repairs(), (), ("missing-slice",)),
        ([4.0, 4.0, 8.0, 4.0, 4.0], 0.0, Repairs(gaps=True), ("gaps-filled",), ()),
        ([4.0, 4.0, 400.0, 4.0, 4.0], 0.0, Repairs(gaps=True), (), ("missing-slice",)),
        ([0.5] * 3 + [90.0] * 4, 0.0, Repairs(), (), ("uneven-spacing",)),
        ([4.0, 5.0, 7.0, 4.5, 5.5], 18.5, Repairs(gaps=True), ("tilt-straightened",), ("uneven-spacing",)),
    ],
)
def test_what_is_put_right_and_what_stays(gaps, tilt, repairs, changes, left):
    geometry = stack(gaps, tilt)
    got, stays = repairs.of(geometry, geometry.faults())
    assert got == changes
    assert tuple(fault.code for fault in stays) == left
