"""RT structure sets (PS3.3, A.19 and C.8.8.6): closed contours, filled on the slices that they lie on."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.dicom.file import label_tags, tags
from volseg.dicom.file.elements import Wanted
from volseg.dicom.file.header import read_items
from volseg.dicom.labels.contours import cross, fill, through_centres
from volseg.dicom.labels.label_object import (
    ON_SLICE,
    Drawing,
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
from volseg.dicom.labels.painting import Patch, paint
from volseg.dicom.labels.segment_frames import nearest_slices
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from volseg.dicom.file.elements import Item
    from volseg.dicom.file.header import Header
    from volseg.dicom.series.series import Series
    from volseg.dicom.series.stack import StackGeometry

CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
"""What can be filled (PS3.3, C.8.8.6.3). Points and open lines have no inside."""
MAX_CONTOURS = 200_000
"""In one object; 150 structures on 500 slices are 75,000."""
MAX_ON_SLICE = 1000
"""Contours of one structure on one slice; even a mesh of vessels has fewer."""
MAX_OVERLAP = 2**30
"""Pixels that contours of one structure on one slice share two by two: a hundred nested ones that fill the slice do."""
MAX_NUMBER = 1e6
"""Of a coordinate in mm: a bound for numbers that only overflow later sums."""
SAME_PLANE_MM = 0.05
"""Contours whose planes differ by less are on one plane; writers round to 0.01 mm or keep float32."""
PARTLY_OUTSIDE_PIXELS = 1.0
"""A contour that reaches further than this beyond the outermost pixels is cut off; structures along the skin often
reach out by less."""

_NAMES = frozenset(
    {
        label_tags.SPECIFIC_CHARACTER_SET, label_tags.ROI_NUMBER, label_tags.ROI_NAME, label_tags.REFERENCED_FRAME_OF_REFERENCE_UID,
        label_tags.REFERENCED_ROI_NUMBER, label_tags.ROI_DISPLAY_COLOR, label_tags.CONTOUR_GEOMETRIC_TYPE,
        label_tags.REFERENCED_SOP_INSTANCE_UID, label_tags.REFERENCED_FRAME_NUMBER,
        label_tags.CODE_VALUE, label_tags.CODING_SCHEME_DESIGNATOR,
        label_tags.LONG_CODE_VALUE, label_tags.CODE_MEANING, tags.SERIES_INSTANCE_UID, tags.FRAME_OF_REFERENCE_UID,
    }
)  # fmt: skip
_SEQUENCES = frozenset(
    {
        label_tags.REFERENCED_FRAME_OF_REFERENCE_SEQUENCE, label_tags.RT_REFERENCED_STUDY_SEQUENCE,
        label_tags.RT_REFERENCED_SERIES_SEQUENCE, label_tags.CONTOUR_IMAGE_SEQUENCE, label_tags.STRUCTURE_SET_ROI_SEQUENCE,
        label_tags.ROI_CONTOUR_SEQUENCE, label_tags.CONTOUR_SEQUENCE, label_tags.RT_ROI_OBSERVATIONS_SEQUENCE,
        label_tags.RT_ROI_IDENTIFICATION_CODE_SEQUENCE,
    }
)  # fmt: skip
_SUMMARY = Wanted(_NAMES, _SEQUENCES)
_CONTOURS = Wanted(
    frozenset(
        {
            label_tags.REFERENCED_ROI_NUMBER, label_tags.CONTOUR_GEOMETRIC_TYPE, label_tags.NUMBER_OF_CONTOUR_POINTS,
            label_tags.CONTOUR_DATA,
        }
    ),
    frozenset({label_tags.ROI_CONTOUR_SEQUENCE, label_tags.CONTOUR_SEQUENCE}),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class StructureSet(LabelObject):
    """An RTSTRUCT object."""

    kind: ClassVar[str] = "RTSTRUCT"

    def off_slices_mm(self, series: Series) -> NDArray[np.float64]:
        """How far each contour lies off the slices that are nearest to its points."""
        geometry = series.geometry
        apart = np.zeros(len(self.parts))
        for _, contours in _by_roi(read_items(self.header, _CONTOURS)):
            for part, contour in contours.items():
                distances = contour @ geometry.axes[2]
                apart[part] = np.abs(distances - geometry.distances_mm[nearest_slices(distances, geometry)]).max()
        return apart

    def draw(self, series: Series, chosen: Mapping[int, int], parts: Collection[int] | None = None) -> Drawing:
        """Fill contours on the slices that they lie on: voxels whose centre is inside or on one, by the even-odd rule.

        Contours of one structure on one slice are combined by exclusive or, so that one inside another is a hole.

        Raises:
            InputError: ``contours-off-slices``, a contour lies on no slice; ``contours-not-parallel``, one lies across
                the slices; ``damaged-contours``, the numbers of one make no sense; ``declares-too-much``.
            FileError: the file can't be read.
        """
        geometry = series.geometry
        whole = read_items(self.header, _CONTOURS)
        notes: Counter[tuple[str, int]] = Counter()
        on_slice: dict[int, list[tuple[int, list[NDArray[np.float64]]]]] = defaultdict(list)
        columns, rows = geometry.size
        right_mm, down_mm = pixel_mm = geometry.pixel_mm
        for number, every in _by_roi(whole, chosen):
            index = chosen[number]
            contours = [contour for part, contour in every.items() if parts is None or part in parts]
            if not contours:
                continue
            for k, polygons in _on_slices(contours, index, geometry, notes).items():
                notes["contours-cross", index] += _crossings(polygons, (rows, columns), pixel_mm)
                on_slice[k].append((index, polygons))

        def patches(k: int) -> Iterator[tuple[int, Patch]]:
            for index, polygons in on_slice.get(k, ()):
                patch = fill(polygons, (rows, columns), pixel_mm)
                if patch is not None:
                    yield index, patch

        painted = paint((len(series.slices), rows, columns), chosen.values(), patches)
        voxel_mm3 = right_mm * down_mm * geometry.spacing_mm
        return Drawing(
            painted.labels,
            None,
            {index: count * voxel_mm3 for index, count in painted.counts.items()},
            painted.overlaps,
            (),
            tuple(Note(code, index, count) for (code, index), count in sorted((+notes).items())),
        )


def read_structure_set(header: Header, name: str) -> StructureSet:
    """What an RTSTRUCT object says of its structures and of the images that it was drawn on.

    Raises:
        InputError: ``damaged-file`` or ``declares-too-much``.
        FileError: it can't be read.
    """
    whole = read_items(header, _SUMMARY)
    rois = whole.items(label_tags.STRUCTURE_SET_ROI_SEQUENCE)
    require_structures(len(rois))
    contours = {
        _number(roi, label_tags.REFERENCED_ROI_NUMBER): roi for roi in whole.items(label_tags.ROI_CONTOUR_SEQUENCE)
    }
    observations = {
        _number(item, label_tags.REFERENCED_ROI_NUMBER): item
        for item in whole.items(label_tags.RT_ROI_OBSERVATIONS_SEQUENCE)
    }
    if sum(len(roi.items(label_tags.CONTOUR_SEQUENCE)) for roi in contours.values()) > MAX_CONTOURS:
        raise InputError(
            f"A structure set has more than {MAX_CONTOURS} contours; it was left alone.", code="declares-too-much"
        )
    charset = whole.text(label_tags.SPECIFIC_CHARACTER_SET)
    structures, passed_over = [], Counter[str]()
    for roi in rois:
        number = _number(roi, label_tags.ROI_NUMBER)
        drawn = contours.get(number)
        kinds = (
            [item.text(label_tags.CONTOUR_GEOMETRIC_TYPE) for item in drawn.items(label_tags.CONTOUR_SEQUENCE)]
            if drawn
            else []
        )
        closed = sum(kind in CLOSED for kind in kinds)
        if not closed:
            passed_over["structure of points or open lines" if kinds else "structure without a contour"] += 1
            continue
        if closed < len(kinds):
            passed_over["point or open line in a structure with contours"] += len(kinds) - closed
        observed = observations.get(number)
        structures.append(
            Structure(
                number,
                structure_name(roi, label_tags.ROI_NAME, number, charset),
                closed,
                _rgb(drawn) if drawn else None,
                label_code(observed.first(label_tags.RT_ROI_IDENTIFICATION_CODE_SEQUENCE)) if observed else None,
                roi.uid(label_tags.REFERENCED_FRAME_OF_REFERENCE_UID),
            )
        )
    if len({structure.number for structure in structures}) < len(structures):
        raise InputError(
            "A structure set gives one number to several structures, so nobody can tell them apart. Export it again.",
            code="damaged-file",
        )
    parts = tuple(
        Part(
            _number(roi, label_tags.REFERENCED_ROI_NUMBER),
            images_of(contour.items(label_tags.CONTOUR_IMAGE_SEQUENCE)),
        )
        for roi in whole.items(label_tags.ROI_CONTOUR_SEQUENCE)
        for contour in _closed(roi)
    )
    return StructureSet(header, name, _references(whole, rois), tuple(structures), passed_over, parts)


def _number(item: Item, tag: int) -> int:
    number = item.integer(tag)
    if number is None or not -(2**31) <= number < 2**31:
        raise InputError("A structure set has a structure without a number. Export it again.", code="damaged-file")
    return number


def _references(whole: Item, rois: Sequence[Item]) -> References:
    frames = whole.items(label_tags.REFERENCED_FRAME_OF_REFERENCE_SEQUENCE)
    path = (
        label_tags.REFERENCED_FRAME_OF_REFERENCE_SEQUENCE,
        label_tags.RT_REFERENCED_STUDY_SEQUENCE,
        label_tags.RT_REFERENCED_SERIES_SEQUENCE,
    )
    images = (
        *whole.along(*path, label_tags.CONTOUR_IMAGE_SEQUENCE),
        *whole.along(label_tags.ROI_CONTOUR_SEQUENCE, label_tags.CONTOUR_SEQUENCE, label_tags.CONTOUR_IMAGE_SEQUENCE),
    )
    of_rois = {roi.uid(label_tags.REFERENCED_FRAME_OF_REFERENCE_UID) for roi in rois} - {""}
    return References(
        frozenset({item.uid(tags.SERIES_INSTANCE_UID) for item in whole.along(*path)} - {""}),
        frozenset({item.uid(label_tags.REFERENCED_SOP_INSTANCE_UID) for item in images} - {""}),
        frozenset(of_rois or {item.uid(tags.FRAME_OF_REFERENCE_UID) for item in frames} - {""}),
    )


def _rgb(roi: Item) -> tuple[int, int, int] | None:
    numbers = roi.numbers(label_tags.ROI_DISPLAY_COLOR)
    if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _closed(roi: Item) -> list[Item]:
    contours = roi.items(label_tags.CONTOUR_SEQUENCE)
    return [contour for contour in contours if contour.text(label_tags.CONTOUR_GEOMETRIC_TYPE) in CLOSED]


def _by_roi(whole: Item, wanted: Collection[int] | None = None) -> Iterator[tuple[int, dict[int, NDArray[np.float64]]]]:
    """The number of each structure, or of those that are wanted, and its contours by their place among all parts."""
    first = 0
    for roi in whole.items(label_tags.ROI_CONTOUR_SEQUENCE):
        number, closed = _number(roi, label_tags.REFERENCED_ROI_NUMBER), _closed(roi)
        if wanted is None or number in wanted:
            yield number, _contours(closed, first)
        first += len(closed)


def _contours(closed: Sequence[Item], first: int) -> dict[int, NDArray[np.float64]]:
    """Closed contours that have points, by their place: (points, 3) LPS mm."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy tells of text that is no number
        for part, item in enumerate(closed, first):
            raw = item.values.get(label_tags.CONTOUR_DATA, b"").strip(b" \0")
            try:
                numbers = np.fromstring(raw, np.float64, sep="\\")
            except (ValueError, DeprecationWarning) as error:
                raise _damaged() from error
            declared = item.integer(label_tags.NUMBER_OF_CONTOUR_POINTS)
            if len(numbers) % 3 or (declared is not None and declared != len(numbers) // 3):
                raise _damaged()
            if not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > MAX_NUMBER:
                raise _damaged()
            if len(numbers):
                found[part] = numbers.reshape(-1, 3)
    return found


def _damaged() -> InputError:
    return InputError(
        "A contour's points are not the numbers that it declares, so the structure set is damaged. Export it again.",
        code="damaged-contours",
    )


def _on_slices(
    contours: Sequence[NDArray[np.float64]], index: int, geometry: StackGeometry, notes: Counter[tuple[str, int]]
) -> dict[int, list[NDArray[np.float64]]]:
    """The contours of a structure on each slice, as columns and rows in pixels, the first pixel's centre at 0, 0."""
    points = np.concatenate(contours)
    lengths = np.array([len(contour) for contour in contours])
    starts = np.cumsum(lengths) - lengths
    distances = points @ geometry.axes[2]
    low, high = np.minimum.reduceat(distances, starts), np.maximum.reduceat(distances, starts)
    middle = (low + high) / 2
    gaps, known = geometry.gaps_mm, geometry.distances_mm
    slices = nearest_slices(middle, geometry)
    # A contour is as far as half a gap from a slice at most, beyond the first and the last one too.
    off = (middle < known[0] - gaps[0] / 2 - SAME_PLANE_MM) | (middle > known[-1] + gaps[-1] / 2 + SAME_PLANE_MM)
    on_slice_mm = max(ON_SLICE * float(gaps.min()), SAME_PLANE_MM)
    across = high - low > 2 * on_slice_mm
    if across.any():
        raise InputError(
            f"{int(across.sum())} of {len(contours)} contours of a structure lie across the slices of their series, "
            "so they can't be filled on them. Export the structures on the axial planes of this series.",
            code="contours-not-parallel",
        )
    if off.any():
        raise InputError(
            f"{int(off.sum())} of {len(contours)} contours of a structure lie on no slice of their series, so the "
            "mask would be cut off. Export the series with all its slices, or leave the structure out by --labels.",
            code="contours-off-slices",
        )
    local = (points - geometry.positions_mm[np.repeat(slices, lengths)]) @ geometry.axes[:2].T / geometry.pixel_mm
    outside = (local < -0.5 - PARTLY_OUTSIDE_PIXELS) | (local > np.array(geometry.size) - 0.5 + PARTLY_OUTSIDE_PIXELS)
    notes["contours-cut-off", index] += int(np.logical_or.reduceat(outside.any(axis=1), starts).sum())
    planes = middle - known[slices]
    found: dict[int, list[NDArray[np.float64]]] = {}
    seen: dict[int, set[bytes]] = defaultdict(set)
    for k in np.unique(slices):
        here = np.flatnonzero(slices == k)
        nearest = float(planes[here][np.abs(planes[here]).argmin()])
        kept = [number for number in here if abs(planes[number] - nearest) <= SAME_PLANE_MM]
        notes["contours-between-slices", index] += len(here) - len(kept)
        notes["contours-moved", index] += len(kept) * (abs(nearest) > on_slice_mm)
        polygons = []
        for number in kept:
            polygon = local[starts[number] : starts[number] + lengths[number]]
            cycle = _cycle(polygon)
            # Two of the same would cancel out, as they shall where a wall of one pixel runs between a structure's
            # outer contour and the hole's, which goes the other way.
            turned = cycle if through_centres(polygon, geometry.pixel_mm) else _cycle(polygon[::-1])
            if {cycle, turned} & seen[int(k)]:
                notes["contours-twice", index] += 1
                continue
            seen[int(k)].add(cycle)
            polygons.append(polygon)
        found[int(k)] = polygons
    spanned = max(found) - min(found) + 1
    notes["slices-left-out", index] += spanned - len(found)
    return found


def _cycle(polygon: NDArray[np.float64]) -> bytes:
    """A contour's points in their order, the same wherever it begins and whether it repeats its first point."""
    points = polygon[:-1] if len(polygon) > 1 and (polygon[0] == polygon[-1]).all() else polygon
    return np.roll(points, -int(np.lexsort(points.T)[0]), axis=0).tobytes()


def _crossings(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int], pixel_mm: Sequence[float]) -> int:
    """How many pairs of contours overlap without one lying inside the other."""
    if len(polygons) < 2:
        return 0
    boxes = np.array([(polygon.min(axis=0), polygon.max(axis=0)) for polygon in polygons[: MAX_ON_SLICE + 1]])
    low, high = boxes[:, 0], boxes[:, 1]
    shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    pairs = np.argwhere(np.triu((shared > 0).all(axis=2), 1))
    overlap = np.clip(shared[*pairs.T], 0, size[::-1]).prod(axis=1).sum()
    if len(polygons) > MAX_ON_SLICE or overlap > MAX_OVERLAP:
        raise InputError(
            "A structure has more contours on one slice, or more of them over each other, than anybody draws; the file "
            "was left alone.",
            code="declares-too-much",
        )
    filled = {int(number): fill([polygons[number]], size, pixel_mm) for number in np.unique(pairs)}
    count = 0
    for one, other in pairs:
        first, second = filled[int(one)], filled[int(other)]
        count += first is not None and second is not None and cross(first, second)
    return count
