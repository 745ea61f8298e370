"""Finding DICOM files under a folder by content, and classifying objects by SOP class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.errors import FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.dicom.file.header import Header

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_DIRECTORY = "1.2.840.10008.1.3.10"

CLASSIC_IMAGES = {f"{_STORAGE}2": "CT", f"{_STORAGE}4": "MR", f"{_STORAGE}128": "PT"}
"""One slice a file: CT, MR and PET Image Storage (PS3.4, B.5)."""
ENHANCED_IMAGES = {
    f"{_STORAGE}2.1": "CT", f"{_STORAGE}2.2": "CT",
    f"{_STORAGE}4.1": "MR", f"{_STORAGE}4.4": "MR",
    f"{_STORAGE}130": "PT", f"{_STORAGE}128.1": "PT",
}  # fmt: skip
"""Many slices a file, with their places in functional groups; legacy converted ones too."""

LABEL_OBJECTS = {f"{_STORAGE}66.4": "SEG", f"{_STORAGE}66.7": "SEG", f"{_STORAGE}481.3": "RTSTRUCT"}
"""What structures that somebody drew come in: segmentations, label maps among them, and structure sets."""
LABEL_KINDS = frozenset({"segmentation", "radiotherapy structure set"})
"""What those are counted as among the objects that are no image."""

# The longest prefix of the SOP class that stands here names the kind.
_KINDS = {
    "1": "projection X-ray image",
    "3": "ultrasound image", "6": "ultrasound image",
    "4.2": "MR spectroscopy", "4.3": "colour image",
    "7": "secondary capture",
    "9": "waveform",
    "11": "presentation state",
    "12": "angiography", "13": "projection X-ray image",
    "20": "nuclear medicine image",
    "30": "parametric map",
    "66": "raw data", "66.1": "spatial registration", "66.2": "spatial fiducials", "66.3": "spatial registration",
    "66.4": "segmentation", "66.5": "surface mesh", "66.6": "tractography", "66.7": "segmentation",
    "67": "real-world value mapping", "68": "surface mesh",
    "77": "visible-light image or video", "77.1.6": "microscopy image", "78": "ophthalmic measurement",
    "88": "structured report", "88.59": "key object selection",
    "91": "microscopy annotation",
    "104": "encapsulated document",
    "481": "radiotherapy record", "481.1": "radiotherapy image", "481.2": "radiotherapy dose",
    "481.3": "radiotherapy structure set", "481.5": "radiotherapy plan", "481.8": "radiotherapy plan",
}  # fmt: skip


LINK, SPECIAL = "symbolic link", "special file"
UNOPENED = frozenset({LINK, SPECIAL})
"""Kinds of what is passed over without a look inside."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file under the folder, or a folder that can't be looked into.

    Args:
        path: where it lies.
        name: relative to the folder that the user gave, for stderr alone.
        skipped: why it is not opened, such as ``symbolic link``; empty for the others.
        error: why a folder can't be listed; None for files.
    """

    path: Path
    name: str
    skipped: str = ""
    error: FileError | None = None


def find_files(folder: Path) -> list[FoundFile]:
    """Every file under ``folder``, sorted by name.

    Symbolic links, pipes and devices are not opened: what a link shows inside the folder is found in its own place,
    and what it shows outside was not given. A folder in it that can't be listed costs the others nothing.

    Raises:
        UsageError: ``folder`` is absent or no folder.
        FileError: it can't be listed.
    """
    if not folder.exists():
        raise UsageError(f"{folder} does not exist. Give the folder that holds the DICOM files.", code="missing-folder")
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder. Give the folder that holds it.", code="not-a-folder")
    root = os.path.realpath(folder)
    try:
        return sorted(_walk(root), key=lambda found: found.name)
    except OSError as error:
        raise FileError(f"{folder} can't be listed: {error.strerror}.", code="cannot-read") from error


def _walk(root: str) -> Iterator[FoundFile]:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            if folder == root:
                raise
            name = folder[len(root) :].lstrip(os.sep)
            message = (
                f"A folder can't be listed: {error.strerror}. Get the right to read it, or take it out of the folder."
            )
            yield FoundFile(Path(folder), name, error=FileError(message, code="cannot-read"))
            continue
        for entry in entries:
            name = entry.path[len(root) :].lstrip(os.sep)
            if entry.is_symlink():
                yield FoundFile(Path(entry.path), name, LINK)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                regular = entry.is_file(follow_symlinks=False)
                yield FoundFile(Path(entry.path), name, "" if regular else SPECIAL)


NO_PIXELS, NO_SIZE = "image without pixel data", "image without rows or columns"
INCOMPLETE_IMAGES = frozenset({NO_PIXELS, NO_SIZE})
"""Kinds that may be a slice of which the better part is lost."""


def skipped_kind(header: Header) -> str | None:
    """The kind of an object that is no slice of a volume; None for a CT, MR or PET image."""
    sop_class = header.uid(tags.SOP_CLASS_UID)
    if header.uid(tags.MEDIA_STORAGE_SOP_CLASS_UID) == _DIRECTORY or sop_class == _DIRECTORY:
        return "DICOMDIR"
    if sop_class not in CLASSIC_IMAGES and sop_class not in ENHANCED_IMAGES:
        return _named(sop_class)
    if header.pixel_tag != tags.INTEGER_PIXEL_DATA or header.pixel_length == 0:
        return NO_PIXELS
    if not header.unsigned(tags.ROWS) or not header.unsigned(tags.COLUMNS):
        return NO_SIZE
    if header.unsigned(tags.SAMPLES_PER_PIXEL) not in (None, 1) or header.text(tags.PHOTOMETRIC_INTERPRETATION) not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        return "colour image"
    return None


def is_localizer(header: Header) -> bool:
    """Whether an image calls itself a localizer (PS3.3, C.7.6.1.1.2)."""
    return "LOCALIZER" in header.texts(tags.IMAGE_TYPE)


def _named(sop_class: str) -> str:
    parts = sop_class.removeprefix(_STORAGE).split(".") if sop_class.startswith(_STORAGE) else []
    for count in range(len(parts), 0, -1):
        kind = _KINDS.get(".".join(parts[:count]))
        if kind is not None:
            return kind
    return "unknown object"
