"""The choice of channels and of masks among the series, as a person writes it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from volseg.errors import UsageError
from volseg.nomenclature import MAX_NAME_LENGTH, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_CHANNELS = 100
MAX_SHOWN = 80
"""Characters of an entry in a sentence."""


@dataclass(frozen=True)
class Channel:
    """The name of a channel or mask, and the patterns that its series answers to."""

    name: str
    patterns: tuple[str, ...]

    def matches(self, words: Sequence[str]) -> bool:
        """Whether one of the words fits a pattern, upper and lower case being the same."""
        return any(fnmatchcase(word.casefold(), pattern.casefold()) for word in words for pattern in self.patterns)


def parse_channels(text: str) -> tuple[Channel, ...]:
    """Channels as a person writes them: ``T1=*t1*post*; FLAIR=*flair*,mr_05``.

    Raises:
        UsageError: the text makes no sense.
    """
    channels = []
    for entry, channel in _entries(text):
        if not channel.name or not channel.patterns:
            raise UsageError(
                f"{entry[:MAX_SHOWN]!r} is no channel such as T1=*t1*: a name, =, and what its series is called."
            )
        channels.append(channel)
    if not 2 <= len(channels) <= MAX_CHANNELS or len({channel.name for channel in channels}) < len(channels):
        raise UsageError("Channels are two or more with a name each, such as T1=*t1*; FLAIR=*flair*.")
    return tuple(channels)


def parse_masks(text: str) -> tuple[Channel, ...]:
    """Masks as a person writes them: ``liver=*MASKS_DICOM/liver; *MASKS_DICOM/*``, where a bare pattern has no name.

    Raises:
        UsageError: the text makes no sense.
    """
    masks = []
    for entry, mask in _entries(text):
        if ("=" in entry and not mask.name) or len(mask.name) > MAX_NAME_LENGTH or not mask.patterns:
            raise UsageError(
                f"{entry[:MAX_SHOWN]!r} is no mask such as liver=*MASKS_DICOM/liver: a name, =, and what its series is called; or "
                "that alone."
            )
        masks.append(mask)
    names = [key_of(mask.name) for mask in masks if mask.name]
    if len(set(names)) < len(names) or key_of("background") in names:
        raise UsageError("Masks have a name each, such as liver=*MASKS_DICOM/liver, and none is the background's.")
    return tuple(masks)


def _entries(text: str) -> Iterator[tuple[str, Channel]]:
    """Each entry between semicolons as it stands, and its name, empty where there is none or it can't be printed, and
    patterns between commas."""
    for part in filter(str.strip, text.split(";")):
        before, equals, after = part.partition("=")
        name = " ".join(before.split()) if equals else ""
        words = (after if equals else part).split(",")
        patterns = tuple(word.strip() for word in words if word.strip())
        yield part.strip(), Channel(name if name.isprintable() else "", patterns)
