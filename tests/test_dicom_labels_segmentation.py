"""Segmentations drawn on series, compared with the arrays that highdicom was given and with what it reads back."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.dicom_traps.stack import OBLIQUE, Stack, write_stack
from tests.drawn import Segment, item, read_images, segmentation
from volseg.dicom import scan
from volseg.dicom.file.header import read_header
from volseg.dicom.labels.label_object import Drawing
from volseg.dicom.labels.segmentation import Segmentation, read_segmentation
from volseg.errors import InputError
from volseg.grid import Grid
from volseg.labels import LabelCode

if TYPE_CHECKING:
    from conftest import RealData

    from volseg.dicom.series.series import Series

# Neither a frame nor all frames together end on a whole byte.
STACK = Stack(size=(13, 11), pixel_mm=(0.8, 0.6), gaps_mm=(2.5,) * 6)
STACKS = {
    "axial": STACK,
    "oblique": replace(STACK, orientation=OBLIQUE),
    "tilted": replace(STACK, drift=(0.0, 0.3)),
    "uneven": replace(STACK, gaps_mm=(2.0,) * 4 + (3.5,) * 4),
}
SHAPE = (7, 11, 13)


class Drawer:
    """A series, and segmentations to draw on it."""

    def __init__(self, folder: Path, stack: Stack = STACK) -> None:
        self.folder, self.stack = folder, stack
        write_stack(folder / "ct", stack)
        self.images = read_images(folder / "ct")
        (self.series,) = scan(folder / "ct").series
        self.path = folder / "seg.dcm"

    def write(self, pixels: np.ndarray, names: Any = ("A",), kind: str = "BINARY", **options: Any) -> Segmentation:
        segmentation(self.path, self.images, pixels, names, kind, **options)
        return self.read()

    def read(self) -> Segmentation:
        return read_segmentation(read_header(self.path), "seg.dcm")

    def draw(self, *args: Any, chosen: dict[int, int] | None = None, **options: Any) -> Drawing:
        found = self.write(*args, **options)
        return found.draw(self.series, chosen or {one.number: one.number for one in found.structures})


@pytest.fixture(params=STACKS)
def drawer(request: pytest.FixtureRequest, tmp_path: Path) -> Drawer:
    return Drawer(tmp_path, STACKS[request.param])


@pytest.fixture
def axial(tmp_path: Path) -> Drawer:
    return Drawer(tmp_path)


def blobs(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Noise with whole empty slices, so that frames are left out."""
    mask = np.random.default_rng(seed).random(shape) < 0.4
    mask[0] = mask[4] = False
    return mask.astype(np.uint8)


def shape_of(drawer: Drawer) -> tuple[int, int, int]:
    return (len(drawer.images), *SHAPE[1:])


def test_binary_frames_lie_on_their_slices(drawer: Drawer) -> None:
    pixels = blobs(shape_of(drawer))
    drawing = drawer.draw(pixels)
    assert drawing.grid is None
    np.testing.assert_array_equal(drawing.labels, pixels)
    assert drawing.sizes_mm3 == pytest.approx({1: pixels.sum() * 0.48 * np.mean(drawer.stack.gaps_mm)})
    assert (drawing.overlaps, drawing.changes, drawing.notes) == (0, (), ())


@pytest.mark.parametrize("omit", [True, False])
def test_the_order_of_frames_and_left_out_frames_do_not_matter(axial: Drawer, omit: bool) -> None:
    pixels = blobs()
    order = np.random.default_rng(1).permutation(len(pixels))
    axial.images = [axial.images[k] for k in order]
    drawing = axial.draw(pixels[order], omit_empty_frames=omit)
    np.testing.assert_array_equal(drawing.labels, pixels)


def test_the_frames_own_position_counts_and_not_the_image_that_it_came_from(axial: Drawer) -> None:
    def edit(data: Dataset) -> None:
        for frame in data.PerFrameFunctionalGroupsSequence:
            source = frame.DerivationImageSequence[0].SourceImageSequence[0]
            source.ReferencedSOPInstanceUID = axial.images[0].SOPInstanceUID
            place = frame.PlanePositionSequence[0]
            x, y, z = place.ImagePositionPatient
            place.ImagePositionPatient = [x, y, float(z) + 2.5]

    pixels = blobs()
    pixels[-1] = 0
    drawing = axial.draw(pixels, edit=edit)
    np.testing.assert_array_equal(drawing.labels[1:], pixels[:-1])
    assert not drawing.labels[0].any()


