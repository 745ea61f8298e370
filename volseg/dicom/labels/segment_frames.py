"""The frames of a segmentation object: positions (PS3.3, C.7.6.16.2) and pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.file import frame_tags, label_tags, tags
from volseg.dicom.file.elements import Wanted
from volseg.dicom.file.header import DEFLATED, UNCOMPRESSED, read_items
from volseg.dicom.labels.label_object import ON_SLICE
from volseg.dicom.pixels import BIT_SYNTAXES, PixelLayout, layout_of, read_frames, read_series
from volseg.dicom.series.stack import SPACING_TOLERANCE, SPACING_TOLERANCE_MM, axes_of, same_orientation
from volseg.errors import InputError
from volseg.grid import Grid
from volseg.volume import MAX_VOXELS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from volseg.dicom.file.elements import Item
    from volseg.dicom.file.header import Header
    from volseg.dicom.series.stack import StackGeometry

MAX_FRAME_BYTES = 2**28
"""Of one frame that is decoded: 16384 x 16384 pixels, as no label object has."""
MAX_OWN_VOXELS = 2**29
"""Of a segmentation on a grid of its own, as labels of one byte or two."""
COARSE = 1.5
"""Times the gap between slices: a segmentation whose frames are declared to be further apart than this has thicker
slices than the series, even where each of its frames lies on one."""
SAME_PIXEL_MM = 1e-4
"""Pixel spacings that differ by no more are one: over 1000 pixels that is a tenth of a millimetre."""
MAX_NUMBER = 1e6
"""Of a position or spacing in mm: a bound for numbers that only overflow later sums."""

_WANTED = Wanted(
    frozenset(
        {
            label_tags.REFERENCED_SEGMENT_NUMBER, tags.IMAGE_POSITION_PATIENT, tags.IMAGE_ORIENTATION_PATIENT,
            tags.PIXEL_SPACING, tags.SLICE_THICKNESS, tags.SPACING_BETWEEN_SLICES,
        }
    ),
    frozenset(
        {
            frame_tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE, frame_tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
            frame_tags.PLANE_POSITION_SEQUENCE, frame_tags.PLANE_ORIENTATION_SEQUENCE, frame_tags.PIXEL_MEASURES_SEQUENCE,
            label_tags.SEGMENT_IDENTIFICATION_SEQUENCE,
        }
    ),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one orientation and pixel spacing.

    Args:
        header: of the file.
        numbers: (n,) the place of each frame in the file.
        segments: (n,) the segment that each frame shows; 0 in a label map, which shows all.
        positions_mm: (n, 3) LPS of each frame's first pixel.
        axes: (3, 3) as rows: the direction of rows, of columns, and the normal; LPS.
        pixel_mm: the step along a row and along a column.
        size: columns and rows.
        spacing_mm: between neighbouring planes, as declared; None where it is not.
        thickness_mm: of a plane, as declared; None where it is not.
    """

    header: Header
    numbers: NDArray[np.int64]
    segments: NDArray[np.int64]
    positions_mm: NDArray[np.float64]
    axes: NDArray[np.float64]
    pixel_mm: tuple[float, float]
    size: tuple[int, int]
    spacing_mm: float | None
    thickness_mm: float | None
    _whole: list[NDArray[Any]] = field(default_factory=list)

    def of_segments(self, wanted: Collection[int]) -> Frames:
        """The frames that show one of some segments."""
        return self._kept(np.isin(self.segments, list(wanted)))

    def at(self, numbers: Collection[int]) -> Frames:
        """The frames at some places in the file."""
        return self._kept(np.isin(self.numbers, list(numbers)))

    def _kept(self, kept: NDArray[np.bool_]) -> Frames:
        return replace(
            self, numbers=self.numbers[kept], segments=self.segments[kept], positions_mm=self.positions_mm[kept]
        )

    def plane(self, frame: int) -> NDArray[Any]:
        """(rows, columns) of one frame as it is stored: bits as 0 and 1, else unsigned words.

        Raises:
            InputError: the pixels are cut off, damaged, too many, or in a form without decoder.
            FileError: the file can't be read.
        """
        columns, rows = self.size
        number = int(self.numbers[frame])
        layout = self._layout
        if self._is_bits and layout.is_native:
            # Frames follow each other bit by bit, the lowest bit first, without padding (PS3.5, 8.1.1 and D.2).
            first, last = number * rows * columns, (number + 1) * rows * columns
            bits = np.unpackbits(self._bytes(first // 8, -(-last // 8)), bitorder="little")
            return bits[first % 8 : first % 8 + rows * columns].reshape(rows, columns)
        if layout.is_native and layout.syntax != DEFLATED:
            offset = layout.offset + number * layout.frame_bytes
            one: NDArray[Any] = read_frames(replace(layout, frames=1, offset=offset, length=layout.frame_bytes))[0]
            return one
        if layout.syntax == DEFLATED:
            whole: NDArray[Any] = self._inflated()[number]
            return whole
        if layout.frame_bytes > MAX_FRAME_BYTES:
            raise _declares_too_much()
        decoded: NDArray[Any] = np.empty((rows, columns), layout.dtype)
        read_series([layout], decoded[None], planes=[(0, number)], jobs=1)
        return decoded

    def _bytes(self, first: int, last: int) -> NDArray[np.uint8]:
        if self._layout.syntax == DEFLATED:
            return self._inflated()[0, 0, first:last]
        part = replace(self._layout, columns=last - first, offset=self._layout.offset + first, length=last - first)
        read: NDArray[np.uint8] = read_frames(part)[0, 0]
        return read

    def _inflated(self) -> NDArray[Any]:
        """All frames of a file that was deflated as a whole, whose size the header's reader has bounded."""
        if not self._whole:
            self._whole.append(read_frames(self._layout))
        return self._whole[0]

    @property
    def _is_bits(self) -> bool:
        return self.header.unsigned(tags.BITS_ALLOCATED) == 1

    @cached_property
    def _layout(self) -> PixelLayout:
        """Of the pixel data; of its bytes where the pixels are single bits that are not compressed."""
        header = self.header
        if not self._is_bits:
            return replace(layout_of(header), signed=False)
        columns, rows = self.size
        frames = max(1, header.integer(tags.NUMBER_OF_FRAMES) or 1)
        if header.syntax not in UNCOMPRESSED and header.syntax not in BIT_SYNTAXES:
            raise InputError(
                "A segmentation of single bits is in a transfer syntax that has no single bits, or that volseg doesn't "
                "read. Export it uncompressed.",
                code="unsupported-syntax",
            )
        bits = PixelLayout(
            path=header.path,
            syntax=header.syntax,
            frames=frames,
            rows=rows,
            columns=columns,
            bits_allocated=8,
            bits_stored=8,
            high_bit=7,
            signed=False,
            floating=False,
            big_endian=False,
            offset=header.pixel_offset,
            length=header.pixel_length,
            file_size=header.file_size,
            single_bits=True,
        )
        if not 0 < frames * rows * columns <= MAX_VOXELS:
            raise _declares_too_much()
        if not bits.is_native:
            return bits
        count = -(-frames * rows * columns // 8)
        if header.pixel_length is None or header.pixel_length < count:
            raise _declares_too_much()
        return replace(bits, frames=1, rows=1, columns=count, length=count, single_bits=False)


def _declares_too_much() -> InputError:
    return InputError(
        "A segmentation declares more pixels than its file can hold. The file is damaged or made to do harm; "
        "export it again.",
        code="declares-too-much",
    )


def read_places(header: Header) -> Frames:
    """Where the frames of a segmentation lie; no pixel is read.

    Raises:
        InputError: ``damaged-file``, frames lack; ``unplaced-frames``, they have no position, orientation or spacing;
            ``mixed-frames``, they have several orientations or spacings.
        FileError: the file can't be read.
    """
    whole = read_items(header, _WANTED)
    frames = whole.items(frame_tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
    declared = header.integer(tags.NUMBER_OF_FRAMES) or 1
    if len(frames) != declared:
        raise InputError(
            f"A segmentation declares {declared} frames and describes {len(frames)}. Export it again.",
            code="damaged-file",
        )
    shared = whole.first(frame_tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE)
    steps = {_numbers(frame, shared, frame_tags.PIXEL_MEASURES_SEQUENCE, tags.PIXEL_SPACING) for frame in frames}
    positions = [
        _numbers(frame, shared, frame_tags.PLANE_POSITION_SEQUENCE, tags.IMAGE_POSITION_PATIENT) for frame in frames
    ]
    orientations = {
        _numbers(frame, shared, frame_tags.PLANE_ORIENTATION_SEQUENCE, tags.IMAGE_ORIENTATION_PATIENT)
        for frame in frames
    }
    axes = [found for found in map(axes_of, orientations) if found is not None]
    if (
        len(axes) < len(orientations)
        or any(len(position) != 3 for position in positions)
        or any(len(step) != 2 or min(step) <= 0 for step in steps)
    ):
        raise InputError(
            "A segmentation's frames have no position, orientation or spacing in the patient.", code="unplaced-frames"
        )
    spacings = np.array(sorted(steps))
    if not all(same_orientation(axes[0], other) for other in axes) or np.ptp(spacings, axis=0).max() > SAME_PIXEL_MM:
        raise InputError(
            "A segmentation has frames of several orientations or spacings, which make no one mask.",
            code="mixed-frames",
        )
    measures = next(
        (group.first(frame_tags.PIXEL_MEASURES_SEQUENCE) for group in (shared, *frames[:1]) if group is not None), None
    )
    return Frames(
        header=header,
        numbers=np.arange(len(frames)),
        segments=np.array(segments_of(frames, shared)),
        positions_mm=np.array(positions),
        axes=axes[0],
        pixel_mm=(float(spacings[0][1]), float(spacings[0][0])),  # between rows first (PS3.3, 10.7.1.3)
        size=(header.unsigned(tags.COLUMNS) or 0, header.unsigned(tags.ROWS) or 0),
        spacing_mm=_positive(measures, tags.SPACING_BETWEEN_SLICES),
        thickness_mm=_positive(measures, tags.SLICE_THICKNESS),
    )


def segments_of(frames: Sequence[Item], shared: Item | None) -> list[int]:
    """The segment that each frame shows, by its own functional groups or by those that all share; 0 for none."""

    def of(group: Item | None) -> int | None:
        inner = group.first(label_tags.SEGMENT_IDENTIFICATION_SEQUENCE) if group else None
        return inner.unsigned(label_tags.REFERENCED_SEGMENT_NUMBER) if inner else None

    common = of(shared) or 0
    return [common if number is None else number for number in map(of, frames)]


def _numbers(frame: Item, shared: Item | None, sequence: int, tag: int) -> tuple[float, ...]:
    """A value of a frame's functional groups, or of those that all frames share; empty where it makes no sense."""
    for group in (frame, shared):
        inner = group.first(sequence) if group else None
        if inner is not None:
            numbers = inner.numbers(tag)
            return numbers if all(abs(number) < MAX_NUMBER for number in numbers) else ()
    return ()


def _positive(item: Item | None, tag: int) -> float | None:
    number = item.number(tag) if item else None
    return number if number is not None and 0 < number < MAX_NUMBER else None


@dataclass(frozen=True, eq=False)
class Places:
    """(n,) the plane that each frame lies on, and the row and column of it where the frame begins."""

    planes: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


def places_on_slices(frames: Frames, geometry: StackGeometry) -> Places | None:
    """The slice of each frame, where all frames lie on slices, pixel on pixel; else None."""
    places, on = place_on_slices(frames, geometry)
    return places if on.all() else None


def place_on_slices(frames: Frames, geometry: StackGeometry) -> tuple[Places, NDArray[np.bool_]]:
    """The nearest slice of each frame, and whether (n,) the frame lies on it, pixel on pixel.

    A frame may be smaller than the slice, or reach out of it. Slices that lie on no regular grid, as with a tilted
    gantry, are as good as others. Frames that are declared to be thicker than slices lie on none.
    """
    gaps = geometry.gaps_mm
    nearest = nearest_slices(frames.positions_mm @ geometry.axes[2], geometry)
    columns, rows = frames.size
    corners = np.array(((0.0, 0.0), (columns - 1, 0.0), (0.0, rows - 1)))
    corners_mm = corners * frames.pixel_mm @ frames.axes[:2]
    # (corner, frame, 3): along the slice's rows, its columns, and off it
    apart = (frames.positions_mm + corners_mm[:, None] - geometry.positions_mm[nearest]) @ geometry.axes.T
    pixels = apart[..., :2] / geometry.pixel_mm
    begin = np.rint(pixels[0])
    beside = np.abs(pixels - begin - corners[:, None]).max(axis=(0, 2))
    on: NDArray[np.bool_] = (beside <= ON_SLICE) & (np.abs(apart[..., 2]).max(axis=0) <= ON_SLICE * float(gaps.min()))
    if frames.spacing_mm is not None and frames.spacing_mm > COARSE * float(np.median(gaps)):
        on[:] = False
    whole = begin.astype(np.int64)
    return Places(nearest, whole[:, 1], whole[:, 0]), on


def nearest_slices(distances_mm: NDArray[np.float64], geometry: StackGeometry) -> NDArray[np.int64]:
    """(n,) the slice of a stack that is nearest to each distance along its normal."""
    known = geometry.distances_mm
    found: NDArray[np.int64] = np.searchsorted((known[1:] + known[:-1]) / 2, distances_mm)
    return found


def own_grid(frames: Frames) -> tuple[Grid, Places]:
    """The regular grid that all frames lie on, which may be sheared, and the plane of each frame.

    Raises:
        InputError: ``uneven-frames``, there is none; ``unplaced-frames``, its spacing is not known;
            ``declares-too-much``.
    """
    distances = frames.positions_mm @ frames.axes[2]
    low = int(distances.argmin())
    apart = distances - distances[low]
    step_mm = _step(np.unique(np.round(apart, 4)), frames)
    planes = np.rint(apart / step_mm)
    count = int(planes.max()) + 1
    columns, rows = frames.size
    if count * columns * rows > MAX_OWN_VOXELS:
        raise InputError(
            "A segmentation's frames span more voxels than any scanner makes; it was left alone.",
            code="declares-too-much",
        )
    # Frames may be stacked off their normal, as the slices of a tilted gantry are.
    sideways = (frames.positions_mm - frames.positions_mm[low]) @ frames.axes[:2].T
    drift = planes @ sideways / max(1.0, float(planes @ planes))
    tolerance_mm = max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE * step_mm)
    off_plane, beside = np.abs(apart - planes * step_mm), np.abs(sideways - np.outer(planes, drift))
    if max(off_plane.max(), beside.max()) > tolerance_mm:
        raise InputError(
            "A segmentation's frames lie neither on the slices of its series nor on a regular grid.",
            code="uneven-frames",
        )
    along = step_mm * frames.axes[2] + drift @ frames.axes[:2]
    length_mm = float(np.linalg.norm(along))
    direction = np.column_stack((frames.axes[0], frames.axes[1], along / length_mm))
    origin = frames.positions_mm[low]
    grid = Grid.from_lps((columns, rows, count), origin, direction, (*frames.pixel_mm, length_mm))
    nowhere = np.zeros(len(planes), np.int64)
    return grid, Places(planes.astype(np.int64), nowhere, nowhere)


def _step(places_mm: NDArray[np.float64], frames: Frames) -> float:
    """The distance between planes: as declared where all frames keep to it, else the least that there is."""
    gaps = np.diff(places_mm)
    gaps = gaps[gaps > SPACING_TOLERANCE_MM]
    for declared in (frames.spacing_mm, None if len(gaps) else frames.thickness_mm):
        if declared is not None:
            off_mm = np.abs(gaps / declared - np.rint(gaps / declared)) * declared
            if (off_mm <= SPACING_TOLERANCE_MM).all():
                return declared
    if not len(gaps):
        raise InputError(
            "A segmentation has one plane, which lies on no slice of its series, and doesn't say how thick it is.",
            code="unplaced-frames",
        )
    return float(gaps.min())
