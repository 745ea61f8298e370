"""Images outside of a data set: a file, or the files of one folder, as cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.dataset.case import Case
from volseg.errors import DataSetError, UsageError
from volseg.volume import IMAGE_KINDS, is_image, list_images, split_channel, stem_of

if TYPE_CHECKING:
    from pathlib import Path


def cases_in(path: Path, channels: int) -> tuple[Case, ...]:
    """The cases of a single image or of a folder of images.

    Names ending in a channel number (``CASE_0000.nii.gz``, as nnU-Net has them) are put together by case when
    several channels are wanted; with one channel, ``_0000`` is dropped from the name.

    Args:
        path: an image, or a folder with images directly in it; for several channels, an image is its ``_0000``.
        channels: how many are wanted.

    Raises:
        UsageError: the path is no image, or the folder has none.
        DataSetError: a case lacks channels, or two images would share a case's name.
    """
    if path.is_file():
        if not is_image(path):
            raise UsageError(f"{path} is no image that volseg reads: it has to be {IMAGE_KINDS}.")
        files = [path]
        case, channel = split_channel(stem_of(path))
        if channels > 1 and channel is not None:
            siblings = [(other, split_channel(stem_of(other))) for other in list_images(path.parent)]
            files = [other for other, (name, number) in siblings if name == case and number is not None]
    else:
        files = list_images(path)
    if not files:
        raise UsageError(f"{path} holds no image: no {IMAGE_KINDS} lies in it.", code="no-images")
    groups: dict[str, dict[int, Path]] = {}
    faults = []
    for file in files:
        name, channel = _named(file, channels)
        known = groups.setdefault(name, {}).setdefault(channel, file)
        if known is not file:
            faults.append(f"{known.name} and {file.name} are both case {name}, channel {channel}; rename one.")
    for name, numbered in groups.items():
        # One file may hold all channels on its fourth axis; its header tells later.
        if sorted(numbered) not in (list(range(channels)), [0]):
            faults.append(f"{name} has the channels {sorted(numbered)}, and the bundle needs 0 to {channels - 1}.")
    if faults:
        raise DataSetError(f"{path}: {faults[0]}", path=path, lines=faults[1:])
    return tuple(
        Case(name, tuple(numbered[channel] for channel in sorted(numbered)), None)
        for name, numbered in sorted(groups.items())
    )


def _named(file: Path, channels: int) -> tuple[str, int]:
    case, channel = split_channel(stem_of(file))
    if channel is None or (channels == 1 and channel):
        return stem_of(file), 0
    return case, channel