def test_overlapping_segments_go_to_the_smaller_one(drawer: Drawer) -> None:
    pixels = np.stack([blobs(shape_of(drawer), seed) for seed in range(3)], axis=-1)
    pixels[..., 2] = 1
    drawing = drawer.draw(pixels, ("A", "B", "All"))
    sizes = pixels.sum(axis=(0, 1, 2))
    expected = np.zeros(shape_of(drawer), int)
    for segment in np.argsort(-sizes, kind="stable"):
        expected[pixels[..., segment] == 1] = segment + 1
    np.testing.assert_array_equal(drawing.labels, expected)
    claims = pixels.sum(axis=-1).astype(int)
    assert drawing.overlaps == (claims[claims > 0] - 1).sum()


def test_segments_that_nobody_chose_are_left_out_and_two_may_share_a_label(axial: Drawer) -> None:
    pixels = np.stack([blobs(seed=seed) for seed in range(3)], axis=-1)
    drawing = axial.draw(pixels, ("A", "B", "C"), chosen={1: 7, 3: 7})
    np.testing.assert_array_equal(drawing.labels == 7, pixels[..., 0] | pixels[..., 2])
    assert drawing.overlaps == 0


@pytest.mark.parametrize("maximum", [255, 100, 1])
def test_fractional_segments_are_cut_at_one_half(axial: Drawer, maximum: int) -> None:
    fractions = np.random.default_rng(0).random(SHAPE)
    fractions[0, 0, :3] = 0.5, 0.499, 0.501
    drawing = axial.draw(
        fractions, kind="FRACTIONAL", max_fractional_value=maximum, fractional_type=hd.seg.SegmentationFractionalTypeValues.OCCUPANCY
    )  # fmt: skip
    stored = np.around(fractions * maximum)
    np.testing.assert_array_equal(drawing.labels == 1, stored >= maximum / 2)
    assert drawing.changes == ("fractional-thresholded",)


@pytest.mark.parametrize("high", [2, 255, 300])
def test_a_label_map_shows_all_segments_in_one_frame(drawer: Drawer, high: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, shape_of(drawer))
    pixels[pixels == 2] = high
    segments = [Segment(str(number)) for number in range(1, high + 1)]
    found = drawer.write(pixels.astype(np.uint16), segments, "LABELMAP")
    assert {one.number for one in found.structures} == set(range(1, high + 1))
    drawing = found.draw(drawer.series, {1: 4, high: 9})
    np.testing.assert_array_equal(drawing.labels, np.select([pixels == 1, pixels == high], [4, 9], 0))
    assert drawing.sizes_mm3.keys() == {4, 9}


def test_the_padding_value_of_a_label_map_is_its_background(axial: Drawer) -> None:
    pixels = np.random.default_rng(0).integers(1, 4, SHAPE).astype(np.uint8)

    def edit(data: Dataset) -> None:
        data.PixelPaddingValue = 2
        assert data.SegmentSequence.pop(0).SegmentNumber == 0  # highdicom's own background

    found = axial.write(pixels, ("A", "Background", "C"), "LABELMAP", edit=edit)
    assert [one.name for one in found.structures] == ["A", "C"]
    drawing = found.draw(axial.series, {1: 1, 3: 3})
    np.testing.assert_array_equal(drawing.labels, np.where(pixels == 2, 0, pixels))


def test_a_label_map_with_undeclared_values_is_refused(axial: Drawer) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    found = axial.write(pixels, ("A", "B"), "LABELMAP", edit=lambda data: data.SegmentSequence.pop())
    with pytest.raises(InputError) as caught:
        found.draw(axial.series, {1: 1})
    assert caught.value.code == "undeclared-segment"


