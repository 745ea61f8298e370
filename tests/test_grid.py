"""The grid, against SimpleITK, nibabel and formulas."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest

from volseg.errors import GeometryError
from volseg.grid import CORNER_TOLERANCE_MM, Grid


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def random_grid(seed: int) -> Grid:
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed) * random.uniform(0.3, 6, 3)
    affine[:3, 3] = random.uniform(-300, 300, 3)
    return Grid(tuple(int(n) for n in random.integers(1, 60, 3)), affine)


def with_affine(grid: Grid, change: np.ndarray) -> Grid:
    return Grid(grid.shape, change @ grid.affine)


@pytest.mark.parametrize("seed", range(20))
def test_world_positions_are_itks(seed: int) -> None:
    import SimpleITK as sitk

    random = np.random.default_rng(seed)
    direction, spacing, origin = rotation(seed), random.uniform(0.3, 6, 3), random.uniform(-300, 300, 3)
    image = sitk.Image([int(n) for n in random.integers(2, 60, 3)], sitk.sitkUInt8)
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    grid = Grid.from_lps(image.GetSize(), image.GetOrigin(), image.GetDirection(), image.GetSpacing())
    voxels = random.uniform(-5, 70, (10, 3))
    itk = np.array([image.TransformContinuousIndexToPhysicalPoint(voxel.tolist()) for voxel in voxels])
    np.testing.assert_allclose(grid.to_world(voxels), itk * (-1, -1, 1), atol=1e-9)
    np.testing.assert_allclose(grid.to_voxel(itk * (-1, -1, 1)), voxels, atol=1e-9)
    np.testing.assert_allclose(grid.spacing_mm, image.GetSpacing(), rtol=1e-12)
    np.testing.assert_allclose(grid.lps_affine[:3, 3], image.GetOrigin(), atol=1e-12)
    np.testing.assert_allclose(grid.lps_affine[:3, :3] / grid.spacing_mm, direction, atol=1e-12)
    np.testing.assert_allclose(grid.direction.T @ grid.direction, np.eye(3), atol=2e-6)
    assert grid.voxel_volume_mm3 == pytest.approx(np.prod(spacing))


@pytest.mark.parametrize("seed", range(10))
def test_the_numbers_are_nibabels(seed: int) -> None:
    grid = random_grid(seed)
    np.testing.assert_allclose(grid.spacing_mm, nibabel.affines.voxel_sizes(grid.affine), rtol=1e-12)
    assert grid.orientation == "".join(nibabel.aff2axcodes(grid.affine))
    voxels = np.random.default_rng(seed).uniform(-5, 70, (4, 5, 3))
    np.testing.assert_allclose(grid.to_world(voxels), nibabel.affines.apply_affine(grid.affine, voxels), atol=1e-9)
    assert grid.to_world(voxels).shape == (4, 5, 3)


def test_corners_are_those_of_the_eight_corner_voxels() -> None:
    grid = random_grid(3)
    ends = itertools.product(*[(0, n - 1) for n in grid.shape])
    expected = sorted(tuple(grid.affine[:3, :3] @ end + grid.affine[:3, 3]) for end in ends)
    np.testing.assert_allclose(sorted(map(tuple, grid.corners_mm)), expected)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL", "ASL"])
def test_orientation_names_where_the_axes_point(axes: str) -> None:
    unit = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    affine = np.eye(4)
    affine[:3, :3] = np.array([unit[axis] for axis in axes]).T * (0.5, 2, 3)
    assert Grid((5, 5, 5), affine).orientation == axes
    cosine, sine = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    assert with_affine(Grid((5, 5, 5), affine), turn).orientation == axes


class TestRefused:
    @pytest.mark.parametrize(
        "affine",
        [
            np.zeros((4, 4)),
            np.eye(3),
            np.diag([1, 1, 0, 1]),
            np.diag([1, 1, 1, 2]),
            np.full((4, 4), np.nan),
            np.array([[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.1, 0, 0, 1]]),
        ],
    )
    def test_an_affine_that_places_nothing(self, affine: np.ndarray) -> None:
        with pytest.raises(GeometryError):
            Grid((2, 2, 2), affine)

    @pytest.mark.parametrize("shape", [(0, 1, 1), (1, 1), (1, 1, 1, 1), (-1, 2, 2)])
    def test_a_shape_without_three_axes_of_voxels(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(GeometryError):
            Grid(shape, np.eye(4))  # type: ignore[arg-type]

    @pytest.mark.parametrize("spacing", [(1, 0, 1), (1, -1, 1), (np.nan, 1, 1)])
    def test_a_spacing_that_is_none(self, spacing: tuple[float, float, float]) -> None:
        with pytest.raises(GeometryError):
            random_grid(1).with_spacing(spacing)

    def test_tiny_voxels_are_fine(self) -> None:
        """The test for parallel axes must not depend on the unit: microscopes measure in micrometres."""
        assert Grid((2, 2, 2), np.diag([1e-4, 1e-4, 1e-4, 1])).spacing_mm == pytest.approx((1e-4,) * 3)


def test_a_grid_does_not_change() -> None:
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 3] = 7
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 7


class TestDifference:
    grid = random_grid(2)

    def moved(self, shift_mm: float, axis: int = 0) -> Grid:
        change = np.eye(4)
        change[axis, 3] = shift_mm
        return with_affine(self.grid, change)

    def test_the_same_is_the_same(self) -> None:
        assert self.grid.difference(Grid(self.grid.shape, self.grid.affine.copy())) is None

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_the_tolerance_is_in_millimetres(self, axis: int) -> None:
        assert self.grid.difference(self.moved(0.99 * CORNER_TOLERANCE_MM, axis)) is None
        words = self.grid.difference(self.moved(1.01 * CORNER_TOLERANCE_MM, axis))
        assert words is not None
        assert "0.0101 mm apart" in words

    def test_storing_an_affine_as_float32_is_no_difference(self) -> None:
        for seed in range(20):
            grid = random_grid(seed)
            stored = Grid(grid.shape, grid.affine.astype(np.float32).astype(np.float64))
            assert grid.difference(stored) is None

    def test_each_kind_has_its_words(self) -> None:
        i, j, k = self.grid.shape
        assert "shape" in (self.grid.difference(Grid((i, j, k + 1), self.grid.affine)) or "")
        assert "spacing" in (self.grid.difference(Grid(self.grid.shape, self.grid.affine * [1, 1, 1.1, 1])) or "")
        flip = np.diag([-1, -1, 1, 1])
        assert "orientation" in (self.grid.difference(with_affine(self.grid, flip)) or "")
        assert "5 mm apart in the patient" in (self.grid.difference(self.moved(5)) or "")

    def test_a_small_turn_shows_at_the_corners(self) -> None:
        """0.01 degrees over 500 mm: 0.09 mm, which no comparison of cosines to 1e-4 would see."""
        grid = Grid((512, 512, 10), np.eye(4))
        angle = np.radians(0.01)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        assert grid.difference(with_affine(grid, turn)) is not None


class TestWithSpacing:
    @pytest.mark.parametrize("seed", range(10))
    def test_the_outer_box_is_kept(self, seed: int) -> None:
        grid = random_grid(seed)
        spacing = tuple(np.random.default_rng(seed + 100).uniform(0.3, 4, 3))
        new = grid.with_spacing(spacing)
        np.testing.assert_allclose(new.spacing_mm, spacing)
        np.testing.assert_allclose(new.direction, grid.direction, atol=1e-12)
        # The first outer corner, half a voxel before the first centre, stays; the last moves by half a new voxel.
        np.testing.assert_allclose(new.to_world([-0.5] * 3), grid.to_world([-0.5] * 3), atol=1e-9)
        ends = grid.to_world(np.array(grid.shape) - 0.5) - new.to_world(np.array(new.shape) - 0.5)
        along = np.abs(grid.direction.T @ ends)
        few = np.array(new.shape) == 1
        assert (along[~few] <= 0.5 * np.array(spacing)[~few] + 1e-9).all()

    def test_its_own_spacing_changes_nothing(self) -> None:
        for seed in range(10):
            grid = random_grid(seed)
            assert grid.with_spacing(grid.spacing_mm).difference(grid, 1e-9) is None

    def test_halving_doubles_the_count(self) -> None:
        grid = Grid((10, 11, 12), np.diag([2.0, 2.0, 3.0, 1.0]))
        assert grid.with_spacing((1, 1, 1)).shape == (20, 22, 36)

    def test_an_axis_keeps_at_least_one_voxel(self) -> None:
        assert Grid((10, 10, 1), np.eye(4)).with_spacing((1, 1, 50)).shape == (10, 10, 1)
