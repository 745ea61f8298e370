"""What a config would run: found in its plain data, before anything of it is built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from volseg.bundle.folder import walk
from volseg.bundle.vocabulary import (
    CHANNEL_FILES,
    COMPONENT_KEYS,
    DATA_EXPRESSIONS,
    DATA_SETS,
    DATA_SOURCE,
    EXPRESSIONS,
    FIXED_ARGUMENTS,
    FIXED_KEYS,
    IMPORTS,
    PLACES,
    TARGETS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.planning.component import ConfigValue

RUN_CONFIGS = ("train", "inference")
"""The configs that volseg builds; no other file of a bundle is run by it."""
PLAIN_REFERENCE = re.compile(r"@(?!imports\b)[A-Za-z_][A-Za-z0-9_]*(#[A-Za-z0-9_]+)*")
"""Another part of the same config; never the modules that ``imports`` brings in."""
PLAIN_KEY = re.compile(r"[A-Za-z0-9_]+")
"""MONAI takes ``#`` and ``::`` in a key for a path to another part."""

PLAIN_TYPES = (list, bool, int, float, type(None))


@dataclass(frozen=True)
class Finding:
    """One thing that only a trusted bundle may run.

    Args:
        config: ``train`` or ``inference``.
        place: where in the config, parts joined by ``#`` as MONAI does.
        kind: what it is.
        text: the code or name itself.
    """

    config: str
    place: str
    kind: Literal["expression", "target", "argument", "macro", "reference", "key", "value"]
    text: str

    def __str__(self) -> str:
        """One line. What would break it, drive a terminal or turn text around is escaped: it must be seen as it is."""
        line = f"{self.config}: {self.place}: {self.kind} {self.text}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def lint_config(name: str, config: dict[str, ConfigValue]) -> tuple[Finding, ...]:
    """Everything in a config that lies outside of the vocabulary, in the order of the file."""
    return tuple(_findings(name, config))


def rounds_masks(config: dict[str, ConfigValue]) -> bool:
    """Whether a train config rounds the numbers of masks; one that doesn't cuts 0.99999994 off to the background."""
    return any(
        isinstance(node, dict)
        and str(node.get("_target_", "")).rpartition(".")[2].startswith("AsDiscrete")
        and node.get("rounding") == "torchrounding"
        and node.get("keys") in ("label", ["label"])
        for _, node in walk(config)
    )


def _findings(name: str, config: ConfigValue) -> Iterator[Finding]:
    for parts, node in walk(config):
        place = "#".join(parts) or "(root)"
        if len(parts) == 1 and parts[0] in FIXED_KEYS and node != FIXED_KEYS[parts[0]]:
            yield Finding(name, place, "value", f"{node!r} instead of {FIXED_KEYS[parts[0]]!r}")
        if isinstance(node, str):
            yield from _text(name, place, parts, node)
        elif isinstance(node, dict):
            for key in node:
                if not _is_plain_key(key):
                    yield Finding(name, place, "key", repr(key))
            if "_target_" in node:
                yield from _component(name, parts, node)
        elif type(node) not in PLAIN_TYPES:
            # YAML's !!omap, !!set and the like: MONAI hands them on as they are, and nobody has looked inside.
            yield Finding(name, place, "value", f"of type {type(node).__name__}")


def _is_plain_key(key: object) -> bool:
    if isinstance(key, str):
        return PLAIN_KEY.fullmatch(key) is not None
    return isinstance(key, int) and not isinstance(key, bool)


def _text(name: str, place: str, parts: tuple[str, ...], text: str) -> Iterator[Finding]:
    # MONAI looks at the first character alone; what only follows blanks is told as well, to be on the safe side.
    # Such a character further inside is data, as in ../data@home.
    first = text.lstrip()[:1]
    if first == "$":
        allowed = IMPORTS if parts[:1] == ("imports",) else EXPRESSIONS
        if text not in allowed and not CHANNEL_FILES.fullmatch(text):
            yield Finding(name, place, "expression", text)
    elif first == "%":
        yield Finding(name, place, "macro", text)
    elif first == "@" and not PLAIN_REFERENCE.fullmatch(text):
        yield Finding(name, place, "reference", text)


def _component(name: str, parts: tuple[str, ...], node: dict[str, ConfigValue]) -> Iterator[Finding]:
    place = "#".join(parts) or "(root)"
    target = node["_target_"]
    if not isinstance(target, str) or target not in TARGETS:
        yield Finding(name, place, "target", str(target))
        return
    if target in PLACES and not PLACES[target].fullmatch(place):
        yield Finding(name, place, "target", f"{target}, which belongs elsewhere")
    fixed = FIXED_ARGUMENTS.get(target, {})
    for key, value in node.items():
        if key in COMPONENT_KEYS:
            continue
        if key not in TARGETS[target]:
            yield Finding(name, place, "argument", f"{key} of {target}")
        elif (key in fixed and value != fixed[key]) or (
            target in DATA_SETS and key == "data" and not _is_own_data(value)
        ):
            yield Finding(name, place, "argument", f"{key}={value!r} of {target}")
    yield from (Finding(name, place, "argument", f"{target} without {key}") for key in fixed if key not in node)


def _is_own_data(value: ConfigValue) -> bool:
    if isinstance(value, dict):
        return value.get("_target_") == DATA_SOURCE
    return isinstance(value, str) and (value in DATA_EXPRESSIONS or CHANNEL_FILES.fullmatch(value) is not None)
