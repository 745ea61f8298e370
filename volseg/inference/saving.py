"""What of a bundle writes files by itself is left out: volseg writes masks, with the image's own header."""

from __future__ import annotations

from typing import Any

from monai.handlers import CheckpointSaver, ClassificationSaver, MetricsSaver
from monai.transforms import (
    Compose,
    Identity,
    SaveClassificationd,
    SaveImage,
    SaveImaged,
    Transform,
    WriteFileMapping,
    WriteFileMappingd,
)

SAVING = (
    SaveImage, SaveImaged, SaveClassificationd, WriteFileMapping, WriteFileMappingd, CheckpointSaver,
    ClassificationSaver, MetricsSaver,
)  # fmt: skip
"""Transforms and handlers that write files, those derived from them included."""


def without_saving(part: Any) -> Any:
    """A built part without what writes files, wherever it stands.

    Looks into sequences of transforms, those that choose among theirs, transforms that hold others, lists, tuples
    and mappings. A step of a plain sequence is left out; anywhere else one that does nothing takes its place, since
    places may have weights.

    Args:
        part: a transform, a handler, or a list, tuple or mapping of such; transforms are changed in place.
    """
    return _without(part, {})


def _without(part: Any, seen: dict[int, Any]) -> Any:
    if isinstance(part, SAVING):
        return Identity()
    if id(part) in seen:
        return part
    seen[id(part)] = part  # kept, so that no other gets its number
    if isinstance(part, (list, tuple)) and type(part) in (list, tuple):
        return type(part)(_without(one, seen) for one in part)
    if type(part) is dict:
        return {key: _without(one, seen) for key, one in part.items()}
    if isinstance(part, Transform):
        if type(part) is Compose:  # its children choose among theirs
            part.transforms = [one for one in part.transforms if not isinstance(one, SAVING)]
        for name, held in vars(part).items():
            if isinstance(held, (*SAVING, Transform, list, tuple, dict)):
                setattr(part, name, _without(held, seen))
    return part
