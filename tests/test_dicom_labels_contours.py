"""Filling contours, compared with matplotlib, with areas that geometry gives, and with the rule itself."""

from __future__ import annotations

import matplotlib.path
import numpy as np
import pytest

from volseg.dicom.labels.contours import MAX_CROSSINGS, cross, fill
from volseg.errors import InputError

SIZE = (96, 80)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]]
CENTRES = np.column_stack((COLUMNS.ravel(), ROWS.ravel()))


def filled(*polygons: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    plane = np.zeros(size, dtype=bool)
    patch = fill([np.asarray(polygon, float) for polygon in polygons], size)
    if patch is not None:
        patch.within(plane)[...] = patch.pixels
    return plane


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def by_rule(polygon: np.ndarray) -> np.ndarray:
    """Each centre on its own: whether a ray to the right crosses an odd number of edges."""
    inside = np.zeros(SIZE, dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        reached = (y0 > ROWS) != (y1 > ROWS)
        if reached.any():
            inside ^= reached & ((x1 - x0) * (ROWS - y0) / (y1 - y0) + x0 > COLUMNS)
    return inside


@pytest.mark.parametrize("seed", range(8))
def test_simple_polygons_equal_matplotlib(seed: int) -> None:
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 200)))
    radii = random.uniform(5, 60) * (1 + 0.2 * random.standard_normal(len(angles)))
    polygon = np.column_stack((40 + radii * np.cos(angles), 48 + radii * np.sin(angles)))[:: random.choice([1, -1])]
    closed = matplotlib.path.Path(np.vstack((polygon, polygon[:1])), closed=True)
    np.testing.assert_array_equal(filled(polygon), closed.contains_points(CENTRES).reshape(SIZE))


@pytest.mark.parametrize("seed", range(8))
def test_polygons_that_cross_themselves_and_the_border_follow_the_even_odd_rule(seed: int) -> None:
    polygon = np.random.default_rng(seed).uniform(-40, 130, (30, 2))
    np.testing.assert_array_equal(filled(polygon), by_rule(polygon))


def test_areas_are_those_of_geometry() -> None:
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    unit = np.column_stack((np.cos(angles), np.sin(angles)))
    disc = filled(500 + 400.3 * unit, size=(1000, 1000))
    assert disc.sum() == pytest.approx(np.pi * 400.3**2, rel=3e-4)
    ring = filled(500 + 400.3 * unit, 500 + 200.7 * unit, size=(1000, 1000))
    assert ring.sum() == pytest.approx(np.pi * (400.3**2 - 200.7**2), rel=3e-4)
    # A box of whole pixels has exactly as many as its area, wherever its edges lie between centres or on them.
    for shift in (0.0, 0.25, 0.5):
        assert filled(rectangle(3 + shift, 5 + shift, 24 + shift, 47 + shift)).sum() == 21 * 42


def test_centres_on_edges_belong_to_one_side() -> None:
    box = filled(rectangle(2, 3, 5, 7))
    np.testing.assert_array_equal(np.argwhere(box).min(axis=0), (3, 2))
    np.testing.assert_array_equal(np.argwhere(box).max(axis=0), (6, 4))


def test_polygons_that_share_edges_tile() -> None:
    """Triangles of a fan over centres and corners of pixels: no gap, no overlap."""
    random = np.random.default_rng(3)
    corners = np.vstack((rectangle(1, 1, 71, 91), random.integers(2, 70, (40, 2)) / 2.0 + 10))
    from scipy.spatial import Delaunay

    total = np.zeros(SIZE, int)
    for triangle in Delaunay(corners).simplices:
        total += filled(corners[triangle])
    np.testing.assert_array_equal(total, filled(rectangle(1, 1, 71, 91)).astype(int))


def test_a_keyhole_leaves_the_hole_that_two_contours_leave() -> None:
    outer, inner = rectangle(5.3, 5.3, 60.3, 70.3), rectangle(20.3, 20.3, 40.3, 50.3)
    keyhole = np.vstack((outer[:1], inner[:1], inner[[3, 2, 1, 0]], outer[[0, 1, 2, 3]]))
    hole = filled(outer) & ~filled(inner)
    np.testing.assert_array_equal(filled(outer, inner), hole)
    np.testing.assert_array_equal(filled(keyhole), hole)


def test_a_first_point_that_is_repeated_changes_nothing() -> None:
    polygon = np.array([(3.2, 4.1), (50.7, 20.2), (30.1, 80.9)])
    np.testing.assert_array_equal(filled(np.vstack((polygon, polygon[:1]))), filled(polygon))


@pytest.mark.parametrize(
    "polygon",
    [
        rectangle(-50, -50, -1, -1),
        rectangle(200, 200, 300, 300),
        rectangle(80, 10, 90, 20),
        rectangle(10.2, 10.2, 10.8, 10.8),
        np.array([(3.0, 3.0), (20.0, 20.0)]),
        np.array([(3.0, 3.0)]),
        np.array([(3.0, 3.0), (20.0, 3.0), (60.0, 3.0)]),
    ],
)
def test_what_holds_no_centre_is_nothing(polygon: np.ndarray) -> None:
    assert fill([polygon], SIZE) is None


def test_what_lies_outside_is_cut_off() -> None:
    np.testing.assert_array_equal(filled(rectangle(-500.5, -400.5, 9.5, 7.5)), (ROWS < 8) & (COLUMNS < 10))
    np.testing.assert_array_equal(filled(rectangle(-1e6, -1e6, 1e6, 1e6)), np.ones(SIZE, dtype=bool))


def test_contours_cross_where_neither_lies_in_the_other() -> None:
    def patch(*box: float):
        return fill([rectangle(*box)], SIZE)

    outer, inner, beside, across = (
        patch(5, 5, 40, 40),
        patch(10, 10, 20, 20),
        patch(50, 5, 60, 40),
        patch(30, 30, 60, 60),
    )
    assert not cross(outer, inner)
    assert not cross(inner, outer)
    assert not cross(outer, beside)
    assert cross(outer, across)
    assert cross(across, outer)


def test_a_contour_made_to_stall_its_reader_is_refused() -> None:
    zigzag = np.column_stack((np.zeros(MAX_CROSSINGS // 512 + 10), np.tile((0.0, 600.0), MAX_CROSSINGS // 1024 + 5)))
    with pytest.raises(InputError) as caught:
        fill([zigzag], (512, 512))
    assert caught.value.code == "declares-too-much"


def test_long_contours_are_worked_out_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    polygon = np.random.default_rng(5).uniform(-40, 130, (300, 2))
    monkeypatch.setattr("volseg.dicom.labels.contours.STRETCH", 100)
    np.testing.assert_array_equal(filled(polygon), by_rule(polygon))
