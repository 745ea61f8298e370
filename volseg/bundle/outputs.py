"""What a bundle's masks mean: labels that exclude each other or regions that overlap, and their names.

A name that belongs to another value is worse than none, so a value is named only where metadata and inference config
leave no doubt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from volseg.bundle.metadata import NETWORK_FORMAT, at, details, is_whole
from volseg.dataset.listing import MAX_NAME_LENGTH, with_details
from volseg.errors import InputError
from volseg.labels import MAX_INDEX, Label, LabelTable, Region
from volseg.nomenclature import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.planning.component import ConfigValue

Config = dict[str, "ConfigValue"]

BACKGROUND_NAMES = frozenset(
    ("background", "bg", "backgnd", "backgrounds", "clearlabel", "everythingelse", "none", "nothing", "null", "other",
     "others", "outside", "rest", "unlabeled", "unlabelled", "void"),
)  # fmt: skip
"""What the first channel of labels that exclude each other is called, as ``key_of`` has it."""
MAX_CHANNELS = 2**12
"""More outputs than any network has; what a stranger claims beyond is not believed."""
MAX_REFERENCES = 16
"""One after the other, before a reference is taken for none."""
KEEPING = frozenset(
    ("CastToType", "EnsureChannelFirst", "EnsureType", "FillHoles", "Identity", "Invert",
     "KeepLargestConnectedComponent", "Orientation", "RemoveSmallObjects", "Resample", "ResampleToMatch", "SaveImage",
     "Spacing", "SpatialResample", "SqueezeDim", "ToDevice", "ToNumpy", "ToTensor"),
)  # fmt: skip
"""MONAI's transforms that change no class into another."""

OVERLAP = (
    "the network's outputs overlap, and nothing tells what the values of a mask that merges them stand for "
    "(predict --regions writes one mask for each)"
)
OWN_STEPS = "the postprocessing has steps that only the bundle knows, so no output is sure to be what a name says"


class Outputs(Enum):
    """How a mask comes about from the network's channels."""

    LABELS = auto()
    """A voxel takes the number of its likeliest channel."""
    REGIONS = auto()
    """Each channel is cut at a threshold by itself, so that structures may overlap."""
    UNKNOWN = auto()
    """By steps that only the bundle knows."""


@dataclass(frozen=True)
class Meaning:
    """What a bundle's masks mean.

    Args:
        outputs: how a mask comes about.
        table: of the labels in its mask; empty where nobody knows their values.
        why: why they are named neutrally, as a clause; empty where they have their own names.
        regions: one for each channel, where they may overlap; none where they exclude each other.
        regions_why: the same as ``why`` for the regions.
    """

    outputs: Outputs
    table: LabelTable
    why: str = ""
    regions: tuple[Region, ...] = ()
    regions_why: str = ""


def meaning_of(metadata: Config, inference: Config) -> Meaning:
    """What the masks of a bundle mean, by its metadata and its inference config, of which nothing is run."""
    outputs = outputs_of(inference)
    channels, apart = _channels(metadata, inference)
    classes, fault = _classes(metadata, channels, apart)
    overlap = outputs is Outputs.REGIONS
    regions, regions_why = ((), "") if outputs is Outputs.LABELS else _regions(classes, fault, channels, inference)
    own = metadata.get("label_table")
    if own is not None:
        try:
            table = with_details(read_table(own), details(metadata) or {})
        except InputError as error:
            return Meaning(outputs, LabelTable(()), f"label_table: {error.message.rstrip('.')}", regions, regions_why)
        return Meaning(outputs, table, "", regions, regions_why)
    if overlap:
        return Meaning(outputs, LabelTable(()), OVERLAP, regions, regions_why)
    if outputs is Outputs.UNKNOWN:
        return Meaning(outputs, LabelTable(()), OWN_STEPS, regions, regions_why)
    if not fault and key_of(classes[0]) not in BACKGROUND_NAMES:
        fault = "channel_def of the output named pred has no background at 0"
    if fault:
        return Meaning(outputs, LabelTable(()).with_values(range(1, channels or 1)), fault)
    table = LabelTable(tuple(Label(index, name) for index, name in enumerate(classes) if index))
    return Meaning(outputs, with_details(table, details(metadata) or {}))


def outputs_of(inference: Config) -> Outputs:
    """How a mask comes about from the network's channels, by the postprocessing as it stands in the config."""
    done = _done(inference)
    for place, what in enumerate(done):
        if what == "threshold":
            return Outputs.REGIONS
        if what == "choose":
            return Outputs.LABELS if set(done[place + 1 :]) <= {"keep"} else Outputs.UNKNOWN
        if what == "?":
            return Outputs.REGIONS if "sigmoid" in done[:place] else Outputs.UNKNOWN
    return Outputs.REGIONS if "sigmoid" in done else Outputs.UNKNOWN


def _done(inference: Config) -> list[str]:
    """What each step of the postprocessing does to the classes."""
    return [_does(step, inference) for step in _steps(_postprocessing(inference))]


def _postprocessing(inference: Config) -> ConfigValue:
    """The part that the evaluator names, as predicting takes it; else that of MONAI's name."""
    evaluator = _followed(inference.get("evaluator"), inference)
    named = evaluator.get("postprocessing") if isinstance(evaluator, dict) else evaluator
    return inference.get("postprocessing") if named is None else _followed(named, inference)


def _followed(node: ConfigValue, inference: Config) -> ConfigValue:
    """What a reference such as ``@postprocessing`` stands for; the reference itself where that is not plain."""
    for _ in range(MAX_REFERENCES):
        found = at(inference, *node[1:].replace("::", "#").split("#")) if isinstance(node, str) else None
        if not isinstance(node, str) or not node.startswith("@") or found is None:
            break
        node = found
    return node


