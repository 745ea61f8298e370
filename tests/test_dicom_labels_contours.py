"""Filling contours, compared with matplotlib, with scikit-image, with areas that geometry gives, and with the rule."""

from __future__ import annotations

import matplotlib.path
import numpy as np
import pytest
import skimage.draw
import skimage.measure

from tests.traced import borders
from volseg.dicom.labels.contours import EXACT_MM, MAX_CROSSINGS, ROUNDED_MM, cross, fill
from volseg.errors import InputError

SIZE = (96, 80)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]]
CENTRES = np.column_stack((COLUMNS.ravel(), ROWS.ravel()))


def filled(
    *polygons: np.ndarray, size: tuple[int, int] = SIZE, pixel_mm: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    plane = np.zeros(size, dtype=bool)
    patch = fill([np.asarray(polygon, float) for polygon in polygons], size, pixel_mm)
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
    # A box of whole pixels has exactly as many as its area wherever its edges lie between centres.
    for shift in (0.03, 0.25, 0.5, 0.75, 0.97):
        assert filled(rectangle(3 + shift, 5 + shift, 24 + shift, 47 + shift)).sum() == 21 * 42


def distance_mm(polygon: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """From each centre to the nearest edge."""
    centres, nearest = CENTRES * pixel_mm, np.full(len(CENTRES), np.inf)
    for start, end in zip(polygon * pixel_mm, np.roll(polygon, -1, axis=0) * pixel_mm, strict=True):
        along = end - start
        share = np.clip((centres - start) @ along / max(along @ along, 1e-30), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(centres - start - share[:, None] * along, axis=1))
    return nearest.reshape(SIZE)


@pytest.mark.parametrize("pixel_mm", [(1.0, 1.0), (0.3, 5.0), (2.0, 0.4)])
@pytest.mark.parametrize("seed", range(4))
def test_centres_on_contours_are_inside(seed: int, pixel_mm: tuple[float, float]) -> None:
    """Points on centres and at corners of pixels, so that edges of all slopes run through centres."""
    random = np.random.default_rng(seed)
    polygon = random.integers(0, 18, (8, 2)) * 4 + seed % 2 / 2
    near = distance_mm(polygon, pixel_mm)
    assert np.count_nonzero(near < 1e-9) > 5
    np.testing.assert_array_equal(filled(polygon, pixel_mm=pixel_mm), by_rule(polygon) | (near < EXACT_MM))


@pytest.mark.parametrize("pixel_mm", [(1.0, 1.0), (0.3, 5.0), (2.0, 0.4), (0.3, 0.3), (5.0, 5.0)])
def test_contours_through_centres_may_be_rounded(pixel_mm: tuple[float, float]) -> None:
    random = np.random.default_rng(7)
    for _ in range(5):
        polygon = random.integers(0, 75, (12, 2)).astype(float)
        exact = by_rule(polygon) | (distance_mm(polygon, pixel_mm) < 1e-9)
        off_mm = random.uniform(-1, 1, polygon.shape)
        rounded = polygon + off_mm / np.linalg.norm(off_mm, axis=1)[:, None] * 0.0087 / np.array(pixel_mm)
        np.testing.assert_array_equal(filled(rounded, pixel_mm=pixel_mm) & exact, exact)
        denser = (polygon[:, None] + (np.roll(polygon, -1, axis=0) - polygon)[:, None] * [[0], [0.37]]).reshape(-1, 2)
        denser += random.uniform(-0.005, 0.005, denser.shape) / np.array(pixel_mm)
        np.testing.assert_array_equal(filled(denser, pixel_mm=pixel_mm) & exact, exact)
        # What else is filled is as near as rounding reaches.
        gained = filled(rounded, pixel_mm=pixel_mm) & ~exact
        assert (distance_mm(polygon, pixel_mm)[gained] < ROUNDED_MM + 0.0087).all()


@pytest.mark.parametrize("seed", range(4))
def test_contours_in_general_position_equal_scikit_image(seed: int) -> None:
    """What dcmrtstruct2nii fills contours by."""
    random = np.random.default_rng(seed)
    polygon = random.uniform(-5, 90, (40, 2))
    np.testing.assert_array_equal(filled(polygon), skimage.draw.polygon2mask(SIZE, polygon[:, ::-1]))


def test_boxes_through_centres_reach_equally_far_on_all_sides() -> None:
    expected = filled(rectangle(1.5, 2.5, 5.5, 7.5))
    for off in (0.0, 0.7, -0.7):  # at a corner both add up
        step = off * ROUNDED_MM / 0.7
        for box in (
            (2 - step, 3 - step, 5 + step, 7 + step),
            (2 + step, 3 - step, 5 + step, 7 - step),
            (1.7, 3 + step, 5.4, 7 + step),  # along rows of centres only
            (2 + step, 2.6, 5 - step, 7.3),
        ):
            np.testing.assert_array_equal(filled(rectangle(*box), pixel_mm=(0.7, 0.7)), expected)
    beyond = 1.1 * ROUNDED_MM / 0.7
    within = rectangle(2 + beyond, 3 + beyond, 5 - beyond, 7 - beyond)
    np.testing.assert_array_equal(filled(within, pixel_mm=(0.7, 0.7)), filled(rectangle(2.5, 3.5, 4.5, 6.5)))


@pytest.mark.parametrize("turn", range(8))
def test_a_mirrored_or_turned_contour_fills_the_mirrored_or_turned_pixels(turn: int) -> None:
    side = 60
    polygon = np.random.default_rng(turn).integers(0, 2 * side - 2, (15, 2)) / 2
    turned = polygon[:, ::-1] if turn & 4 else polygon
    turned = np.where([bool(turn & 1), bool(turn & 2)], side - 1 - turned, turned)
    pixels = filled(polygon, size=(side, side))
    pixels = pixels.T if turn & 4 else pixels
    pixels = pixels[:, ::-1] if turn & 1 else pixels
    pixels = pixels[::-1] if turn & 2 else pixels
    np.testing.assert_array_equal(filled(turned, size=(side, side)), pixels)


@pytest.mark.parametrize("seed", range(4))
def test_contours_along_pixel_edges_and_half_way_between_centres_are_exact(seed: int) -> None:
    """However small the pixels are; a tolerance in mm would reach across them."""
    random = np.random.default_rng(seed)
    mask = random.random(SIZE) < 0.5
    steps = [(c - 0.5, r - 0.5, c + 0.5, r + 0.5) for r, c in np.argwhere(mask)]
    half_way = [found[:, ::-1] for found in skimage.measure.find_contours(np.pad(mask, 1), 0.5)]
    for pixel_mm in ((1.0, 1.0), (0.3, 5.0), (0.001, 0.001)):
        np.testing.assert_array_equal(filled(*(rectangle(*step) for step in steps), pixel_mm=pixel_mm), mask)
        np.testing.assert_array_equal(filled(*(found - 1 for found in half_way), pixel_mm=pixel_mm), mask)


def test_contours_in_general_position_keep_their_pixels() -> None:
    random, changed, total = np.random.default_rng(1), 0, 0
    for _ in range(200):
        angles = np.linspace(0, 2 * np.pi, 90, endpoint=False) + random.uniform(0, 1)
        spokes = np.column_stack((np.cos(angles), np.sin(angles))) * random.uniform(3, 30) * random.uniform(0.9, 1.1, 2)
        polygon = spokes + random.uniform(38, 42, 2)
        inside = by_rule(polygon)
        changed += np.count_nonzero(filled(polygon) != inside)
        total += np.count_nonzero(inside)
    assert changed <= 1e-4 * total


def test_points_and_lines_through_centres_are_the_pixels_there() -> None:
    np.testing.assert_array_equal(np.argwhere(filled(np.array([(3.0, 4.0)]))), [(4, 3)])
    np.testing.assert_array_equal(
        np.argwhere(filled(np.array([(3.004, 4.0), (6.0, 6.998)]))), [(4, 3), (5, 4), (6, 5), (7, 6)]
    )
    bent = np.array([(3.0, 4.0), (6.0, 4.0), (6.0, 6.0), (6.0, 4.0)])
    assert filled(bent).sum() == 6
    assert filled(np.array([(-3.0, 4.0), (2.0, 4.0)])).sum() == 3
    assert filled(np.array([(77.0, 4.0), (1e6, 4.0)])).sum() == 3


def test_polygons_that_share_edges_leave_no_gap() -> None:
    """Triangles of a fan over centres and corners of pixels: both have the centres on the edge between them."""
    random = np.random.default_rng(3)
    corners = np.vstack((rectangle(1, 1, 71, 91), random.integers(2, 70, (40, 2)) / 2.0 + 10))
    from scipy.spatial import Delaunay

    total, shared = np.zeros(SIZE, int), np.zeros(SIZE, dtype=bool)
    for triangle in Delaunay(corners).simplices:
        total += filled(corners[triangle])
        shared |= distance_mm(corners[triangle], (1.0, 1.0)) <= ROUNDED_MM
    np.testing.assert_array_equal(total > 0, filled(rectangle(0.5, 0.5, 71.5, 91.5)))
    assert (total[~shared] <= 1).all()


def test_contours_that_touch_along_centres_fill_both() -> None:
    both = filled(rectangle(2, 2, 10, 10), rectangle(10, 4, 20, 8))
    np.testing.assert_array_equal(both, filled(rectangle(2, 2, 10, 10)) | filled(rectangle(10, 4, 20, 8)))
    corner = filled(rectangle(2, 2, 10, 10), rectangle(10, 10, 20, 18))
    assert corner.sum() == 81 + 99 - 1


@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_borders_traced_through_centres_give_the_mask_back(share: float, simple: bool) -> None:
    """Noise: holes, islands in them, walls and lines of one pixel, single pixels, parts that touch at corners."""
    mask = np.random.default_rng(int(share * 10)).random(SIZE) < share
    np.testing.assert_array_equal(filled(*borders(mask, simple=simple)), mask)


def test_holes_that_share_their_outline_with_what_is_round_them_stay_holes() -> None:
    ring = np.zeros(SIZE, dtype=bool)
    ring[[4, 5, 5, 6], [7, 6, 8, 7]] = True
    outer, hole = borders(ring, simple=False)
    np.testing.assert_array_equal(np.sort(outer, axis=0), np.sort(hole, axis=0))
    np.testing.assert_array_equal(filled(outer, hole), ring)


def test_a_keyhole_leaves_the_hole_that_two_contours_leave() -> None:
    outer, inner = rectangle(5.3, 5.3, 60.3, 70.3), rectangle(20.3, 20.3, 40.3, 50.3)
    keyhole = np.vstack((outer[:1], inner[:1], inner[[3, 2, 1, 0]], outer[[0, 1, 2, 3]]))
    hole = filled(outer) & ~filled(inner)
    np.testing.assert_array_equal(filled(outer, inner), hole)
    np.testing.assert_array_equal(filled(keyhole), hole)
    # Through centres, those of the hole's contour belong to what is round it.
    np.testing.assert_array_equal(
        filled(np.rint(keyhole)), filled(rectangle(4.5, 4.5, 60.5, 70.5)) & ~filled(rectangle(20.5, 20.5, 39.5, 49.5))
    )


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
        np.array([(3.1, 3.0), (20.1, 20.0)]),
        np.array([(3.1, 3.0)]),
        np.array([(3.0, 3.1), (20.0, 3.1), (60.0, 3.1)]),
        np.array([(-1.0, 3.0)]),
        np.array([(80.0, 3.0), (90.0, 3.0)]),
    ],
)
def test_what_holds_no_centre_is_nothing(polygon: np.ndarray) -> None:
    assert fill([polygon], SIZE, (1.0, 1.0)) is None


