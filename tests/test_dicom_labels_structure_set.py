"""Structure sets drawn on series, compared voxel by voxel with the shapes that their contours were made from."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataelem import DataElement

from tests.dicom_traps.stack import OBLIQUE, Stack, write_stack
from tests.drawn import Roi, circle, item, on_slice, read_images, structure_set
from volseg.dicom import Repairs, scan
from volseg.dicom.file.header import read_header
from volseg.dicom.labels.label_object import Drawing
from volseg.dicom.labels.structure_set import MAX_ON_SLICE, StructureSet, read_structure_set
from volseg.errors import InputError
from volseg.labels import LabelCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from volseg.dicom.series.series import Series

STACK = Stack(size=(50, 60), pixel_mm=(0.8, 0.6), gaps_mm=(2.5,) * 7)
TILTED = replace(STACK, drift=(0.0, 0.3))
UNEVEN = replace(STACK, gaps_mm=(2.0,) * 4 + (3.5,) * 4)
STACKS = {"axial": STACK, "oblique": replace(STACK, orientation=OBLIQUE), "tilted": TILTED, "uneven": UNEVEN}


class Drawer:
    """A series, and structure sets to draw on it."""

    def __init__(self, folder: Path, stack: Stack, repairs: Repairs | None = None) -> None:
        self.folder, self.stack = folder, stack
        write_stack(folder / "ct", stack)
        self.images = read_images(folder / "ct")
        found = scan(folder / "ct") if repairs is None else scan(folder / "ct", repairs=repairs)
        assert len(found.series) == 1, [one.code for one in found.rejected]
        self.series: Series = found.series[0]

    def write(self, rois: Sequence[Roi], **options: object) -> StructureSet:
        path = structure_set(self.folder / "rs.dcm", self.images, rois, **options)  # type: ignore[arg-type]
        return read_structure_set(read_header(path), "rs.dcm")

    def draw(self, rois: Sequence[Roi], chosen: dict[int, int] | None = None, **options: object) -> Drawing:
        found = self.write(rois, **options)
        drawing = found.draw(self.series, chosen or {one.number: one.number for one in found.structures})
        assert drawing.grid is None
        assert drawing.labels.shape == (len(self.stack.positions_mm), *self.stack.size[::-1])
        return drawing

    def inside(self, k: int, shape: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(rows, columns) whether a shape holds each voxel's centre, by its place in mm along the slice's axes."""
        return shape((self.stack.world_of(k) - self.stack.positions_mm[k]) @ self.stack.axes[:2].T)


@pytest.fixture(params=STACKS)
def drawer(request: pytest.FixtureRequest, tmp_path: Path) -> Drawer:
    return Drawer(tmp_path, STACKS[request.param])


@pytest.fixture
def axial(tmp_path: Path) -> Drawer:
    return Drawer(tmp_path, STACK)


