"""What a config writes of an object: its target and arguments as plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from volseg.errors import UsageError

ConfigValue = None | bool | int | float | str | list["ConfigValue"] | dict[str, "ConfigValue"]
"""What JSON and safe YAML hold. A bundle's config is any such tree, so here alone records are dictionaries."""
Component = dict[str, ConfigValue]
"""Such as ``{"_target_": "monai.losses.DiceCELoss", "softmax": True}``. Its arguments are literals and references."""


@dataclass(frozen=True)
class Choice(ABC):
    """One entry of a registry."""

    name: ClassVar[str]
    """As the command line and the bundle's README have it."""
    words: ClassVar[str]
    """What it is, for a person, in one line."""


class Built(Choice):
    """A choice that is one object of the config."""

    @abstractmethod
    def component(self) -> Component:
        """Its target and arguments."""


Kind = TypeVar("Kind", bound=Choice)


def component(target: str, **arguments: ConfigValue) -> Component:
    """A component of a MONAI config."""
    return {"_target_": target, **arguments}


def pick(registry: dict[str, type[Kind]], name: str, kind: str) -> type[Kind]:
    """The choice of that name; ``kind`` is the registry's, for the message.

    Raises:
        UsageError: there is none.
    """
    if name not in registry:
        raise UsageError(f"There is no {kind} {name!r}. Choose one of {', '.join(registry)}.")
    return registry[name]


def by_name(*kinds: type[Kind]) -> dict[str, type[Kind]]:
    """A registry of choices."""
    return {kind.name: kind for kind in kinds}
