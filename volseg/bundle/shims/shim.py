"""What a shim is, and how those that are needed are applied to a config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from volseg.words import counted, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.planning.component import ConfigValue


SHOWN_CHARACTERS = 80
"""Of a place in a config, whose keys are a stranger's."""


@dataclass(frozen=True)
class Bundled:
    """What shims know of a bundle beside the config.

    Args:
        monai: the MONAI version that it was written for, as in its metadata; None where that doesn't say.
        device: ``cpu`` or ``cuda``, where the config's parts will lie.
        reads_meta_dicts: whether a module or an expression of the bundle asks for ``<key>_meta_dict``.
        reads_lps: whether its images are read in LPS, as DICOM has the axes, and not in RAS.
    """

    monai: tuple[int, int] | None = None
    device: str = "cpu"
    reads_meta_dicts: bool = False
    reads_lps: bool = False

    def is_before(self, major: int, minor: int) -> bool:
        """Whether the bundle was written for a MONAI before that one; false where nobody knows."""
        return self.monai is not None and self.monai < (major, minor)


class Shim(Protocol):
    """One change between the libraries' versions, bridged."""

    @property
    def name(self) -> str:
        """Stable, lower case with hyphens."""
        ...

    @property
    def sentence(self) -> str:
        """What is done and why the result is the same, for a person."""
        ...

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a node of a config, a component or a text, needs it."""
        ...

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The node in today's words; the one given stays as it is."""
        ...


@dataclass(frozen=True)
class Used:
    """A shim that was needed.

    Args:
        name: the shim's.
        config: ``train`` or ``inference``.
        places: where in the config, parts joined by ``#``.
        sentence: the shim's.
    """

    name: str
    config: str
    places: tuple[str, ...]
    sentence: str

    def __str__(self) -> str:
        """One line for a person."""
        place = printable(self.places[0])[:SHOWN_CHARACTERS]
        more = f" and {counted(len(self.places) - 1, 'other place')}" if len(self.places) > 1 else ""
        return f"{place}{more}: {self.sentence} ({self.name})"


def bridge(
    config: dict[str, ConfigValue], name: str, bundled: Bundled, shims: Sequence[Shim]
) -> tuple[dict[str, ConfigValue], tuple[Used, ...]]:
    """A config in the words of today's libraries, and the shims that this took.

    Args:
        config: plain data; it stays as it is.
        name: of the config.
        bundled: what else is known of the bundle.
        shims: those that may be used, asked in this order.
    """
    places: dict[int, list[str]] = {}

    def bridged(node: ConfigValue, place: str) -> ConfigValue:
        for number, shim in enumerate(shims):
            if isinstance(node, (dict, str)) and shim.applies(node, bundled):
                node = shim.apply(node)
                places.setdefault(number, []).append(place or "(root)")
        if isinstance(node, dict):
            return {key: bridged(value, f"{place}#{key}".lstrip("#")) for key, value in node.items()}
        if isinstance(node, list):
            return [bridged(value, f"{place}#{index}".lstrip("#")) for index, value in enumerate(node)]
        return node

    found = {key: bridged(value, str(key)) for key, value in config.items()}
    used = (Used(shims[number].name, name, tuple(where), shims[number].sentence) for number, where in places.items())
    return found, tuple(sorted(used, key=lambda one: one.name))


def version_of(text: object) -> tuple[int, int] | None:
    """Major and minor of a version such as ``1.3.0rc5``."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", text) if isinstance(text, str) else None
    return (int(found[1]), int(found[2])) if found else None
