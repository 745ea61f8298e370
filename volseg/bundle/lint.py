"""What a config would run: found in its plain data, before anything of it is built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from volseg.bundle.folder import Bundle, ConfigValue, walk
from volseg.bundle.vocabulary import CHANNEL_FILES, COMPONENT_KEYS, EXPRESSIONS, IMPORTS, LOADERS, TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_CONFIGS = ("train", "inference")
"""The configs that volseg builds; no other file of a bundle is run by it."""
PLAIN_REFERENCE = re.compile(r"@[A-Za-z_][A-Za-z0-9_]*(#[A-Za-z0-9_]+)*")


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
    kind: Literal["expression", "target", "argument", "macro", "reference"]
    text: str

    def __str__(self) -> str:
        return f"{self.config}: {self.place}: {self.kind} {self.text}"


def lint_config(name: str, config: ConfigValue) -> tuple[Finding, ...]:
    """Everything in a config that lies outside of the vocabulary, in the order of the file."""
    return tuple(_findings(name, config))


def lint_bundle(bundle: Bundle) -> tuple[Finding, ...]:
    """Everything that the bundle's configs would run beyond the vocabulary.

    Raises:
        BundleError: a config is malformed.
    """
    found: list[Finding] = []
    for name in RUN_CONFIGS:
        if has_config(bundle, name):
            found.extend(lint_config(name, bundle.read_config(name)))
    return tuple(found)


def has_config(bundle: Bundle, name: str) -> bool:
    """Whether the bundle has a config of that name."""
    return any((bundle.root / "configs" / f"{name}{suffix}").is_file() for suffix in (".yaml", ".yml", ".json"))


def _findings(name: str, config: ConfigValue) -> Iterator[Finding]:
    for parts, node in walk(config):
        place = "#".join(parts) or "(root)"
        if isinstance(node, str):
            yield from _text(name, place, parts, node)
        elif isinstance(node, dict):
            # A key is data for MONAI as well: it may carry macros and relative references.
            for key in node:
                if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_]+", key):
                    yield Finding(name, place, "argument", f"the key {key!r}")
            if "_target_" in node:
                yield from _component(name, place, node)


def _text(name: str, place: str, parts: tuple[str, ...], text: str) -> Iterator[Finding]:
    stripped = text.strip()
    if stripped.startswith("$"):
        allowed = IMPORTS if parts and parts[0] == "imports" else EXPRESSIONS
        if text not in allowed and not CHANNEL_FILES.fullmatch(text):
            yield Finding(name, place, "expression", text)
    elif stripped.startswith("%"):
        yield Finding(name, place, "macro", text)
    elif "@" in text and not PLAIN_REFERENCE.fullmatch(text):
        yield Finding(name, place, "reference", text)


def _component(name: str, place: str, node: dict[str, ConfigValue]) -> Iterator[Finding]:
    target = node["_target_"]
    if not isinstance(target, str) or target not in TARGETS:
        yield Finding(name, place, "target", str(target))
        return
    fixed = LOADERS.get(target, {})
    for key, value in node.items():
        if key in COMPONENT_KEYS:
            continue
        if key not in TARGETS[target]:
            yield Finding(name, place, "argument", f"{key} of {target}")
        elif key in fixed and value != fixed[key]:
            yield Finding(name, place, "argument", f"{key}={value!r} of {target}")
    yield from (Finding(name, place, "argument", f"{target} without {key}") for key in fixed if key not in node)
