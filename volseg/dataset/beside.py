"""What the numbers of masks stand for, as told by a file beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.errors import InputError
from volseg.labels import IGNORE_NAME, LABELS_NAME, LabelTable
from volseg.nomenclature import key_of
from volseg.volume import is_segmentation, list_images, segments_in

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.dataset.listing import Listing
    from volseg.labels import Region

LABEL_FOLDERS = ("labelsTr", "labelsTs")
DIFFER = "labels-differ"
"""The code of masks that call one number by two names."""
REMEDY = "In 3D Slicer give the segments of all cases the names and label values that the labels have."


def labels_beside(masks: Path) -> LabelTable | None:
    """The label table of a mask or a folder of masks; None where none is told.

    ``labels.txt`` in the folder tells it, or ``dataset.json`` in the folder, or above where the folder is the
    ``labelsTr`` or ``labelsTs`` of a data set. Segmentations of 3D Slicer name their segments themselves, and have to
    agree with that.

    Raises:
        InputError: ``labels.txt`` or the header of a segmentation is damaged, or they call one number by two names
            (``labels-differ``).
        DataSetError: ``dataset.json`` makes no sense.
    """
    told = _told_beside(masks if masks.is_dir() else masks.parent)
    for path in list_images(masks) if masks.is_dir() else [masks]:
        segments = segments_in(path) if is_segmentation(path) and path.is_file() else None
        told = segments if told is None else told if segments is None else _agreed(told, segments, path)
    return told


def disagreement(told: LabelTable, segments: LabelTable) -> str | None:
    """Which number or name of a segmentation stands for another than was told, in words; None where all agree.

    Names that differ in case, blanks and punctuation alone are one, as ``key_of`` has it.
    """
    names = {label.index: key_of(label.name) for label in told.labels}
    numbers = {name: index for index, name in names.items()}
    for label in segments.labels:
        key = key_of(label.name)
        if names.get(label.index, key) != key or numbers.get(key, label.index) != label.index:
            return f"calls {label.index} {label.name!r}, which is another label elsewhere"
    if segments.ignore in told.indices:
        return f"calls {segments.ignore} {IGNORE_NAME!r}, which is a label elsewhere"
    return None


def _agreed(told: LabelTable, segments: LabelTable, path: Path) -> LabelTable:
    """What is told, and what the segments of one more mask add to it.

    Raises:
        InputError: a number or a name stands for another than was told.
    """
    apart = disagreement(told, segments)
    if apart is not None:
        raise InputError(f"{path} {apart}. {REMEDY}", code=DIFFER, path=path)
    added = tuple(label for label in segments.labels if label.index not in told.indices)
    return LabelTable((*told.labels, *added), told.ignore if told.ignore is not None else segments.ignore)


def _told_beside(folder: Path) -> LabelTable | None:
    """What ``labels.txt`` or ``dataset.json`` tells of the masks in a folder."""
    if (folder / LABELS_NAME).exists():
        table = LabelTable.read(folder / LABELS_NAME)
        if table.ignore is None and folder.name in LABEL_FOLDERS:
            listing = _listing_beside(folder)
            ignore = listing.labels.ignore if listing else None
            # Voxels that dataset.json says nobody judged may bear another name for the eye.
            table = LabelTable(tuple(label for label in table.labels if label.index != ignore), ignore)
        return table if len(table) else None
    found = _listing_beside(folder)
    return found.labels if found and len(found.labels) else None


def regions_beside(masks: Path) -> tuple[Region, ...]:
    """The regions that ``dataset.json`` names as unions of labels, beside a mask or a folder of masks.

    Raises:
        DataSetError: ``dataset.json`` makes no sense.
    """
    found = _listing_beside(masks if masks.is_dir() else masks.parent)
    return found.regions if found else ()


def _listing_beside(folder: Path) -> Listing | None:
    from volseg.dataset.listing import DATASET_JSON, read_listing

    for place in (folder, folder.parent if folder.name in LABEL_FOLDERS else folder):
        if (place / DATASET_JSON).exists():
            return read_listing(place / DATASET_JSON)
    return None