def disc(x: float, y: float, radius: float, points: int = 72) -> Callable[[np.ndarray], np.ndarray]:
    """The polygon that ``circle`` makes, by its sides: a place inside is left of them all."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    corners = np.column_stack((np.cos(angles), np.sin(angles))) * radius + (x, y)
    along = np.roll(corners, -1, axis=0) - corners

    def shape(places: np.ndarray) -> np.ndarray:
        apart = places[..., None, :] - corners
        return (along[:, 0] * apart[..., 1] - along[:, 1] * apart[..., 0] > 0).all(axis=-1)

    return shape


def test_a_structure_fills_the_voxels_whose_centres_are_inside(drawer: Drawer) -> None:
    ks = (1, 2, 3, 5)
    drawing = drawer.draw([Roi("Liver", [circle(drawer.stack, k, (15.3, 17.2), 9.1 + k / 3) for k in ks])])
    for k in range(len(drawing.labels)):
        expected = drawer.inside(k, disc(15.3, 17.2, 9.1 + k / 3)) if k in ks else False
        np.testing.assert_array_equal(drawing.labels[k] == 1, expected)
    assert {note.code: note.count for note in drawing.notes} == {"slices-left-out": 1}
    columns, rows = drawer.stack.pixel_mm
    mm3 = np.count_nonzero(drawing.labels) * columns * rows * np.mean(drawer.stack.gaps_mm)
    assert drawing.sizes_mm3 == pytest.approx({1: mm3})


def test_one_contour_inside_another_is_a_hole_and_one_inside_that_an_island(drawer: Drawer) -> None:
    radii = (14.0, 9.0, 4.0)
    contours = [circle(drawer.stack, 2, (17.03, 18.07), radius) for radius in (9.0, 14.0, 4.0)]
    drawing = drawer.draw([Roi("Ring", contours)])
    outer, hole, island = (drawer.inside(2, disc(17.03, 18.07, radius)) for radius in radii)
    np.testing.assert_array_equal(drawing.labels[2] == 1, (outer & ~hole) | island)
    assert not drawing.notes


def test_a_keyhole_and_exclusive_or_contours_leave_the_same_hole(axial: Drawer) -> None:
    outer = np.array([(5.1, 5.1), (30.1, 5.1), (30.1, 30.1), (5.1, 30.1)])
    inner = np.array([(10.1, 10.1), (10.1, 20.1), (20.1, 20.1), (20.1, 10.1)])
    keyhole = np.vstack((outer, outer[:1], inner, inner[:1]))
    as_key = axial.draw([Roi("A", [on_slice(STACK, 1, keyhole)])])
    as_two = axial.draw([Roi("A", [on_slice(STACK, 1, points) for points in (outer, inner)], kind="CLOSEDPLANAR_XOR")])
    np.testing.assert_array_equal(as_key.labels, as_two.labels)
    assert as_key.labels.sum() == pytest.approx((25 * 25 - 10 * 10) / (0.8 * 0.6), rel=0.02)


def test_several_contours_on_a_slice_are_all_filled(drawer: Drawer) -> None:
    drawing = drawer.draw([Roi("Kidneys", [circle(drawer.stack, 4, (x, 15.1), 6) for x in (8, 28)])])
    both = drawer.inside(4, disc(8, 15.1, 6)) | drawer.inside(4, disc(28, 15.1, 6))
    np.testing.assert_array_equal(drawing.labels[4] == 1, both)


def test_the_smaller_of_two_structures_wins_and_the_loss_is_counted(drawer: Drawer) -> None:
    liver, tumour = circle(drawer.stack, 3, (17, 17), 12), circle(drawer.stack, 3, (19, 17), 4)
    body, lesion = drawer.inside(3, disc(17, 17, 12)), drawer.inside(3, disc(19, 17, 4))
    for rois, (large, small) in (
        ([Roi("Liver", [liver]), Roi("Tumour", [tumour])], (1, 2)),
        ([Roi("Tumour", [tumour]), Roi("Liver", [liver])], (2, 1)),
    ):
        drawing = drawer.draw(rois)
        np.testing.assert_array_equal(drawing.labels[3] == small, lesion)
        np.testing.assert_array_equal(drawing.labels[3] == large, body & ~lesion)
        assert drawing.overlaps == lesion.sum()


def test_structures_of_one_label_are_joined_without_holes(axial: Drawer) -> None:
    """Exclusive or holds inside a structure, not between two that a person maps to one label."""
    rois = [Roi("Lung left", [circle(STACK, 3, (15, 17), 8)]), Roi("Lung right", [circle(STACK, 3, (20.1, 17), 8)])]
    drawing = axial.draw(rois, {1: 5, 2: 5})
    both = axial.inside(3, disc(15, 17, 8)) | axial.inside(3, disc(20.1, 17, 8))
    np.testing.assert_array_equal(drawing.labels[3] == 5, both)
    assert drawing.overlaps == 0


def test_structures_that_nobody_chose_are_left_out(axial: Drawer) -> None:
    rois = [Roi("A", [circle(STACK, 1, (15, 17), 8)]), Roi("B", [circle(STACK, 1, (15, 17), 4)])]
    drawing = axial.draw(rois, {1: 300})
    assert drawing.labels.dtype == np.uint16
    assert set(np.unique(drawing.labels)) == {0, 300}


def test_a_contour_that_stands_twice_does_not_cancel_out(axial: Drawer) -> None:
    one = circle(STACK, 2, (15, 17), 8)
    drawing = axial.draw([Roi("A", [one, one])])
    np.testing.assert_array_equal(drawing.labels[2] == 1, axial.inside(2, disc(15, 17, 8)))
    assert [(note.code, note.index, note.count) for note in drawing.notes] == [("contours-twice", 1, 1)]


@pytest.mark.parametrize(
    "again", [lambda one: np.roll(one, 5, axis=0), lambda one: np.vstack((one, one[:1])), np.flipud]
)
def test_a_contour_that_stands_twice_may_begin_elsewhere_or_turn_the_other_way(
    axial: Drawer, again: Callable[[np.ndarray], np.ndarray]
) -> None:
    one = circle(STACK, 2, (15, 17), 8)
    drawing = axial.draw([Roi("A", [one, again(one)])])
    np.testing.assert_array_equal(drawing.labels[2] == 1, axial.inside(2, disc(15, 17, 8)))
    assert [(note.code, note.count) for note in drawing.notes] == [("contours-twice", 1)]


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """(4, 3) LPS of a contour through the centres of these columns and rows, on the third slice."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return on_slice(STACK, 2, corners * STACK.pixel_mm)