def test_what_lies_outside_is_cut_off() -> None:
    np.testing.assert_array_equal(filled(rectangle(-500.5, -400.5, 9.5, 7.5)), (ROWS < 8) & (COLUMNS < 10))
    np.testing.assert_array_equal(filled(rectangle(-1e6, -1e6, 1e6, 1e6)), np.ones(SIZE, dtype=bool))


def test_contours_cross_where_neither_lies_in_the_other() -> None:
    def patch(*box: float):
        found = fill([rectangle(*box)], SIZE, (1.0, 1.0))
        assert found is not None
        return found

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


def test_contours_that_share_pixels_of_their_outlines_do_not_cross() -> None:
    def patch(*box: float):
        found = fill([rectangle(*box)], SIZE, (1.0, 1.0))
        assert found is not None
        return found

    outer = patch(5, 5, 40, 40)
    for other in (
        (40, 10, 50, 20),  # beside
        (40, 40, 50, 50),  # at a corner
        (5, 10, 20, 20),  # a hole at the wall
        (5, 5, 40, 20),
        (5, 5, 40, 40),
    ):
        assert not cross(outer, patch(*other))
        assert not cross(patch(*other), outer)
    assert cross(outer, patch(5, 38, 40, 60))


def test_a_contour_made_to_stall_its_reader_is_refused() -> None:
    zigzag = np.column_stack((np.zeros(MAX_CROSSINGS // 512 + 10), np.tile((0.0, 600.0), MAX_CROSSINGS // 1024 + 5)))
    flat = zigzag[:, ::-1]
    for contours in ([zigzag], [flat], np.array_split(np.tile(zigzag, (2, 1)), 900)):
        with pytest.raises(InputError) as caught:
            fill(contours, (512, 512), (1.0, 1.0))
        assert caught.value.code == "declares-too-much"


def test_long_contours_are_worked_out_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    polygon = np.random.default_rng(5).uniform(-40, 130, (300, 2))
    monkeypatch.setattr("volseg.dicom.labels.contours.STRETCH", 100)
    np.testing.assert_array_equal(filled(polygon), by_rule(polygon))
