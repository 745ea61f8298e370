"""What the numbers of masks stand for, as told by a file beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.labels import LABELS_NAME, LabelTable

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.dataset.listing import Listing
    from volseg.labels import Region

LABEL_FOLDERS = ("labelsTr", "labelsTs")


def labels_beside(masks: Path) -> LabelTable | None:
    """The label table of a mask or a folder of masks; None where none is told.

    ``labels.txt`` in the folder tells it, or ``dataset.json`` in the folder, or above where the folder is the
    ``labelsTr`` or ``labelsTs`` of a data set.

    Raises:
        InputError: ``labels.txt`` is damaged.
        DataSetError: ``dataset.json`` makes no sense.
    """
    folder = masks if masks.is_dir() else masks.parent
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