def test_a_wall_of_one_voxel_round_a_hole_is_drawn_by_two_equal_contours(axial: Drawer) -> None:
    """As OpenCV traces it: the hole's contour goes the other way."""
    wall = box(10, 10, 20, 20)
    for hole in (wall[::-1], np.roll(wall[::-1], 2, axis=0)):
        drawing = axial.draw([Roi("A", [wall, hole])])
        expected = np.zeros_like(drawing.labels[2])
        expected[10:21, 10:21] = 1
        expected[11:20, 11:20] = 0
        np.testing.assert_array_equal(drawing.labels[2], expected)
        assert not drawing.notes


def test_parts_that_share_an_edge_through_centres_are_one_structure(axial: Drawer) -> None:
    drawing = axial.draw([Roi("A", [box(10, 10, 20, 20), box(20, 12, 30, 18)])])
    expected = np.zeros_like(drawing.labels[2])
    expected[10:21, 10:21] = expected[12:19, 20:31] = 1
    np.testing.assert_array_equal(drawing.labels[2], expected)
    assert not drawing.notes


def test_of_structures_that_share_an_edge_through_centres_the_smaller_one_gets_it(axial: Drawer) -> None:
    drawing = axial.draw([Roi("A", [box(10, 10, 20, 20)]), Roi("B", [box(20, 12, 30, 18)])])
    expected = np.zeros_like(drawing.labels[2])
    expected[10:21, 10:21] = 1
    expected[12:19, 20:31] = 2
    np.testing.assert_array_equal(drawing.labels[2], expected)
    assert drawing.overlaps == 7
    assert not drawing.notes


def test_contours_that_cross_are_told(axial: Drawer) -> None:
    drawing = axial.draw([Roi("A", [circle(STACK, 2, (x, 17), 8) for x in (15, 20.1)])])
    first, second = axial.inside(2, disc(15, 17, 8)), axial.inside(2, disc(20.1, 17, 8))
    np.testing.assert_array_equal(drawing.labels[2] == 1, first ^ second)
    assert [(note.code, note.count) for note in drawing.notes] == [("contours-cross", 1)]


def test_contours_between_slices_go_to_the_nearest_or_are_left_out(axial: Drawer) -> None:
    normal = STACK.axes[2]
    near, far = circle(STACK, 2, (15, 17), 8) + 0.4 * normal, circle(STACK, 2, (15, 17), 5) + 1.1 * normal
    drawing = axial.draw([Roi("A", [far, near])])
    np.testing.assert_array_equal(drawing.labels[2] == 1, axial.inside(2, disc(15, 17, 8)))
    assert [(note.code, note.count) for note in drawing.notes] == [
        ("contours-between-slices", 1),
        ("contours-moved", 1),
    ]


def test_of_a_thinned_series_a_contour_that_is_moved_to_another_slice_is_told(tmp_path: Path) -> None:
    whole = replace(STACK, gaps_mm=(2.5,) * 9)
    drawer = Drawer(tmp_path, replace(STACK, gaps_mm=(5.0,) * 4))
    drawing = drawer.draw([Roi("A", [circle(whole, k, (15, 17), 8) for k in range(3, 8)])])
    # The first lies on a plane that is gone, and nothing on the slice below it.
    assert [(note.code, note.count) for note in drawing.notes][-1] == ("contours-moved", 1)


@pytest.mark.parametrize(("k", "off_mm"), [(0, -1.4), (7, 1.4), (7, 250.0)])
def test_a_contour_on_no_slice_refuses_the_structure_set(axial: Drawer, k: int, off_mm: float) -> None:
    contours = [circle(STACK, 3, (15, 17), 8), circle(STACK, k, (15, 17), 8) + off_mm * STACK.axes[2]]
    with pytest.raises(InputError, match="1 of 2 contours") as caught:
        axial.draw([Roi("A", contours)])
    assert caught.value.code == "contours-off-slices"


