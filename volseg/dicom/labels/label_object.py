"""Label objects: the common interface of segmentations and structure sets."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from volseg.dicom.file import label_tags, tags
from volseg.dicom.labels.concepts import meaning_of
from volseg.errors import InputError
from volseg.labels import LabelCode
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.dicom.file.elements import Item
    from volseg.dicom.file.header import Header
    from volseg.dicom.series.series import Series
    from volseg.grid import Grid

MAX_STRUCTURES = 4096
"""In one label object; a whole-body atlas has some hundreds."""
MAX_NAME_LENGTH = 64
"""Of a structure's name, as its VR has it (PS3.5, 6.2: LO)."""
ON_SLICE = 0.1
"""Of a pixel, and of the gap between slices: so far may a frame or contour lie from a slice that it was drawn on. The
nearest voxel is the same for anything below a half."""

CODING_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM", "DCM", "FMA", "RADLEX", "UMLS", "NCIt", "LN", "UBERON"})
"""Schemes of the standard (PS3.16, 8) that name parts of the body; a private one may hold anything."""
_CODE_VALUE = re.compile(r"[A-Za-z0-9.:_-]{1,64}")


@dataclass(frozen=True)
class Structure:
    """One structure of a label object: a segment or a region of interest.

    Args:
        number: SegmentNumber or ROINumber, which tells it from the others of its object.
        name: as the object has it, made printable.
        parts: of how many frames or closed contours it consists.
        colour: 8-bit RGB.
        code: what it is, by a public coding scheme.
        frame_uid: FrameOfReferenceUID of its positions; private, and empty where it doesn't say.
    """

    number: int
    name: str
    parts: int
    colour: tuple[int, int, int] | None = None
    code: LabelCode | None = None
    frame_uid: str = ""


@dataclass(frozen=True)
class References:
    """The images that an object says it was drawn on. UIDs are private.

    Args:
        series: SeriesInstanceUIDs.
        instances: SOPInstanceUIDs.
        frames: FrameOfReferenceUIDs of the structures.
    """

    series: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()


class ImageReference(NamedTuple):
    """One image: its SOPInstanceUID, which is private, and the number of its frame from 1; 0 for all of the file."""

    uid: str
    frame: int


@dataclass(frozen=True)
class Part:
    """A frame of a segmentation, or a closed contour.

    Args:
        structure: the number of the structure that it is of; 0 where it shows all.
        images: those that it says it was drawn on.
    """

    structure: int
    images: frozenset[ImageReference] = frozenset()


@dataclass(frozen=True)
class Note:
    """A remark on how a label object was drawn.

    Args:
        code: stable, such as ``contours-cross``.
        index: the label concerned.
        count: how often.
    """

    code: str
    index: int
    count: int


@dataclass(frozen=True, eq=False)
class Drawing:
    """Structures as voxels.

    Args:
        labels: (slices, rows, columns): the label of each voxel, 0 for none.
        grid: where they lie; None where they lie on the slices of the series, one to one.
        sizes_mm3: the size of each label before overlaps were settled.
        overlaps: how many claims to a voxel gave way to a smaller structure's.
        changes: stable codes of what was done to the object's content, such as ``fractional-thresholded``.
        notes: what else a person should know.
    """

    labels: NDArray[Any]
    grid: Grid | None
    sizes_mm3: Mapping[int, float]
    overlaps: int = 0
    changes: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelObject(ABC):
    """A file with structures that were drawn on a series.

    Args:
        header: of the file.
        name: of the file relative to the folder that the user gave; private.
        references: the images that it was drawn on.
        structures: what can be drawn of it.
        passed_over: what can't be, counted by kind in words, such as ``structure of points``.
        parts: what it consists of, in the order of the file.
    """

    kind: ClassVar[str]
    """``SEG``, ``RTSTRUCT`` or ``mask series``."""

    header: Header
    name: str
    references: References
    structures: tuple[Structure, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    @property
    def uid(self) -> str:
        """SOPInstanceUID; private."""
        return self.header.uid(tags.SOP_INSTANCE_UID)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it was read from."""
        return (self.header.path,)

    @property
    def count(self) -> int:
        """How many objects of its kind it is."""
        return 1

    @abstractmethod
    def off_slices_mm(self, series: Series) -> NDArray[np.float64]:
        """How far each part lies off the slices of a series at most; infinite where its plane is none of them.

        Raises:
            InputError, FileError: as ``draw``.
        """

    @abstractmethod
    def draw(self, series: Series, chosen: Mapping[int, int], parts: Collection[int] | None = None) -> Drawing:
        """Draw structures on a series.

        Args:
            series: the series that they were drawn on.
            chosen: the label for each structure's number; those that are not in it are left out, and several may
                share one label.
            parts: the places of those that were drawn on this series; None for all.

        Raises:
            InputError: the object's content is damaged, or can't be placed with certainty.
            FileError: the file can't be read.
        """


def images_of(items: Iterable[Item]) -> frozenset[ImageReference]:
    """The images that references name, by file or by frame (PS3.3, 10.3)."""
    found = set[ImageReference]()
    for item in items:
        uid = item.uid(label_tags.REFERENCED_SOP_INSTANCE_UID)
        if uid:
            frames = item.numbers(label_tags.REFERENCED_FRAME_NUMBER)
            found.update(ImageReference(uid, int(frame)) for frame in frames or (0,))
    return frozenset(found)


def structure_name(item: Item, tag: int, number: int, charset: str) -> str:
    """The name of a structure: decoded, on one line, escaped where it can't be printed.

    Args:
        item: that holds the name.
        tag: of the name.
        number: of the structure, by which it is called where it has no name.
        charset: SpecificCharacterSet of the file; the item's own goes before it.
    """
    text = decoded_text(item.values.get(tag, b""), item.text(label_tags.SPECIFIC_CHARACTER_SET) or charset)
    words = " ".join(text.replace("\x00", " ").split())
    shown = printable(words)[:MAX_NAME_LENGTH].strip()
    return shown or f"unnamed {number}"


def decoded_text(raw: bytes, charset: str) -> str:
    """A text by its file's SpecificCharacterSet (PS3.5, 6.1); whatever can't be decoded is replaced."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    if not charset:  # against the standard, and then most often UTF-8
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    from pydicom.charset import convert_encodings, decode_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown character set is read as one that is known
        try:
            encodings = convert_encodings([part.strip() for part in charset.split("\\")])
        except LookupError:
            encodings = ["utf-8"]
        return str(decode_bytes(raw, encodings, set()))


def label_code(item: Item | None) -> LabelCode | None:
    """What a code sequence's item says, where its scheme is a public one.

    The meaning is one of the standard's own for that code, and never the file's text.
    """
    if item is None:
        return None
    scheme = item.text(label_tags.CODING_SCHEME_DESIGNATOR)
    value = item.text(label_tags.CODE_VALUE) or item.text(label_tags.LONG_CODE_VALUE)
    if scheme not in CODING_SCHEMES or not _CODE_VALUE.fullmatch(value):
        return None
    return LabelCode(value, scheme, meaning_of(value, scheme, item.text(label_tags.CODE_MEANING)))


def require_structures(count: int) -> None:
    """Refuse an object of more structures than anybody draws.

    Raises:
        InputError: ``declares-too-much``.
    """
    if count > MAX_STRUCTURES:
        raise InputError(
            f"A label object declares {count} structures, and volseg reads {MAX_STRUCTURES}; it was left alone.",
            code="declares-too-much",
        )
