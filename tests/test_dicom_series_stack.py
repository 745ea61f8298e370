"""The geometry of stacks: order, spacing, tilt, and their tolerances."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.dicom.series.stack import StackGeometry, axes_of, places_of, same_orientation

AXIAL = (1.0, 0, 0, 0, 1, 0)


def stack(distances: list[float], *, tilt_degrees: float = 0, cosines: tuple[float, ...] = AXIAL) -> StackGeometry:
    axes = axes_of(cosines)
    assert axes is not None
    along = np.array(distances)
    positions = np.outer(along, axes[2]) + np.outer(along * np.tan(np.radians(tilt_degrees)), axes[1])
    return StackGeometry(axes, np.add(positions, (-100, -50, 7)), (0.7, 0.8), (64, 48))


def codes(geometry: StackGeometry) -> list[str]:
    return [fault.code for fault in geometry.faults()]


def around(x: float, y: float, z: float) -> np.ndarray:
    a, b, c = np.radians((x, y, z))
    return (
        np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        @ np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    )


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([5.0, 5, 5], []),
        ([5.0, 5, 10], ["missing-slice"]),
        ([10.0, 5, 5], ["missing-slice"]),
        ([5.0, 10], ["missing-slice"]),
        ([3.0, 3, 9, 3, 3, 3, 6, 3], ["missing-slice"]),
        ([4.0] * 6 + [8.0] * 6, ["uneven-spacing"]),
        ([4.002] * 13 + [1.081] + [6.999] * 13, ["uneven-spacing"]),
        ([5.0, 5, 7, 5, 5], ["uneven-spacing"]),
        ([6.958, 7.071, 6.958, 7.071, 7.014], []),
        ([5.0, 5.0, 5.049, 5.0], []),
        ([5.0] * 10 + [5.2] + [5.0] * 10, ["uneven-spacing"]),
        # Each gap is within 1 % of the middle, yet the slices in between leave their places.
        (list(np.linspace(0.991, 1.009, 200)), ["uneven-spacing"]),
        ([0.5, 0.51, 0.5, 0.49], []),
        ([0.5, 0.53, 0.5, 0.5], ["uneven-spacing"]),
    ],
)
def test_gaps_are_judged(gaps: list[float], expected: list[str]) -> None:
    assert codes(stack([0.0, *np.cumsum(gaps)])) == expected


@pytest.mark.parametrize(
    ("tilt", "expected"), [(0.07, []), (-0.09, []), (0.12, ["gantry-tilt"]), (-18.5, ["gantry-tilt"])]
)
def test_tilt_is_measured_from_positions(tilt: float, expected: list[str]) -> None:
    geometry = stack([6.5 * k for k in range(22)], tilt_degrees=tilt)
    assert geometry.tilt_degrees == pytest.approx(abs(tilt), abs=1e-6)
    assert codes(geometry) == expected


def test_the_rounding_of_few_thin_slices_is_no_tilt() -> None:
    geometry = stack([0.0, 0.5, 1.0])
    geometry.positions_mm[2, 1] += 0.01
    assert geometry.tilt_degrees > 0.1
    assert codes(geometry) == []


def test_all_faults_are_told_at_once() -> None:
    assert codes(stack([0.0, 5, 10, 20], tilt_degrees=5)) == ["gantry-tilt", "missing-slice"]


def test_a_slice_beside_the_others_is_told() -> None:
    geometry = stack([0.0, 5, 10, 15, 20, 25])
    geometry.positions_mm[3, 0] += 3
    assert "shifted-slices" in codes(geometry)


def test_spacing_of_a_tilted_stack_is_along_the_normal() -> None:
    assert stack([4.851 * k for k in range(4)], tilt_degrees=14).spacing_mm == pytest.approx(4.851)


@pytest.mark.parametrize("turn", [(0, 0, 0), (90, 0, 0), (0, 90, 0), (12, -31, 77), (180, 0, 45)])
def test_the_grid_puts_every_voxel_where_the_headers_say(turn: tuple[float, float, float]) -> None:
    rotation = around(*turn)
    geometry = stack([2.0 * k for k in range(7)], cosines=(*rotation[:, 0], *rotation[:, 1]))
    grid = geometry.regular_grid()
    assert grid.shape == (64, 48, 7)
    voxels = np.array([(0, 0, 0), (63, 0, 0), (0, 47, 3), (63, 47, 6), (10, 20, 5)])
    # PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    expected = np.array(
        [geometry.positions_mm[k] + i * 0.7 * rotation[:, 0] + j * 0.8 * rotation[:, 1] for i, j, k in voxels]
    ) * (-1, -1, 1)
    np.testing.assert_allclose(grid.to_world(voxels), expected, atol=1e-9)
    np.testing.assert_allclose(grid.direction.T @ grid.direction, np.eye(3), atol=2e-6)


def test_a_rounded_lean_is_turned_straight_about_the_centre() -> None:
    geometry = stack([6.5 * k for k in range(22)], tilt_degrees=0.07)
    grid = geometry.regular_grid()
    np.testing.assert_allclose(grid.direction.T @ grid.direction, np.eye(3), atol=2e-6)
    first = grid.to_world((0, 0, 0)) * (-1, -1, 1) - geometry.positions_mm[0]
    last = grid.to_world((0, 0, 21)) * (-1, -1, 1) - geometry.positions_mm[21]
    np.testing.assert_allclose(first, -last, atol=1e-9)
    assert np.linalg.norm(first) == pytest.approx(0.5 * 21 * 6.5 * np.tan(np.radians(0.07)), rel=1e-6)


@pytest.mark.parametrize(
    "cosines", [(1, 0, 0, 0, 1), (1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 1, 0), (0,) * 6, (1, 0, 0, 0.1, 1, 0)]
)
def test_senseless_orientations_have_no_axes(cosines: tuple[float, ...]) -> None:
    assert axes_of(cosines) is None


def test_orientations_within_rounding_are_one() -> None:
    axes = axes_of(AXIAL)
    near = axes_of(tuple(around(0.05, 0, 0)[:, :2].T.ravel()))
    far = axes_of(tuple(around(0.2, 0, 0)[:, :2].T.ravel()))
    assert axes is not None
    assert near is not None
    assert far is not None
    assert same_orientation(axes, near)
    assert not same_orientation(axes, far)


def test_places_count_positions_not_images() -> None:
    np.testing.assert_array_equal(places_of(np.array([5.0, 0, 5.001, 2.5, 0])), [2, 0, 2, 1, 0])