def _steps(node: ConfigValue) -> Iterator[ConfigValue]:
    """The transforms one by one, those of nested lists of them too."""
    inner = node.get("transforms") if isinstance(node, dict) and _short(node.get("_target_")) == "Compose" else None
    if isinstance(inner, list):
        for step in inner:
            yield from _steps(step)
    else:
        yield node


def _does(step: ConfigValue, config: Config) -> str:
    """What a step does to the classes; ``?`` where nobody can tell."""
    if not isinstance(step, dict):
        return "?"
    if step.get("_disabled_") in (True, "true", "True"):
        return "keep"
    keys = step.get("keys")
    plain = [keys] if isinstance(keys, str) else keys
    if isinstance(plain, list) and not any(
        isinstance(one, str) and (one == "pred" or one[:1] in "@$%") for one in plain
    ):
        return "keep"
    name = _short(step.get("_target_"))
    on = {
        key
        for key in ("sigmoid", "softmax", "argmax", "threshold", "to_onehot", "other")
        if _is_on(step.get(key), config)
    }
    if name in KEEPING:
        return "keep"
    if name == "Activations" and on <= {"sigmoid", "softmax"}:
        return "sigmoid" if "sigmoid" in on else "softmax"
    if name == "AsDiscrete" and on == {"argmax"}:
        return "choose"
    if name == "AsDiscrete" and on == {"threshold"}:
        return "threshold"
    return "?"


def _is_on(value: ConfigValue, config: Config) -> bool:
    """Whether an argument is given; a threshold of 0 is one, too."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, str) and first[:1] == "@":
        first = config.get(first[1:], first)
    return first is not None and first is not False


def _short(target: ConfigValue) -> str:
    """The name of a transform of MONAI's, without what tells that it takes a dictionary; empty for another's."""
    text = target if isinstance(target, str) else ""
    name = text.rpartition(".")[2]
    is_monai = text == name or text.startswith("monai.transforms.")
    return re.sub(r"(d|D|Dict)$", "", name) if is_monai else ""


def _channels(metadata: Config, inference: Config) -> tuple[int | None, str]:
    """How many channels the network gives, and what is wrong with what tells it, as a clause."""
    told = at(metadata, NETWORK_FORMAT, "outputs", "pred", "num_channels")
    built = at(inference, "network_def", "out_channels")
    if isinstance(built, str) and built[:1] == "@":
        built = inference.get(built[1:])
    counts = [int(one) for one in (built, told) if is_whole(one) and 1 <= one <= MAX_CHANNELS]
    if not counts:
        return None, "neither num_channels of the output named pred nor out_channels tells how many outputs there are"
    if len(set(counts)) > 1:
        return counts[0], f"the network has {counts[0]} outputs, and the metadata says {counts[1]}"
    return counts[0], ""


def _classes(metadata: Config, channels: int | None, apart: str) -> tuple[tuple[str, ...], str]:
    """The names of the channels in their order; none, and a clause why, where they are not told beyond doubt."""
    found = at(metadata, NETWORK_FORMAT, "outputs", "pred", "channel_def")
    if not isinstance(found, dict) or not found:
        return (), "the output named pred has no channel_def"
    if apart or channels is None:
        return (), apart
    if len(found) != channels:
        return (), f"channel_def names {len(found)} outputs, and the network has {channels}"
    names = {str(key): name for key, name in found.items()}
    if set(names) != {str(number) for number in range(channels)}:
        return (), f"the keys of channel_def are not the numbers from 0 to {channels - 1}"
    ordered = [names[str(number)] for number in range(channels)]
    if not all(_is_name(name) for name in ordered):
        return (), "a name in channel_def is no plain text"
    if len({str(name).strip().casefold() for name in ordered}) != channels:
        return (), "channel_def gives two outputs one name"
    return tuple(str(name).strip() for name in ordered), ""


def _regions(
    classes: tuple[str, ...], fault: str, channels: int | None, inference: Config
) -> tuple[tuple[Region, ...], str]:
    done = _done(inference)
    if "threshold" not in done or "?" in done[: done.index("threshold")]:
        fault = OWN_STEPS
    elif not fault and any(key_of(name) in BACKGROUND_NAMES for name in classes):
        fault = "channel_def has a background, which outputs that overlap don't have"
    elif not fault and len({key_of(name) for name in classes}) < len(classes):  # by these evaluate tells them apart
        fault = "channel_def gives two outputs names that differ only in blanks and punctuation"
    names = [f"region {number}" for number in range(1, (channels or 0) + 1)] if fault else classes
    return tuple(Region(name) for name in names), fault


def read_table(table: ConfigValue) -> LabelTable:
    """The labels of a mapping from values to names, such as ``label_table``, without the background.

    Raises:
        InputError: it is none, or an entry makes no sense.
    """
    if not isinstance(table, dict):
        raise InputError("it is not a mapping from whole numbers to names")
    labels = []
    for key, value in table.items():
        # YAML gives whole numbers, JSON gives texts.
        text = str(key)
        if not re.fullmatch(r"0|[1-9][0-9]{0,4}", text, re.ASCII) or int(text) > MAX_INDEX:
            raise InputError(f"the key {text[:40]!r} is no whole number up to {MAX_INDEX}")
        if not _is_name(value):
            raise InputError(f"the label {text} has no name that is a plain text")
        if int(text):
            labels.append(Label(int(text), str(value).strip()))
        elif key_of(str(value)) not in BACKGROUND_NAMES:
            raise InputError("the label 0 is not called background")
    if not labels:
        raise InputError("it names no label above the background, 0")
    return LabelTable(tuple(labels))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= MAX_NAME_LENGTH and value.isprintable()
