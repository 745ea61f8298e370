"""Pictures of cases: the right place, the right side, whatever the voxel order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread

from volseg.errors import GeometryError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable
from volseg.volume import Volume
from volseg.workflows.overlay import write_overlay

if TYPE_CHECKING:
    from pathlib import Path

RED = LabelTable((Label(1, "red", (255, 0, 0)),))


def case(*, at: tuple[int, int, int]) -> tuple[Volume, Volume]:
    """A grey block with one labelled cube, in RAS order."""
    grid = Grid((24, 20, 12), np.diag([2.0, 2.0, 4.0, 1.0]))
    image = np.full(grid.shape, 40, dtype=np.int16)
    mask = np.zeros(grid.shape, dtype=np.uint8)
    mask[tuple(slice(n - 2, n + 2) for n in at)] = 1
    return Volume(image, grid), Volume(mask, grid)


def flipped(volume: Volume) -> Volume:
    """The same voxels at the same places, stored in another order."""
    count = volume.grid.shape
    turn = np.array([[0, -1, 0, count[0] - 1], [1, 0, 0, 0], [0, 0, -1, count[2] - 1], [0, 0, 0, 1]], dtype=float)
    array = volume.array.transpose(1, 0, 2)[:, ::-1, ::-1]
    return Volume(array, Grid((count[1], count[0], count[2]), volume.grid.affine @ turn))


def reddish(path: Path) -> np.ndarray:
    """(n, 2) the rows and columns of pixels where the label shows, legend left out."""
    pixels = imread(path)
    pixels = pixels[: int(0.9 * len(pixels))]
    return np.argwhere((pixels[..., 0] > 0.5) & (pixels[..., 1] < 0.45))


def test_the_patients_right_is_left_and_the_front_is_up(tmp_path: Path) -> None:
    image, mask = case(at=(20, 16, 6))  # right, front
    write_overlay(tmp_path / "a.png", image, mask, RED)
    width = imread(tmp_path / "a.png").shape[1]
    spots = reddish(tmp_path / "a.png")
    axial = spots[spots[:, 1] < width // 3]
    _, opposite = case(at=(3, 3, 6))
    write_overlay(tmp_path / "b.png", image, opposite, RED)
    spots = reddish(tmp_path / "b.png")
    other = spots[spots[:, 1] < width // 3]
    assert axial[:, 1].mean() < other[:, 1].mean() - 50
    assert axial[:, 0].mean() < other[:, 0].mean() - 50


def test_the_voxel_order_changes_nothing(tmp_path: Path) -> None:
    image, mask = case(at=(18, 6, 3))
    write_overlay(tmp_path / "a.png", image, mask, RED, reference=mask, title="a $1 case")
    write_overlay(tmp_path / "b.png", *map(flipped, (image, mask)), RED, reference=flipped(mask), title="a $1 case")
    assert flipped(image).grid.orientation != image.grid.orientation
    assert np.array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


def test_an_empty_mask_gives_a_picture_without_colour(tmp_path: Path) -> None:
    image, mask = case(at=(18, 6, 3))
    write_overlay(tmp_path / "a.png", image, Volume(np.zeros_like(mask.array), mask.grid), RED)
    assert len(reddish(tmp_path / "a.png")) == 0


def test_another_grid_is_refused(tmp_path: Path) -> None:
    image, mask = case(at=(18, 6, 3))
    moved = Grid(mask.grid.shape, mask.grid.affine + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3))
    with pytest.raises(GeometryError, match="another grid"):
        write_overlay(tmp_path / "a.png", image, Volume(mask.array, moved), RED)
    assert not (tmp_path / "a.png").exists()
