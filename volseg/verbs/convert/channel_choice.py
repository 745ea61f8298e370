"""The choice of channels, as a person writes it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from volseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHANNELS = 100


@dataclass(frozen=True)
class Channel:
    """A channel's name, and the patterns that its series answers to."""

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
