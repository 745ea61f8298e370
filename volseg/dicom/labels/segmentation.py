"""Segmentation objects (PS3.3, A.51 and C.8.20): binary, fractional and label map, each frame at its own place.

What a frame shows, and where, is told by its functional groups and by nothing else, such as its number. The images
that it was derived from tell alone which volume it belongs to, where several lie at its place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from volseg.dicom.file import frame_tags, label_tags, tags
from volseg.dicom.file.elements import Wanted
from volseg.dicom.file.header import read_items
from volseg.dicom.labels.colours import rgb_of
from volseg.dicom.labels.concepts import UNCODED, concept_of
from volseg.dicom.labels.label_object import (
    Drawing,
    ImageReference,
    LabelObject,
    Note,
    Part,
    References,
    Structure,
    images_of,
    label_code,
    require_structures,
    structure_name,
)
from volseg.dicom.labels.painting import Painted, Patch, mask_dtype, paint
from volseg.dicom.labels.segment_frames import (
    Frames,
    Places,
    own_grid,
    place_on_slices,
    places_on_slices,
    read_places,
    segments_of,
)
from volseg.errors import InputError
from volseg.labels import Label

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from numpy.typing import NDArray

    from volseg.dicom.file.elements import Item
    from volseg.dicom.file.header import Header
    from volseg.dicom.series.series import Series
    from volseg.labels import LabelCode

BINARY, FRACTIONAL, LABEL_MAP = "BINARY", "FRACTIONAL", "LABELMAP"
THRESHOLD = 0.5
"""Of MaximumFractionalValue: from here on a voxel belongs to the structure, be it a probability or an occupancy."""
THRESHOLDED = "fractional-thresholded"

_WANTED = Wanted(
    frozenset(
        {
            label_tags.SPECIFIC_CHARACTER_SET, label_tags.SEGMENT_NUMBER, label_tags.SEGMENT_LABEL,
            label_tags.SEGMENT_DESCRIPTION, label_tags.CODE_VALUE,
            label_tags.CODING_SCHEME_DESIGNATOR, label_tags.LONG_CODE_VALUE, label_tags.CODE_MEANING, label_tags.RECOMMENDED_DISPLAY_CIELAB_VALUE,
            label_tags.SEGMENTATION_TYPE, label_tags.MAXIMUM_FRACTIONAL_VALUE, label_tags.REFERENCED_SEGMENT_NUMBER,
            label_tags.REFERENCED_SOP_INSTANCE_UID, label_tags.REFERENCED_FRAME_NUMBER, tags.SERIES_INSTANCE_UID,
            tags.PIXEL_PADDING_VALUE,
        }
    ),
    frozenset(
        {
            label_tags.SEGMENT_SEQUENCE, label_tags.SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, label_tags.REFERENCED_SERIES_SEQUENCE,
            label_tags.REFERENCED_INSTANCE_SEQUENCE, frame_tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
            frame_tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, label_tags.SEGMENT_IDENTIFICATION_SEQUENCE,
            label_tags.DERIVATION_IMAGE_SEQUENCE, label_tags.SOURCE_IMAGE_SEQUENCE,
        }
    ),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Segmentation(LabelObject):
    """A SEG object.

    Args:
        type: binary, fractional or label map.
        declared: the numbers of all its segments.
        background: the value of a label map that stands for no segment (PS3.3, C.8.20.2).
        maximum: of fractional values.
    """

    kind: ClassVar[str] = "SEG"

    type: str = BINARY
    declared: frozenset[int] = frozenset()
    background: int = 0
    maximum: int = 255

    def off_slices_mm(self, series: Series) -> NDArray[np.float64]:
        """0 where a frame lies on a slice, pixel on pixel, and infinite otherwise: its grid is its own then."""
        _, on = place_on_slices(read_places(self.header), series.geometry)
        return np.where(on, 0.0, np.inf)

    def draw(self, series: Series, chosen: Mapping[int, int], parts: Collection[int] | None = None) -> Drawing:
        """Draw segments: on the slices where all frames lie on them, else on a regular grid of the frames' own.

        Raises:
            InputError: ``unplaced-frames``, a frame has no position, orientation or spacing; ``mixed-frames``, frames
                of several orientations or spacings; ``uneven-frames``, frames that lie neither on the slices nor on a
                regular grid; ``undeclared-segment``; and what reading pixels may raise.
            FileError: the file can't be read.
        """
        frames = read_places(self.header)
        if parts is not None:
            frames = frames.at(parts)
        if self.type != LABEL_MAP:
            frames = frames.of_segments(chosen)
        geometry = series.geometry
        places = places_on_slices(frames, geometry)
        if places is not None:
            right_mm, down_mm = geometry.pixel_mm
            shape = (len(series.slices), geometry.size[1], geometry.size[0])
            return self._drawn(frames, places, chosen, shape, right_mm * down_mm * geometry.spacing_mm)
        grid, places = own_grid(frames)
        columns, rows, count = grid.shape
        return replace(self._drawn(frames, places, chosen, (count, rows, columns), grid.voxel_volume_mm3), grid=grid)

    def _drawn(
        self,
        frames: Frames,
        places: Places,
        chosen: Mapping[int, int],
        shape: tuple[int, int, int],
        voxel_mm3: float,
    ) -> Drawing:
        draw = self._map if self.type == LABEL_MAP else self._paint
        painted, outside = draw(frames, places, chosen, shape)
        return Drawing(
            painted.labels,
            None,
            {index: count * voxel_mm3 for index, count in painted.counts.items()},
            painted.overlaps,
            (THRESHOLDED,) if self.type == FRACTIONAL else (),
            tuple(Note("voxels-outside", index, count) for index, count in sorted((+outside).items())),
        )

    def _paint(
        self, frames: Frames, places: Places, chosen: Mapping[int, int], shape: tuple[int, int, int]
    ) -> tuple[Painted, Counter[int]]:
        """Frames of one segment each."""
        by_plane = _by_plane(places)
        outside: dict[int, tuple[int, int]] = {}

        def patches(k: int) -> Iterator[tuple[int, Patch]]:
            for frame in by_plane.get(k, ()):
                index = chosen[int(frames.segments[frame])]
                filled = self._filled(frames.plane(frame))
                patch, lost = Patch.of_plane(
                    filled, int(places.rows[frame]), int(places.columns[frame]), (shape[1], shape[2])
                )
                outside[frame] = index, lost
                if patch is not None:
                    yield index, patch

        painted = paint(shape, chosen.values(), patches)
        counts: Counter[int] = Counter()
        for index, lost in outside.values():
            counts[index] += lost
        return painted, counts

    def _filled(self, plane: NDArray[Any]) -> NDArray[np.bool_]:
        if self.type == FRACTIONAL:
            return np.asarray(plane >= THRESHOLD * self.maximum)
        return np.asarray(plane != 0)

    def _map(
        self, frames: Frames, places: Places, chosen: Mapping[int, int], shape: tuple[int, int, int]
    ) -> tuple[Painted, Counter[int]]:
        """Frames of which each shows all segments, none of which overlap."""
        dtype = mask_dtype(chosen.values())
        found: NDArray[Any] = np.zeros(shape, dtype)
        table = np.zeros(2**16, dtype)
        table[list(chosen)] = list(chosen.values())
        known = np.zeros(2**16, dtype=bool)
        known[[self.background, *self.declared]] = True
        table[self.background] = 0
        counts = np.zeros(int(table.max()) + 1, np.int64)
        outside = counts.copy()
        for k, on_plane in _by_plane(places).items():
            for frame in on_plane:
                plane = frames.plane(frame)
                if plane.dtype.itemsize > 2 or not known[plane].all():
                    raise InputError(
                        "A label map has values that no segment is declared for. Export it again.",
                        code="undeclared-segment",
                    )
                mapped = table[plane]
                row, column = int(places.rows[frame]), int(places.columns[frame])
                inner = mapped[max(0, -row) : max(0, shape[1] - row), max(0, -column) : max(0, shape[2] - column)]
                top, left = max(0, row), max(0, column)
                region = found[k, top : top + inner.shape[0], left : left + inner.shape[1]]
                if (region != 0).any():
                    raise InputError("A label map has two frames at one place. Export it again.", code="mixed-frames")
                region[...] = inner
                counts += np.bincount(inner.ravel(), minlength=len(counts))
                outside += np.bincount(mapped.ravel(), minlength=len(counts))
        outside -= counts
        painted = Painted(found, {int(n): int(counts[n]) for n in np.flatnonzero(counts) if n}, 0)
        return painted, Counter({int(n): int(outside[n]) for n in np.flatnonzero(outside) if n})


def _by_plane(places: Places) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for frame, place in enumerate(places.planes):
        found[int(place)].append(frame)
    return found


def read_segmentation(header: Header, name: str) -> Segmentation:
    """What a SEG object says of its segments and of the images that it was drawn on; no pixel is read.

    Raises:
        InputError: ``unsupported-segmentation``, it is of an unknown type; ``undeclared-segment``; ``damaged-file``;
            ``declares-too-much``.
        FileError: it can't be read.
    """
    whole = read_items(header, _WANTED)
    kind = whole.text(label_tags.SEGMENTATION_TYPE)
    if kind not in (BINARY, FRACTIONAL, LABEL_MAP):
        raise InputError(
            "A segmentation doesn't say whether it is binary, fractional or a label map. Export it again.",
            code="unsupported-segmentation",
        )
    segments = whole.items(label_tags.SEGMENT_SEQUENCE)
    require_structures(len(segments))
    numbers = [segment.unsigned(label_tags.SEGMENT_NUMBER) for segment in segments]
    if None in numbers or len(set(numbers)) < len(numbers):
        raise InputError(
            "A segmentation's segments have no numbers, or two have the same. Export it again.", code="damaged-file"
        )
    frames = whole.items(frame_tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
    shared = whole.first(frame_tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE)
    shown = segments_of(frames, shared)
    parts = Counter(shown)
    if kind != LABEL_MAP and not set(numbers).issuperset(parts):
        raise InputError(
            "A segmentation has frames of segments that it doesn't declare. Export it again.", code="undeclared-segment"
        )
    padding = whole.unsigned(tags.PIXEL_PADDING_VALUE)
    background = padding or 0
    charset = whole.text(label_tags.SPECIFIC_CHARACTER_SET)
    of_all = _sources(shared)
    found = tuple(
        Part(0 if kind == LABEL_MAP else number, _sources(frame) or of_all)
        for number, frame in zip(shown, frames, strict=True)
    )
    structures = []
    for number, segment in zip(numbers, segments, strict=True):
        count = len(frames) if kind == LABEL_MAP else parts[number or 0]
        if number is None or not count or (kind == LABEL_MAP and number == background):
            continue
        label = structure_name(segment, label_tags.SEGMENT_LABEL, number, charset)
        structures.append(
            Structure(
                number,
                label,
                count,
                rgb_of(segment.values.get(label_tags.RECOMMENDED_DISPLAY_CIELAB_VALUE, b""), big=segment.big_endian),
                _code(segment, label),
            )
        )
    empty = 0 if kind == LABEL_MAP else sum(not parts[number or 0] for number in numbers)
    return Segmentation(
        header,
        name,
        _references(header, whole, found),
        tuple(structures),
        {"segment without a frame": empty} if empty else {},
        found,
        kind,
        frozenset(number for number in numbers if number is not None),
        background,
        whole.unsigned(label_tags.MAXIMUM_FRACTIONAL_VALUE) or 255,
    )


def _code(segment: Item, name: str) -> LabelCode | None:
    """The type of a segment; None where it is what volseg writes of a label that has no code."""
    code = label_code(segment.first(label_tags.SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE))
    if code is None or segment.text(label_tags.SEGMENT_DESCRIPTION) != UNCODED:
        return code
    unasked = concept_of(Label(1, name)).type
    return None if (code.value, code.scheme) == (unasked.value, unasked.scheme) else code


def _sources(group: Item | None) -> frozenset[ImageReference]:
    """The images that a frame was derived from (PS3.3, C.7.6.16.2.6)."""
    path = label_tags.DERIVATION_IMAGE_SEQUENCE, label_tags.SOURCE_IMAGE_SEQUENCE
    return images_of(group.along(*path)) if group else frozenset()


def _references(header: Header, whole: Item, parts: tuple[Part, ...]) -> References:
    series = whole.items(label_tags.REFERENCED_SERIES_SEQUENCE)
    instances = {
        item.uid(label_tags.REFERENCED_SOP_INSTANCE_UID)
        for item in whole.along(label_tags.REFERENCED_SERIES_SEQUENCE, label_tags.REFERENCED_INSTANCE_SEQUENCE)
    }
    return References(
        frozenset({item.uid(tags.SERIES_INSTANCE_UID) for item in series} - {""}),
        frozenset(instances - {""}) or frozenset(image.uid for part in parts for image in part.images),
        frozenset({header.uid(tags.FRAME_OF_REFERENCE_UID)} - {""}),
    )
