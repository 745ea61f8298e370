"""What the numbers of masks stand for, as told by a file beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.labels import LABELS_NAME, LabelTable

if TYPE_CHECKING:
    from pathlib import Path

LABEL_FOLDERS = ("labelsTr", "labelsTs")


def labels_beside(masks: Path) -> LabelTable | None:
    """The label table of a mask or a folder of masks; None where none is told.

    ``labels.txt`` in the folder tells it, or ``dataset.json`` in the folder, or above where the folder is the
    ``labelsTr`` or ``labelsTs`` of a data set.

    Raises:
        InputError: ``labels.txt`` is damaged.
        DataSetError: ``dataset.json`` makes no sense.
    """
    from volseg.dataset.listing import DATASET_JSON, read_listing

    folder = masks if masks.is_dir() else masks.parent
    if (folder / LABELS_NAME).exists():
        table = LabelTable.read(folder / LABELS_NAME)
        return table if len(table) else None
    for place in (folder, folder.parent if folder.name in LABEL_FOLDERS else folder):
        if (place / DATASET_JSON).exists():
            table = read_listing(place / DATASET_JSON).labels
            return table if len(table) else None
    return None
