"""The choice of channels and of masks among the series, as a person writes it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from volseg.errors import UsageError
from volseg.nomenclature import MAX_NAME_LENGTH, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHANNELS = 100


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
    for part in filter(str.strip, text.split(";")):
        name, equals, patterns = part.partition("=")
        words = tuple(word.strip() for word in patterns.split(",") if word.strip())
        if not equals or not name.strip().isprintable() or not name.strip() or not words:
            raise UsageError(
                f"{part.strip()!r} is no channel such as T1=*t1*: a name, =, and what its series is called."
            )
        channels.append(Channel(name.strip(), words))
    if not 2 <= len(channels) <= MAX_CHANNELS or len({channel.name for channel in channels}) < len(channels):
        raise UsageError("Channels are two or more with a name each, such as T1=*t1*; FLAIR=*flair*.")
    return tuple(channels)


def parse_masks(text: str) -> tuple[Channel, ...]:
    """Masks as a person writes them: ``liver=*MASKS_DICOM/liver; *MASKS_DICOM/*``, where a bare pattern has no name.

    Raises:
        UsageError: the text makes no sense.
    """
    masks = []
    for part in filter(str.strip, text.split(";")):
        before, equals, after = part.partition("=")
        name = " ".join(before.split()) if equals else ""
        words = tuple(word.strip() for word in (after if equals else part).split(",") if word.strip())
        if (equals and not name) or not name.isprintable() or len(name) > MAX_NAME_LENGTH or not words:
            raise UsageError(
                f"{part.strip()[:80]!r} is no mask such as liver=*MASKS_DICOM/liver: a name, =, and what its series is "
                "called; or that alone."
            )
        masks.append(Channel(name, words))
    names = [key_of(mask.name) for mask in masks if mask.name]
    if len(set(names)) < len(names) or key_of("background") in names:
        raise UsageError("Masks have a name each, such as liver=*MASKS_DICOM/liver, and none is the background's.")
    return tuple(masks)
