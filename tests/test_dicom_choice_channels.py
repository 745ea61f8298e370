"""How much of one grid another covers, by hand; how series become channels is told by ``convert --channels``."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import OBLIQUE
from volseg.dicom.choice.channels import PROBES, coverage, require_coverage
from volseg.errors import InputError
from volseg.grid import Grid

GRID = Grid((17, 33, 9), np.eye(4))


def shifted(grid: Grid, *voxels: float) -> Grid:
    """The grid, moved by so many of its voxels along i, j and k."""
    move = np.eye(4)
    move[:3, 3] = voxels
    return Grid(grid.shape, grid.affine @ move)


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE])
def test_a_grid_covers_itself_and_half_a_voxel_around(affine: np.ndarray) -> None:
    grid = Grid(GRID.shape, affine)
    assert coverage(grid, grid) == 1
    assert coverage(grid, shifted(grid, 0.5, -0.5, 0.5)) == 1
    assert coverage(grid, shifted(grid, 0.6, 0, 0)) == pytest.approx((PROBES - 1) / PROBES)


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE])
def test_the_share_is_that_of_the_probes_inside(affine: np.ndarray) -> None:
    grid = Grid(GRID.shape, affine)
    # Probes stand 2, 4 and 1 voxels apart: moved by 4, 16 and 3 voxels, 2, 4 and 3 planes of the nine are outside.
    assert coverage(grid, shifted(grid, 4, -16, 3)) == pytest.approx(7 / 9 * 5 / 9 * 6 / 9)
    assert coverage(grid, shifted(grid, 17.5, 0, 0)) == 0
    within = Grid((9, 33, 9), affine)  # the first half along i, whose box ends at 8.5
    assert coverage(grid, within) == pytest.approx(5 / 9)
    assert coverage(within, grid) == 1


def test_a_grid_in_another_order_of_axes_covers_the_same() -> None:
    turned = np.array([[0, 0, -1, 16], [1, 0, 0, 0], [0, -1, 0, 8], [0, 0, 0, 1.0]])
    assert coverage(GRID, Grid((33, 9, 17), turned)) == 1


def test_no_common_place_is_refused() -> None:
    assert require_coverage(GRID, shifted(GRID, 16, 32, 8)) == pytest.approx(1 / PROBES**3)
    with pytest.raises(InputError) as caught:
        require_coverage(GRID, shifted(GRID, 0, 0, 900))
    assert caught.value.code == "channels-apart"
