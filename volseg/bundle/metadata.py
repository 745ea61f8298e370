"""What ``metadata.json`` has to say: MONAI's schema, and what predicting needs to know beyond it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

from pydantic import TypeAdapter, ValidationError

from volseg.dataset.listing import LabelDetail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.planning.component import ConfigValue

REQUIRED_TEXTS = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors",
    "copyright",
)  # fmt: skip
OPTIONAL_TEXTS = ("data_source", "data_type", "image_classes", "label_classes", "pred_classes", "intended_use")
REQUIRED_MAPPINGS = ("required_packages_version",)
OLDER_MAPPINGS = {"required_packages_version": "optional_packages_version"}
"""What a key was called before the schema of 2024-07-25; the Zoo of 2024 has it so."""
OPTIONAL_MAPPINGS = ("changelog", "eval_metrics", "supported_apps")
NETWORK_FORMAT = "network_data_format"
LABEL_DETAILS = "label_details"
"""The key of the labels' colours and codes, as in ``dataset.json``."""
FORMATS = re.compile(r"[_a-zA-Z0-9]+_data_format")
"""The network's, and those of other parts, such as ``autoencoder_data_format``."""


def metadata_faults(metadata: dict[str, ConfigValue]) -> Iterator[str]:
    """Each way in which metadata breaks MONAI's schema of 2024-07-25 (``meta_schema_20240725.json``), as a clause."""
    for key in REQUIRED_TEXTS:
        if key not in metadata:
            yield f"{key} is missing"
    for key in (*REQUIRED_MAPPINGS, NETWORK_FORMAT):
        if key not in metadata and not (key in OLDER_MAPPINGS and isinstance(metadata.get(OLDER_MAPPINGS[key]), dict)):
            yield f"{key} is missing"
    for key in (*REQUIRED_TEXTS, *OPTIONAL_TEXTS):
        if not isinstance(metadata.get(key, ""), str):
            yield f"{key} is not a text"
    for key in (*REQUIRED_MAPPINGS, *OPTIONAL_MAPPINGS):
        if not isinstance(metadata.get(key, {}), dict):
            yield f"{key} is not a mapping"
    references = metadata.get("references", [])
    if not isinstance(references, list) or not all(isinstance(one, str) for one in references):
        yield "references is not a list of texts"
    for key, value in metadata.items():
        if isinstance(key, str) and FORMATS.fullmatch(key):
            yield from _format_faults(key, value)


def older_keys(metadata: dict[str, ConfigValue]) -> Iterator[str]:
    """Each key that stands under the name of an earlier schema, as a clause; it is read all the same."""
    for key, before in OLDER_MAPPINGS.items():
        if key not in metadata and isinstance(metadata.get(before), dict):
            yield f"{before} is what MONAI calls {key} since its schema of 2024-07-25; it is read as that"


def label_faults(metadata: dict[str, ConfigValue]) -> Iterator[str]:
    """Each way in which the metadata contradicts itself on images and labels, as a clause."""
    if input_channels(metadata) is None:
        yield f"{NETWORK_FORMAT} doesn't say how many channels the input named image has (num_channels)"
    classes = at(metadata, NETWORK_FORMAT, "outputs", "pred", "channel_def")
    table = metadata.get("label_table")
    merged = isinstance(metadata.get("regions"), dict)  # then the table has a background, and the outputs none
    if isinstance(table, dict) and isinstance(classes, dict) and len(table) != len(classes) + merged:
        yield f"label_table has {len(table)} entries, and channel_def has {len(classes)}"
    if details(metadata) is None:
        yield f"{LABEL_DETAILS} is not a mapping from labels to colours, three whole numbers up to 255, and codes"


def input_channels(metadata: dict[str, ConfigValue]) -> int | None:
    """How many channels the network takes; None where the metadata doesn't say."""
    channels = at(metadata, NETWORK_FORMAT, "inputs", "image", "num_channels")
    return int(channels) if is_whole(channels) and channels >= 1 else None


def first_channel(metadata: dict[str, ConfigValue]) -> str | None:
    """The name of the network's first channel, such as ``CT``; None where the metadata doesn't say."""
    name = at(metadata, NETWORK_FORMAT, "inputs", "image", "channel_def", "0")
    return name if isinstance(name, str) else None


def channel_names(metadata: dict[str, ConfigValue]) -> tuple[str, ...]:
    """The names of the network's channels in their order; empty where the metadata doesn't name each of several."""
    names = at(metadata, NETWORK_FORMAT, "inputs", "image", "channel_def")
    count = input_channels(metadata) or 0
    found = [names.get(str(number)) for number in range(count)] if isinstance(names, dict) and count > 1 else []
    return tuple(str(name) for name in found) if found and all(isinstance(name, str) for name in found) else ()


def details(metadata: dict[str, ConfigValue]) -> dict[str, LabelDetail] | None:
    """The colours and codes of labels; None where they make no sense."""
    try:
        return TypeAdapter(dict[str, LabelDetail]).validate_python(metadata.get(LABEL_DETAILS, {}))
    except ValidationError:
        return None


def _format_faults(name: str, value: ConfigValue) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{name} is not a mapping"
        return
    for side in ("inputs", "outputs", "post_processed_outputs"):
        found = value.get(side)
        if side not in value:
            if side != "post_processed_outputs":
                yield f"{name} has no {side}"
        elif not isinstance(found, dict):
            yield f"{name}: {side} is not a mapping"
        else:
            for key, entry in found.items():
                yield from _entry_faults(f"{name}: {side}: {key}", entry)


def _entry_faults(place: str, entry: ConfigValue) -> Iterator[str]:
    """A number, a text or a flag stands for itself; a mapping describes a tensor."""
    if isinstance(entry, (str, bool, int, float)):
        return
    if not isinstance(entry, dict):
        yield f"{place} is neither a value nor a mapping"
        return
    checks = {
        "type": (_is_text, "a text"),
        "format": (_is_text, "a text"),
        "num_channels": (is_whole, "a whole number"),
        "spatial_shape": (_is_shape, "a list of whole numbers or texts"),
        "dtype": (_is_text, "a text"),
        "value_range": (_is_range, "a list of numbers"),
    }
    for key, (is_right, what) in checks.items():
        if key not in entry:
            yield f"{place} has no {key}"
        elif not is_right(entry[key]):
            yield f"{place}: {key} is not {what}"
    if not isinstance(entry.get("is_patch_data", False), bool):
        yield f"{place}: is_patch_data is neither true nor false"
    if not isinstance(entry.get("channel_def", {}), dict):
        yield f"{place}: channel_def is not a mapping"


def _is_text(value: ConfigValue) -> bool:
    return isinstance(value, str)


def is_whole(value: ConfigValue) -> TypeGuard[int]:
    """Whether a value is a whole number, which JSON may write as 3.0."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _is_shape(value: ConfigValue) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) or is_whole(one) for one in value)


def _is_range(value: ConfigValue) -> bool:
    return isinstance(value, list) and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value)


def at(tree: ConfigValue, *keys: str) -> ConfigValue:
    """What stands at a place in a config; None where nothing does."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
