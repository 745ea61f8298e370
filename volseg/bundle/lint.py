"""What a config would run: found in its plain data, before anything of it is built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from volseg.bundle.folder import target_name, walk
from volseg.bundle.vocabulary import COMPONENT_KEYS, KEYS, KINDS, TARGETS
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.bundle.grammar import Kind
    from volseg.planning.component import ConfigValue

RUN_CONFIGS = ("train", "inference")
"""The configs that volseg builds; no other file of a bundle is run by it."""
JUDGED_CONFIGS = (*RUN_CONFIGS, "inference_folds")
"""Those, and what volseg writes for other programs to run."""
PLAIN_KEY = re.compile(r"[A-Za-z0-9_]+")
"""MONAI takes ``#`` and ``::`` in a key for a path to another part."""

PLAIN_TYPES = (list, bool, int, float, type(None))
SHOWN_CHARACTERS = 80
"""Of a value that is out of place."""
ROOT = "(root)"


@dataclass(frozen=True)
class Finding:
    """One thing that only a trusted bundle may run.

    Args:
        config: ``train``, ``inference`` or ``inference_folds``.
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
        return printable(f"{self.config}: {self.place}: {self.kind} {self.text}")


def lint_config(name: str, config: dict[str, ConfigValue]) -> tuple[Finding, ...]:
    """Everything in a config that lies outside of the vocabulary, in the order of the file."""
    return tuple(_Lint(name, KEYS.get(name, {})).section("", config))


def rounds_masks(config: dict[str, ConfigValue]) -> bool:
    """Whether a train config rounds the numbers of masks; one that doesn't cuts 0.99999994 off to the background."""
    return any(
        isinstance(node, dict)
        and target_name(node).startswith("AsDiscrete")
        and node.get("rounding") == "torchrounding"
        and node.get("keys") in ("label", ["label"])
        for _, node in walk(config)
    )


class _Lint:
    """The search through one config. Each value is looked at once, or twice where it is out of place.

    Args:
        name: of the config.
        keys: the kind of each key that has one.
    """

    def __init__(self, name: str, keys: dict[str, str]) -> None:
        self.name = name
        self.keys = keys
        self.sections = {key.partition("#")[0] for key in keys if "#" in key}

    def section(self, place: str, node: dict[str, ConfigValue]) -> Iterator[Finding]:
        """The top of the config, or a mapping that groups keys."""
        if "_target_" in node:
            yield from self.plain(place, node)
            return
        yield from self.odd_keys(place, node)
        for key, value in node.items():
            below = _join(place, key)
            if value is None:
                continue
            if below in self.keys:
                yield from self.value(below, value, self.keys[below])
            elif below in self.sections and isinstance(value, dict):
                yield from self.section(below, value)
            else:
                yield from self.plain(below, value)

    def value(self, place: str, node: ConfigValue, name: str) -> Iterator[Finding]:
        """What stands where a value of a kind belongs."""
        kind = KINDS[name]
        if any(form.takes(node) for form in kind.values):
            return
        if isinstance(node, list) and kind.items is not None and len(node) <= kind.most:
            for number, item in enumerate(node):
                yield from self.value(_join(place, number), item, kind.items)
        elif isinstance(node, dict) and "_target_" in node:
            yield from self.component(place, node, name)
        elif isinstance(node, dict) and kind.entries is not None:
            yield from self.odd_keys(place, node)
            for key, entry in node.items():
                below = kind.entries.get(str(key)) or kind.entries.get("*")
                yield from (
                    self.value(_join(place, key), entry, below) if below else self.plain(_join(place, key), entry)
                )
        elif not (isinstance(node, str) and self.is_reference(node, name, kind)):
            found = tuple(self.plain(place, node))
            yield from found or (Finding(self.name, place, "value", _misfit(node, name, kind)),)

    def is_reference(self, text: str, name: str, kind: Kind) -> bool:
        """Whether a text refers to a key of that kind."""
        return text.startswith("@") and self.keys.get(text[1:]) in (name, *kind.also)

    def component(self, place: str, node: dict[str, ConfigValue], name: str) -> Iterator[Finding]:
        """A part where one of a kind belongs."""
        target = node["_target_"]
        known = TARGETS.get(name, {}).get(target) if isinstance(target, str) else None
        if known is None:
            yield from self.plain(place, node)
            return
        yield from self.odd_keys(place, node)
        for key, value in node.items():
            below = _join(place, key)
            if key in COMPONENT_KEYS:
                yield from self.plain(below, value)
            elif key in known:
                yield from self.value(below, value, known[key][0])
            else:
                yield Finding(self.name, place, "argument", f"{key} of {target}")
                yield from self.plain(below, value)
        for key, (_, needed) in known.items():
            if needed and key not in node:
                yield Finding(self.name, place, "argument", f"{target} without {key}")

    def plain(self, place: str, node: ConfigValue) -> Iterator[Finding]:
        """What nothing is built from: no part, nothing that is evaluated."""
        for parts, found in walk(node):
            at = "#".join((place, *parts)) if place else "#".join(parts)
            if isinstance(found, str):
                yield from self.text(at, found)
            elif isinstance(found, dict):
                yield from self.odd_keys(at, found)
                if "_target_" in found:
                    yield Finding(self.name, at or ROOT, "target", _target(found["_target_"]))
            elif type(found) not in PLAIN_TYPES:
                # YAML's !!omap, !!set and the like: MONAI hands them on as they are, and nobody has looked inside.
                yield Finding(self.name, at, "value", f"of type {type(found).__name__}")

    def text(self, place: str, text: str) -> Iterator[Finding]:
        """Text where nothing is evaluated."""
        # MONAI looks at the first character alone; what only follows blanks is told as well, to be on the safe side.
        # Such a character further inside is data, as in ../data@home.
        first = text.lstrip()[:1]
        if first == "$":
            yield Finding(self.name, place, "expression", text)
        elif first == "%":
            yield Finding(self.name, place, "macro", text)
        elif first == "@":
            yield Finding(self.name, place, "reference", text)

    def odd_keys(self, place: str, node: dict[str, ConfigValue]) -> Iterator[Finding]:
        """Keys that MONAI would read as something else."""
        for key in node:
            if not _is_plain_key(key):
                yield Finding(self.name, place or ROOT, "key", repr(key))


def _join(place: str, key: object) -> str:
    return f"{place}#{key}" if place else str(key)


def _target(target: ConfigValue) -> str:
    belongs = isinstance(target, str) and any(target in found for found in TARGETS.values())
    return f"{target}, which belongs elsewhere" if belongs else str(target)


def _misfit(node: ConfigValue, name: str, kind: Kind) -> str:
    if isinstance(node, list):
        shown = f"a list of {len(node)}"
    else:
        shown = "a mapping" if isinstance(node, dict) else f"{node!r:.{SHOWN_CHARACTERS}}"
    expected = [kind.words] if kind.values else [f"a part for {name.replace('_', ' ')}"] * (name in TARGETS)
    if kind.items is not None:
        expected.append(f"a list of at most {kind.most}")
    return f"{shown} instead of {' or '.join(expected)}" if expected else f"{shown} where a mapping belongs"


def _is_plain_key(key: object) -> bool:
    if isinstance(key, str):
        return PLAIN_KEY.fullmatch(key) is not None
    return isinstance(key, int) and not isinstance(key, bool)
