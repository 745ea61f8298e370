"""What a bundle was planned to learn, as its metadata has it in the words of nnU-Net's ``dataset.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from volseg.bundle.metadata import is_whole
from volseg.errors import InputError
from volseg.labels import LabelTable, Region

if TYPE_CHECKING:
    from volseg.planning.component import ConfigValue
    from volseg.planning.target import Target

TRAINED_LABELS = "trained_labels"
"""The key of the labels of the masks that are learnt from, where predicted masks have others."""
REGIONS = "regions"
ORDER = "regions_class_order"


def described(target: Target) -> dict[str, ConfigValue]:
    """Entries of ``metadata.json``; none where masks are predicted with just the labels that they are learnt from."""
    if not target.sigmoid and target.ignore is None:
        return {}
    regions: dict[str, ConfigValue] = {
        region.name: cast("list[ConfigValue]", list(region.labels)) for region in target.regions
    }
    order: list[ConfigValue] = [region.value for region in target.regions]
    return {
        TRAINED_LABELS: cast("dict[str, ConfigValue]", target.labels.to_dataset_json()),
        **({REGIONS: regions, ORDER: order} if regions else {}),
    }


def trained_labels(metadata: dict[str, ConfigValue]) -> LabelTable | None:
    """The labels of the masks that a bundle learns from, with the ignore label; None where the metadata has none."""
    labels = metadata.get(TRAINED_LABELS)
    try:
        return LabelTable.from_dataset_json(labels) if isinstance(labels, dict) else None
    except InputError:
        return None


def trained_regions(metadata: dict[str, ConfigValue]) -> tuple[Region, ...]:
    """The regions that a bundle learns, with the labels of each; none where the metadata names none."""
    regions = metadata.get(REGIONS)
    if not isinstance(regions, dict):
        return ()
    known = trained_labels(metadata) or LabelTable(())
    found = []
    for name, labels in regions.items():
        numbers = [int(one) for one in labels if is_whole(one)] if isinstance(labels, list) else []
        if not numbers or not set(numbers) <= set(known.indices):
            return ()
        found.append(Region(str(name), tuple(numbers)))
    return tuple(found)