def test_half_a_gap_beyond_the_last_slice_still_counts(axial: Drawer) -> None:
    drawing = axial.draw([Roi("A", [circle(STACK, 7, (15, 17), 8) + 1.25 * STACK.axes[2]])])
    np.testing.assert_array_equal(drawing.labels[7] == 1, axial.inside(7, disc(15, 17, 8)))


def test_contours_across_the_slices_are_refused(axial: Drawer) -> None:
    coronal = np.array([(0, 0, 0), (10, 0, 0), (10, 0, 10), (0, 0, 10)]) + STACK.positions_mm[1] + (5, 5, 0)
    with pytest.raises(InputError, match="1 of 1 contours") as caught:
        axial.draw([Roi("A", [coronal])])
    assert caught.value.code == "contours-not-parallel"


def test_contours_that_reach_out_of_the_image_are_cut_off_and_told(axial: Drawer) -> None:
    drawing = axial.draw([Roi("Body", [circle(STACK, k, (20, 18), 30) for k in (1, 2)])])
    for k in (1, 2):
        np.testing.assert_array_equal(drawing.labels[k] == 1, axial.inside(k, disc(20, 18, 30)))
    assert [(note.code, note.count) for note in drawing.notes] == [("contours-cut-off", 2)]


def test_points_and_open_lines_have_no_inside(axial: Drawer) -> None:
    line = circle(STACK, 2, (15, 17), 8)
    rois = [
        Roi("Marker", [line[:1]], kind="POINT"),
        Roi("Wire", [line], kind="OPEN_PLANAR"),
        Roi("Empty", []),
        Roi("Liver", [line]),
    ]
    found = axial.write(rois, edit=lambda data: data.ROIContourSequence[3].ContourSequence.append(
        item(ContourGeometricType="POINT", NumberOfContourPoints=1, ContourData=["1", "2", "3"])
    ))  # fmt: skip
    assert [(one.number, one.name, one.parts) for one in found.structures] == [(4, "Liver", 1)]
    assert found.passed_over == {
        "structure of points or open lines": 2,
        "structure without a contour": 1,
        "point or open line in a structure with contours": 1,
    }
    drawing = found.draw(axial.series, {4: 1})
    np.testing.assert_array_equal(drawing.labels[2] == 1, axial.inside(2, disc(15, 17, 8)))


def test_names_colours_codes_and_references_are_read(axial: Drawer) -> None:
    contour = [circle(STACK, 2, (15, 17), 8)]
    rois = [
        Roi("  Łokieć \t\n lewy\0 ", contour, (255, 0, 128)),
        Roi("", contour, None),
        Roi("a\x1b[31m\u202eb" + "x" * 100, contour, (300, 0, 0)),
        Roi("<script>", contour, edit=lambda roi: roi.__setattr__("ROIDisplayColor", [1, 2])),
    ]

    def edit(data: Dataset) -> None:
        code = item(CodeValue="10200004", CodingSchemeDesignator="SCT", CodeMeaning="SECRETMEANING")
        private = item(CodeValue="JANE", CodingSchemeDesignator="99JANE", CodeMeaning="SECRETMEANING")
        data.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence = [code]
        data.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence = [private]

    found = axial.write(rois, edit=edit)
    assert [one.name for one in found.structures] == [
        "Łokieć lewy",
        "unnamed 2",
        "a\\x1b[31m\\u202eb" + "x" * 48,
        "<script>",
    ]
    assert [one.colour for one in found.structures] == [(255, 0, 128), None, None, None]
    assert [one.code for one in found.structures] == [LabelCode("10200004", "SCT", "Liver"), None, None, None]
    first = axial.images[0]
    assert found.references.series == {first.SeriesInstanceUID}
    assert found.references.instances == {image.SOPInstanceUID for image in axial.images}
    assert found.references.frames == {first.FrameOfReferenceUID}


