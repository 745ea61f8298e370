"""Phantoms: their labels against formulas, on any grid."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.workflows.phantoms.phantom import (
    GALLBLADDER,
    KIDNEY,
    LABELS,
    LIVER,
    SPLEEN,
    Ellipsoid,
    make_phantom,
    rotation,
)
from volseg.workflows.phantoms.tissue import paint


def fine_grid(phantom, step_mm: float) -> Grid:
    """A grid of that step over the phantom's scan."""
    return phantom.grid.with_spacing((step_mm,) * 3)


def test_volumes_are_those_of_the_formula() -> None:
    for number in range(3):
        phantom = make_phantom("p", (5, number))
        grid = fine_grid(phantom, 2.5)
        mask = phantom.mask(grid)
        for label in (KIDNEY, GALLBLADDER):
            formula = sum(4 / 3 * np.pi * np.prod(shape.semi_axes_mm) for shape in phantom.organs[label])
            assert (mask == label).sum() * grid.voxel_volume_mm3 == pytest.approx(formula, rel=0.02)


def test_labels_have_the_sizes_and_sides_of_organs() -> None:
    for number in range(5):
        phantom = make_phantom("p", (6, number))
        mask = phantom.mask(phantom.grid)
        volumes_ml = np.bincount(mask.ravel(), minlength=5) * phantom.grid.voxel_volume_mm3 / 1000
        assert 900 < volumes_ml[LIVER] < 2200
        assert 120 < volumes_ml[SPLEEN] < 400
        assert volumes_ml[LIVER] > 25 * volumes_ml[GALLBLADDER] > 0
        middle = {label: phantom.grid.to_world(np.argwhere(mask == label)).mean(axis=0) for label in LABELS.indices}
        # RAS: the liver lies at the patient's right, the spleen at the left, the gallbladder in front of the kidneys.
        assert middle[LIVER][0] > middle[KIDNEY][0] + 20 > middle[SPLEEN][0] + 60
        assert middle[GALLBLADDER][1] > middle[KIDNEY][1] + 50


def test_a_sphere_knows_its_depth() -> None:
    sphere = Ellipsoid(np.array([1.0, 2.0, 3.0]), np.full(3, 10.0), rotation((20, 30, 40)))
    points = np.random.default_rng(0).uniform(-20, 20, (500, 3)).astype(np.float32)
    expected = 10 - np.linalg.norm(points - (1, 2, 3), axis=1)
    assert sphere.depth_mm(points) == pytest.approx(expected, abs=1e-4)
    assert sphere.depth_mm(np.array([[1, 2, 3]], dtype=np.float32)) == pytest.approx([10])


def test_an_ellipsoid_is_turned_with_its_axes() -> None:
    turn = rotation((0, 0, 90))  # x goes to y
    long = Ellipsoid(np.zeros(3), np.array([30.0, 5.0, 5.0]), turn)
    depths = long.depth_mm(np.array([[0, 29, 0], [0, 31, 0], [29, 0, 0], [0, 29.9, 0]], dtype=np.float32))
    assert (depths > 0).tolist() == [True, False, False, True]
    assert depths[3] == pytest.approx(0.1, abs=0.01)
    assert np.allclose(turn @ turn.T, np.eye(3))


def test_the_mask_follows_the_grid_not_the_array() -> None:
    phantom = make_phantom("p", (7, 1), matrix=30)
    mask = phantom.mask(phantom.grid)
    flipped = phantom.grid.affine @ np.array(
        [[-1, 0, 0, mask.shape[0] - 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=float
    )
    other = phantom.mask(Grid((mask.shape[0], mask.shape[2], mask.shape[1]), flipped))
    assert np.array_equal(other, mask[::-1].transpose(0, 2, 1))


def test_the_same_seed_gives_the_same_phantom_and_others_differ() -> None:
    one, same, other = (make_phantom("p", (8, number), matrix=30) for number in (1, 1, 2))
    assert np.array_equal(paint(one), paint(same))
    assert one.grid.difference(same.grid) is None
    assert one.grid.difference(other.grid) is not None
    assert one.hu != other.hu


def test_the_cohort_varies() -> None:
    phantoms = [make_phantom("p", (9, number)) for number in range(40)]
    assert {phantom.position for phantom in phantoms} == {"HFS", "FFS", "HFP", "FFP"}
    assert len({phantom.grid.spacing_mm for phantom in phantoms}) == 40
    assert max(p.hu[KIDNEY] for p in phantoms) - min(p.hu[KIDNEY] for p in phantoms) > 80
    assert {np.sign(phantom.grid.affine[2, 2]) for phantom in phantoms} == {-1, 1}


@pytest.mark.parametrize("matrix", [8, 5000])
def test_an_impossible_matrix_is_refused(matrix: int) -> None:
    with pytest.raises(UsageError, match="matrix"):
        make_phantom("p", (1,), matrix=matrix)