@pytest.mark.parametrize(
    ("kind", "syntax", "plugin"),
    [
        ("BINARY", DeflatedExplicitVRLittleEndian, ""),
        ("FRACTIONAL", DeflatedExplicitVRLittleEndian, ""),
        ("FRACTIONAL", RLELossless, "pydicom"),
        ("LABELMAP", RLELossless, "pydicom"),
        ("LABELMAP", JPEG2000Lossless, "pylibjpeg"),
    ],
)
def test_compressed_segmentations(tmp_path: Path, kind: str, syntax: str, plugin: str) -> None:
    axial = Drawer(tmp_path, replace(STACK, size=(64, 48)))
    pixels = blobs((7, 48, 64))
    axial.write(pixels, kind=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(axial.path)
        if plugin:
            data.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(axial.path)
    drawing = axial.read().draw(axial.series, {1: 1})
    np.testing.assert_array_equal(drawing.labels, pixels)


DEFLATED_FRAMES, ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.1.98"


def packed(frame: np.ndarray) -> bytes:
    return np.packbits(frame.ravel(), bitorder="little").tobytes()


def deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(content) + deflater.flush()


def run_length(content: bytes) -> bytes:
    """One segment: runs of equal bytes, and literals of one byte, by the letter of PS3.5, G.3."""
    runs = (run[0] for run in re.finditer(rb"(.)\1{0,127}", content, re.DOTALL))
    encoded = (bytes((257 - len(run) if len(run) > 1 else 0, run[0])) for run in runs)
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"".join(encoded)


def rewritten(path: Path, syntax: str, encode: Callable[[np.ndarray], bytes]) -> None:
    """Compress the frames of single bits that highdicom wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
        data.PixelData = encapsulate([encode(frame) for frame in frames])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = ENCAPSULATED_UNCOMPRESSED if syntax == DEFLATED_FRAMES else syntax
        data.save_as(path)
    if syntax == DEFLATED_FRAMES:  # younger than pydicom
        path.write_bytes(path.read_bytes().replace(ENCAPSULATED_UNCOMPRESSED.encode(), f"{syntax}\0".encode(), 1))


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (DEFLATED_FRAMES, lambda frame: deflated(packed(frame))),
        (DEFLATED_FRAMES, lambda frame: deflated(packed(frame) + b"\0" * (len(packed(frame)) % 2))),
        (ENCAPSULATED_UNCOMPRESSED, packed),
        (RLELossless, lambda frame: run_length(frame.tobytes())),
        (RLELossless, lambda frame: run_length(packed(frame))),
    ],
)
@pytest.mark.parametrize("size", [(13, 11), (16, 16), (9, 8)])
def test_single_bits_in_compressed_frames(
    tmp_path: Path, syntax: str, encode: Callable[[np.ndarray], bytes], size: tuple[int, int]
) -> None:
    axial = Drawer(tmp_path, replace(STACK, size=size))
    pixels = np.stack([blobs((7, *size[::-1]), seed) for seed in (1, 2)], axis=-1)
    found = axial.write(pixels, ("A", "B"))
    twin = found.draw(axial.series, {1: 1, 2: 2})
    rewritten(axial.path, syntax, encode)
    drawing = axial.read().draw(axial.series, {1: 1, 2: 2})
    np.testing.assert_array_equal(drawing.labels, twin.labels)
    assert set(np.unique(drawing.labels)) == {0, 1, 2}
    np.testing.assert_array_equal(axial.read().draw(axial.series, {2: 1}).labels, pixels[..., 1])


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEG2000])
def test_single_bits_in_jpeg_2000_as_highdicom_writes_them(tmp_path: Path, syntax: str) -> None:
    axial = Drawer(tmp_path, replace(STACK, size=(64, 48)))
    pixels = np.stack([blobs((7, 48, 64), seed) for seed in (1, 2)], axis=-1)
    axial.write(pixels, ("A", "B"), transfer_syntax_uid=JPEG2000Lossless)
    data = pydicom.dcmread(axial.path)
    assert data.BitsAllocated == 1
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(axial.path)
    for segment in (0, 1):
        drawing = axial.read().draw(axial.series, {segment + 1: 1})
        np.testing.assert_array_equal(drawing.labels, pixels[..., segment])


@pytest.mark.parametrize(
    ("syntax", "encode", "code"),
    [
        (JPEGLSLossless, packed, "unsupported-syntax"),
        ("1.2.840.10008.1.2.4.70", packed, "unsupported-syntax"),
        (DEFLATED_FRAMES, lambda frame: deflated(packed(frame))[:-3], "undecodable"),
        (DEFLATED_FRAMES, lambda frame: deflated(packed(frame)[:-1]), "undecodable"),
        (DEFLATED_FRAMES, lambda _: deflated(bytes(10**7)), "undecodable"),
        (DEFLATED_FRAMES, lambda frame: zlib.compress(packed(frame)), "undecodable"),
        (ENCAPSULATED_UNCOMPRESSED, lambda frame: frame.tobytes(), "undecodable"),
        (RLELossless, lambda frame: run_length(frame.tobytes()[:-40]), "undecodable"),
        (RLELossless, lambda frame: run_length(frame.tobytes() + bytes(9)), "undecodable"),
        (RLELossless, lambda frame: run_length((2 * frame).tobytes()), "undecodable"),
        (RLELossless, lambda _: run_length(bytes(10**7)), "undecodable"),
    ],
)
def test_compressed_single_bits_that_make_no_frame_are_refused(
    axial: Drawer, syntax: str, encode: Callable[[np.ndarray], bytes], code: str
) -> None:
    axial.write(blobs())
    rewritten(axial.path, syntax, encode)
    with pytest.raises(InputError) as caught:
        axial.read().draw(axial.series, {1: 1})
    assert caught.value.code == code


def world(drawing: Drawing, series: Series) -> tuple[np.ndarray, np.ndarray]:
    """The places (n, 3) in RAS mm of all voxels, and their labels."""
    grid = drawing.grid or series.grid
    array = drawing.labels.T
    return grid.to_world(np.argwhere(array > -1)), array.ravel()


def as_volume(drawer: Drawer, pixels: np.ndarray, step: int = 1) -> hd.Volume:
    """Pixels on every slice, or every other one, for highdicom, which turns and crops volumes with their geometry."""
    stack = drawer.stack
    affine = np.eye(4)
    affine[:3, 0] = stack.positions_mm[1] - stack.positions_mm[0]
    affine[:3, 1], affine[:3, 2] = stack.pixel_mm[1] * stack.axes[1], stack.pixel_mm[0] * stack.axes[0]
    affine[:3, 3] = stack.positions_mm[0]
    affine[:3, 0] *= step
    return hd.Volume(
        pixels,
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=drawer.images[0].FrameOfReferenceUID,
    )


@pytest.mark.parametrize("name", ["axial", "oblique"])
@pytest.mark.parametrize(
    "turn",
    [
        lambda volume: volume.flip_spatial(1),
        lambda volume: volume.flip_spatial([0, 2]),
        lambda volume: volume.permute_spatial_axes((1, 0, 2)),
        lambda volume: volume.permute_spatial_axes((2, 0, 1)).flip_spatial(2),
    ],
    ids=["rows flipped", "slices and columns flipped", "coronal", "sagittal"],
)
def test_another_orientation_is_drawn_on_a_grid_of_its_own(
    turn: Callable[[hd.Volume], hd.Volume], name: str, tmp_path: Path
) -> None:
    drawer = Drawer(tmp_path, STACKS[name])
    pixels = blobs()
    drawing = drawer.draw(turn(as_volume(drawer, pixels)))
    assert drawing.grid is not None
    places, labels = world(drawing, drawer.series)
    voxels = drawer.series.grid.to_voxel(places)
    nearest = np.rint(voxels).astype(int)
    assert np.abs(voxels - nearest).max() < 1e-3
    found = np.zeros(SHAPE[::-1], np.uint8)
    found[tuple(nearest[labels > 0].T)] = 1
    np.testing.assert_array_equal(found.T, pixels)


@pytest.mark.parametrize("name", ["axial", "oblique"])
def test_a_part_of_the_slices_is_laid_where_it_belongs(name: str, tmp_path: Path) -> None:
    drawer = Drawer(tmp_path, STACKS[name])
    pixels = blobs()
    drawing = drawer.draw(as_volume(drawer, pixels)[1:6, 2:9, 3:12])
    expected = np.zeros_like(pixels)
    expected[1:6, 2:9, 3:12] = pixels[1:6, 2:9, 3:12]
    assert drawing.grid is None
    np.testing.assert_array_equal(drawing.labels, expected)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_frames_that_reach_out_of_the_slices_are_cut_off_and_told(axial: Drawer, kind: str) -> None:
    pixels = blobs()
    wide = as_volume(axial, pixels).pad([(0, 0), (2, 3), (4, 1)])
    wide.array[:, 0, 0] = 1
    drawing = axial.draw(wide, kind=kind)
    np.testing.assert_array_equal(drawing.labels, pixels)
    assert [(note.code, note.index, note.count) for note in drawing.notes] == [("voxels-outside", 1, 7)]


def test_thicker_frames_are_not_laid_on_single_slices(axial: Drawer) -> None:
    """Every other frame of a 5 mm segmentation lies on a slice of the 2.5 mm series, and fills two all the same."""
    thick = as_volume(axial, np.ones((3, *SHAPE[1:]), np.uint8), step=2)
    drawing = axial.draw(thick)
    assert drawing.grid is not None
    assert drawing.grid.spacing_mm == pytest.approx((0.8, 0.6, 5.0))


def test_left_out_frames_of_its_own_grid_are_empty(axial: Drawer) -> None:
    pixels = np.zeros((9, 8, 6), np.uint8)
    pixels[[1, 4, 8], 2:5, 1:3] = 1
    volume = hd.Volume(
        array=pixels,
        affine=np.array([[0, 0, 0.5, -3.0], [0, 0.7, 0, -4.0], [1.25, 0, 0, 2.0], [0, 0, 0, 1]]),
        coordinate_system="PATIENT",
        frame_of_reference_uid=axial.images[0].FrameOfReferenceUID,
    )
    drawing = axial.draw(volume, omit_empty_frames=True)
    assert drawing.grid is not None
    expected = Grid.from_lps((6, 8, 8), (-3, -4, 3.25), np.eye(3), (0.5, 0.7, 1.25))
    assert drawing.grid.difference(expected) is None
    np.testing.assert_array_equal(drawing.labels, pixels[1:])


def test_names_colours_codes_and_references_are_read(axial: Drawer) -> None:
    pixels = np.stack([blobs(seed=seed) for seed in range(3)], axis=-1)
    segments = [
        Segment("Liver", codes.SCT.Liver, (221, 130, 101)),
        Segment("Wątroba\n<b>", Code("T-62000", "SRT", "SECRETMEANING"), (0, 0, 0)),
        Segment("X", Code("JANE", "99JANE", "SECRETMEANING")),
    ]
    found = axial.write(pixels, segments, edit=lambda data: data.SegmentSequence.append(
        item(SegmentNumber=9, SegmentLabel="Empty")
    ))  # fmt: skip
    assert [(one.number, one.name, one.parts) for one in found.structures] == [
        (1, "Liver", 5),
        (2, "Wątroba <b>", 5),
        (3, "X", 5),
    ]
    assert [one.colour for one in found.structures][1:] == [(0, 0, 0), None]
    assert [one.code for one in found.structures] == [
        LabelCode("10200004", "SCT", "Liver"),
        LabelCode("T-62000", "SRT", "Liver"),
        None,
    ]
    assert found.passed_over == {"segment without a frame": 1}
    first = axial.images[0]
    assert found.references.series == {first.SeriesInstanceUID}
    assert found.references.instances == {image.SOPInstanceUID for image in axial.images}
    assert found.references.frames == {first.FrameOfReferenceUID}

    def without(data: Dataset) -> None:
        del data.ReferencedSeriesSequence

    found = axial.write(blobs(), edit=without)
    assert found.references.series == set()
    assert found.references.instances == {axial.images[k].SOPInstanceUID for k in (1, 2, 3, 5, 6)}


@pytest.mark.parametrize("seed", range(3))
def test_colours_are_those_of_highdicom(seed: int, axial: Drawer) -> None:
    colours = [tuple(int(part) for part in np.random.default_rng(seed).integers(0, 256, 3)) for _ in range(4)]
    pixels = np.stack([blobs()] * 4, axis=-1)
    found = axial.write(pixels, [Segment(str(n), colour=colour) for n, colour in enumerate(colours)])
    for structure, colour in zip(found.structures, colours, strict=True):
        assert structure.colour is not None
        np.testing.assert_allclose(structure.colour, colour, atol=1)


def _no_position(data: Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence


def _no_spacing(data: Dataset) -> None:
    data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0, 0.8]


def _bad_orientation(data: Dataset) -> None:
    plane = data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def _two_orientations(data: Dataset) -> None:
    data.PerFrameFunctionalGroupsSequence[0].PlaneOrientationSequence = [
        item(ImageOrientationPatient=[1, 0, 0, 0, 0, 1])
    ]


def _uneven(data: Dataset) -> None:
    place = data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [x, y, float(z) + 0.9]


def _beside(data: Dataset) -> None:
    place = data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [float(x) + 0.4, y, z]


def _frame_lost(data: Dataset) -> None:
    data.PerFrameFunctionalGroupsSequence.pop()


def _undeclared(data: Dataset) -> None:
    group = data.SharedFunctionalGroupsSequence[0]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7


def _unknown_type(data: Dataset) -> None:
    data.SegmentationType = "SOMETHING"


def _twice(data: Dataset) -> None:
    data.SegmentSequence.append(data.SegmentSequence[0])


def _more_rows(data: Dataset) -> None:
    data.Rows = 1000


def _huge(data: Dataset) -> None:
    data.Rows = data.Columns = 65535


def _pixels_lost(data: Dataset) -> None:
    data.PixelData = data.PixelData[:20]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (_no_position, "unplaced-frames"), (_no_spacing, "unplaced-frames"), (_bad_orientation, "unplaced-frames"),
        (_two_orientations, "mixed-frames"), (_uneven, "uneven-frames"), (_beside, "uneven-frames"),
        (_frame_lost, "damaged-file"), (_undeclared, "undeclared-segment"),
        (_unknown_type, "unsupported-segmentation"), (_twice, "damaged-file"), (_more_rows, "declares-too-much"),
        (_huge, "declares-too-much"), (_pixels_lost, "declares-too-much"),
    ],
)  # fmt: skip
def test_what_can_not_be_placed_or_read_is_refused(axial: Drawer, edit: Callable[[Dataset], None], code: str) -> None:
    with pytest.raises(InputError) as caught:
        axial.draw(blobs(), edit=edit)
    assert caught.value.code == code


def test_a_single_plane_beside_the_slices_has_its_own_thickness(axial: Drawer) -> None:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[3, 2:6, 2:6] = 1

    def edit(data: Dataset, *, known: bool) -> None:
        _uneven_single(data)
        measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SpacingBetweenSlices
        measures.SliceThickness = 5.0 if known else None

    drawing = axial.draw(pixels, edit=lambda data: edit(data, known=True))
    assert drawing.grid is not None
    assert drawing.grid.shape == (13, 11, 1)
    assert drawing.grid.spacing_mm == pytest.approx((0.8, 0.6, 5.0))
    with pytest.raises(InputError) as caught:
        axial.draw(pixels, edit=lambda data: edit(data, known=False))
    assert caught.value.code == "unplaced-frames"


def _uneven_single(data: Dataset) -> None:
    place = data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [x, y, float(z) + 0.9]


def test_a_file_that_was_cut_off_is_refused(axial: Drawer) -> None:
    axial.write(blobs())
    whole = axial.path.read_bytes()
    for length in np.linspace(200, len(whole) - 12, 30).astype(int):
        axial.path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            axial.read().draw(axial.series, {1: 1})


@pytest.mark.parametrize("name", ["liver.dcm", "partial_overlaps.dcm"])
def test_real_segmentations_equal_what_highdicom_reads(name: str, real_data: RealData) -> None:
    folder = real_data("dicom/segmentation-objects/dcmqi")
    (series,) = scan(folder / "ct-3slice").series
    found = read_segmentation(read_header(folder / name), name)
    drawing = found.draw(series, {one.number: one.number for one in found.structures})
    assert drawing.grid is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = hd.seg.segread(folder / name).get_volume(combine_segments=False)
    assert volume.shape[1:3] == drawing.labels.shape[1:]
    # highdicom runs along the slices from one end of the frames to the other, in whichever direction.
    corners = volume.map_indices_to_reference(
        np.column_stack((np.arange(volume.shape[0]), *np.zeros((2, volume.shape[0]))))
    )
    voxels = series.grid.to_voxel(corners * (-1, -1, 1))
    np.testing.assert_allclose(voxels[:, :2], 0, atol=0.01)
    places = np.rint(voxels[:, 2]).astype(int)
    claimed = np.zeros((len(drawing.labels), *volume.shape[1:3], volume.shape[3]), bool)
    claimed[places] = volume.array != 0
    sizes = claimed.sum(axis=(0, 1, 2))
    expected = np.zeros(drawing.labels.shape, int)
    for segment in np.argsort(-sizes, kind="stable"):
        expected[claimed[..., segment]] = segment + 1
    np.testing.assert_array_equal(drawing.labels, expected)