@pytest.mark.parametrize(
    ("charset", "raw", "name"),
    [
        ("ISO_IR 101", "Żebro".encode("iso8859-2"), "Żebro"),
        ("", "Żebro".encode(), "Żebro"),
        ("", "Köpfe".encode("latin-1"), "Köpfe"),
        ("ISO_IR 999", "Köpfe".encode("latin-1"), "Köpfe"),
        ("ISO 2022 IR 87", b"\x1b$B4N\x1b(B", "肝"),
    ],
)
def test_names_in_other_character_sets(axial: Drawer, charset: str, raw: bytes, name: str) -> None:
    def edit(data: Dataset) -> None:
        data.SpecificCharacterSet = charset
        roi = data.StructureSetROISequence[0]
        del roi.ROIName
        roi[0x30060026] = DataElement(0x30060026, "UN", raw)

    found = axial.write([Roi("x", [circle(STACK, 2, (15, 17), 8)])], edit=edit)
    assert [one.name for one in found.structures] == [name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"72", b"71"),
        (b"\\", b" "),
        (b"11.1", b"one!"),
        (b"11.1", b"1e99"),
        (b"11.1", b" nan"),
        (b"11.1", b" inf"),
        (b"11.1", b"1_00"),
        (b"11.1", b"-.-1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(axial: Drawer, old: bytes, new: bytes) -> None:
    contour = circle(STACK, 2, (15, 17), 8)
    contour[0, 0] = 11.1
    axial.write([Roi("A", [contour])])
    path = axial.folder / "rs.dcm"
    raw = path.read_bytes()
    begin = raw.index(b"CLOSED_PLANAR")
    assert old in raw[begin:]
    path.write_bytes(raw[:begin] + raw[begin:].replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_structure_set(read_header(path), "rs.dcm").draw(axial.series, {1: 1})
    assert caught.value.code == "damaged-contours"


def test_two_structures_of_one_number_are_refused(axial: Drawer) -> None:
    contour = [circle(STACK, 2, (15, 17), 8)]
    with pytest.raises(InputError) as caught:
        axial.write(
            [Roi("A", contour), Roi("B", contour)],
            edit=lambda data: data.StructureSetROISequence[1].__setattr__("ROINumber", 1),
        )
    assert caught.value.code == "damaged-file"


def test_more_contours_on_a_slice_than_anybody_draws_are_refused(axial: Drawer) -> None:
    contours = [circle(STACK, 2, (15, 17 + n / 1000), 8, points=3) for n in range(MAX_ON_SLICE + 1)]
    with pytest.raises(InputError) as caught:
        axial.draw([Roi("A", contours)])
    assert caught.value.code == "declares-too-much"


def test_contours_over_each_other_cost_no_hours(tmp_path: Path) -> None:
    """Each pair of them is compared; hundreds that fill a slice, in each other, are nobody's."""
    wide = Drawer(tmp_path, replace(STACK, size=(512, 512), pixel_mm=(0.02, 0.02), gaps_mm=(2.0,) * 3))
    pixel_mm = wide.stack.pixel_mm
    centre = 256 * pixel_mm[0], 256 * pixel_mm[1]
    contours = [circle(wide.stack, 1, centre, (255 - n / 4) * min(pixel_mm), points=12) for n in range(200)]
    with pytest.raises(InputError) as caught:
        wide.draw([Roi("A", contours)])
    assert caught.value.code == "declares-too-much"
    assert wide.draw([Roi("A", contours[:12])]).labels.any()


def test_a_file_that_was_cut_off_is_refused_or_read_to_its_end(axial: Drawer) -> None:
    """Wherever it is cut: no other error than those that volseg raises on purpose."""
    axial.write([Roi("A", [circle(STACK, k, (15, 17), 8) for k in range(8)])])
    path = axial.folder / "rs.dcm"
    whole = path.read_bytes()
    assert struct.unpack_from("<4s", whole, 128)[0] == b"DICM"
    for length in np.linspace(200, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        try:
            found = read_structure_set(read_header(path), "rs.dcm")
            found.draw(axial.series, {one.number: 1 for one in found.structures})
        except InputError as error:
            assert error.code in {"truncated-file", "damaged-file", "damaged-contours", "not-dicom"}  # noqa: PT017


def test_filled_gaps_take_no_contour_from_elsewhere(tmp_path: Path) -> None:
    """A slice lacks and is made up: contours drawn on it are told, and never laid on a neighbour."""
    whole = replace(STACK, gaps_mm=(2.5,) * 7)
    drawer = Drawer(tmp_path, replace(STACK, gaps_mm=(2.5, 2.5, 5.0, 2.5, 2.5)), Repairs(gaps=True))
    assert drawer.series.is_straightened
    drawing = drawer.draw([Roi("A", [circle(whole, k, (15, 17), 8 - k / 2) for k in range(7)])])
    for place, k in enumerate((0, 1, 2, 4, 5, 6)):
        np.testing.assert_array_equal(drawing.labels[place] == 1, drawer.inside(place, disc(15, 17, 8 - k / 2)))
    assert [(note.code, note.count) for note in drawing.notes] == [("contours-between-slices", 1)]
