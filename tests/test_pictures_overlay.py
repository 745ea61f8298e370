"""Pictures of cases: the right place, the right side, whatever the voxel order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread

from volseg.errors import GeometryError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable
from volseg.pictures.overlay import overlay_figure, write_overlay
from volseg.volume import Volume

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


def test_letters_name_the_patients_sides() -> None:
    """The same on every plane, at the middle of each margin, whatever the voxel order."""
    image, mask = case(at=(18, 6, 3))
    for volumes in ((image, mask), map(flipped, (image, mask))):
        panels = overlay_figure(*volumes, RED).axes
        found = [[(text.get_text(), *text.get_position()) for text in panel.texts] for panel in panels]
        assert [panel.get_title() for panel in panels] == ["axial", "coronal", "sagittal"]
        assert [[letter for letter, _, _ in panel] for panel in found] == [
            ["R", "L", "P", "A"], ["R", "L", "I", "S"], ["P", "A", "I", "S"],
        ]  # fmt: skip
        for panel in found:
            left, right, bottom, top = panel
            assert left[1] < 0.1
            assert right[1] > 0.9
            assert bottom[2] < 0.1
            assert top[2] > 0.9


def test_the_planes_show_every_label() -> None:
    """Three cubes that no single plane meets together."""
    image, mask = case(at=(4, 4, 2))
    mask.array[18:22, 14:18, 6:8] = 2
    mask.array[10:12, 8:10, 9:11] = 3
    table = LabelTable(tuple(Label(n, f"cube {n}", (80 * n, 0, 0)) for n in (1, 2, 3)))
    (legend,) = overlay_figure(image, mask, table).legends
    assert [text.get_text() for text in legend.get_texts()] == ["cube 1", "cube 2", "cube 3"]


def test_the_legend_names_only_what_is_shown() -> None:
    image, mask = case(at=(4, 4, 2))
    table = LabelTable((*RED.labels, Label(2, "absent", (0, 0, 255))))
    (legend,) = overlay_figure(image, mask, table).legends
    assert [text.get_text() for text in legend.get_texts()] == ["red"]


def test_no_name_breaks_the_picture(tmp_path: Path) -> None:
    image, mask = case(at=(4, 4, 2))
    names = ("$\\foo$", "_hidden", "肝臓", "x" * 500, "two\nlines")
    for index in range(1, len(names) + 1):
        mask.array[4 + index, 4, 2] = index
    table = LabelTable(tuple(Label(index, name) for index, name in enumerate(names, 1)))
    write_overlay(tmp_path / "a.png", image, mask, table)
    (legend,) = overlay_figure(image, mask, table).legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown[:3] == list(names[:3])
    assert shown[3] == "x" * 37 + "..."
    assert shown[4] == "two\\nlines"
