"""What masks measure, against the formulas of ellipsoids, and against numpy and scipy label by label."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from tests.conftest import OBLIQUE
from volseg.grid import Grid
from volseg.volume import Volume
from volseg.writers.measures import crofton_weights, longest_distance, measure

STEPS = [(1.0, 1.0, 1.0), (0.8, 0.8, 2.0)]


def ellipsoid(radii: tuple[float, ...], grid: Grid) -> np.ndarray:
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    away = grid.to_world(voxels) - grid.to_world((np.array(grid.shape) - 1) / 2)
    return (((away / radii) ** 2).sum(axis=-1) <= 1).astype(np.uint8)


def area_of(radii: tuple[float, ...]) -> float:
    """Of an ellipsoid, by the integral over its sphere of directions."""
    theta, phi = np.meshgrid(
        (np.arange(400) + 0.5) * math.pi / 400, (np.arange(800) + 0.5) * math.pi / 400, indexing="ij"
    )
    a, b, c = radii
    x, y, z = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    patch = np.sqrt((b * c * x) ** 2 + (a * c * y) ** 2 + (a * b * z) ** 2)
    return float((patch * np.sin(theta)).sum() * (math.pi / 400) ** 2)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("radii", [(15.0, 15.0, 15.0), (20.0, 12.0, 9.0)])
def test_ellipsoids_have_the_surface_volume_and_diameter_of_their_formulas(
    steps: tuple[float, ...], radii: tuple[float, ...]
) -> None:
    affine = np.diag((*steps, 1.0))
    affine[:3, 3] = -40, 17, 250
    grid = Grid(tuple(int(2 * radius / step) + 4 for radius, step in zip(radii, steps, strict=True)), affine)
    mask = ellipsoid(radii, grid)
    (found,) = measure(mask, Volume(np.zeros(grid.shape, np.int16), grid))
    assert found.surface_mm2 == pytest.approx(area_of(radii), rel=0.03)
    assert found.volume_ml == pytest.approx(4 / 3 * math.pi * math.prod(radii) / 1000, rel=0.015)
    assert abs(found.longest_diameter_mm - 2 * max(radii)) < max(steps)
    assert found.centroid_mm == pytest.approx(grid.to_world((np.array(grid.shape) - 1) / 2), abs=1e-6)
    assert not found.touches_border


def test_a_sheared_oblique_grid_measures_as_the_body_does() -> None:
    affine = OBLIQUE.copy()
    affine[:3, 2] += 0.3 * affine[:3, 0]
    grid = Grid((52, 52, 16), affine)
    mask = ellipsoid((15.0, 15.0, 15.0), grid)
    (found,) = measure(mask, Volume(mask, grid))
    assert found.surface_mm2 == pytest.approx(area_of((15.0,) * 3), rel=0.04)
    assert abs(found.longest_diameter_mm - 30) < 2.5


def test_directions_share_the_sphere_as_the_literature_has_it() -> None:
    # Ohser and Muecklich, table of weights for the 13 directions of a cubic lattice; an area weighs 2 / length.
    weights = sorted(set(np.round(crofton_weights(np.eye(3)) * np.sqrt(1) / 2, 6)))
    assert weights == pytest.approx(sorted({0.091556, 0.073961 / math.sqrt(2), 0.070393 / math.sqrt(3)}), abs=1e-4)


@pytest.mark.parametrize("order", ["C", "F"])
def test_every_figure_is_that_of_numpy_for_each_label(order: str) -> None:
    random = np.random.default_rng(3)
    mask = np.zeros((14, 12, 10), np.uint8, order=order)
    mask[2:9, 3:8, 2:7] = 1
    mask[5:8, 5:8, 4:9] = 4
    mask[12:, 10:, :2] = 200
    mask[1, 1, 8] = 4
    values = random.normal(40, 300, mask.shape).astype(np.float32)
    values[5, 5, 5] = np.nan
    grid = Grid(mask.shape, OBLIQUE)
    found = {one.label: one for one in measure(mask, Volume(values, grid))}
    assert sorted(found) == [1, 4, 200]
    for label, one in found.items():
        where = np.argwhere(mask == label)
        inside = values[mask == label].astype(np.float64)
        inside = inside[np.isfinite(inside)]
        assert one.voxels == len(where)
        assert one.centroid_mm == pytest.approx(tuple(grid.to_world(where).mean(axis=0)), abs=1e-4)
        assert one.values is not None
        assert one.values.mean == pytest.approx(inside.mean())
        assert one.values.standard_deviation == pytest.approx(inside.std())
        assert (one.values.minimum, one.values.maximum) == (inside.min(), inside.max())
        assert one.values.percentiles == pytest.approx(np.percentile(inside, (5, 25, 50, 75, 95)))
        steps = np.concatenate((np.eye(3), -np.eye(3)))
        faces = [v + s / 2 for v in where for s in steps if _other(mask, v + s, label)]
        assert one.longest_diameter_mm == pytest.approx(pdist(grid.to_world(faces)).max(), rel=1e-5)
        assert one.touches_border == (label == 200)
    assert (found[1].components, found[4].components) == (1, 2)


def _other(mask: np.ndarray, place: np.ndarray, label: int) -> bool:
    i, j, k = place.astype(int)
    inside = all(0 <= n < size for n, size in zip((i, j, k), mask.shape, strict=True))
    return not inside or mask[i, j, k] != label


def test_one_voxel_and_no_voxel_are_measured() -> None:
    mask = np.zeros((5, 5, 5), np.uint16)
    grid = Grid(mask.shape, np.diag((2.0, 2.0, 2.0, 1.0)))
    image = Volume(np.full(mask.shape, np.nan), grid)
    assert measure(mask, image) == ()
    mask[2, 2, 2] = 65535
    (found,) = measure(mask, image)
    assert (found.voxels, found.components, found.values) == (1, 1, None)
    assert found.longest_diameter_mm == pytest.approx(2.0)


def test_the_longest_distance_of_many_points_is_exact() -> None:
    points = np.random.default_rng(0).normal(size=(400, 3)) * (30, 3, 1)
    assert longest_distance(points) == pytest.approx(pdist(points).max(), abs=1e-12)
