"""What a train config trains, as a digest: preprocessing and network, with all that they refer to in the config."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, cast

from volseg.bundle.folder import MAX_CONFIG_DEPTH
from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "resolved_model"
"""Under which a run records what it trains."""
MODEL_PARTS = ("network_def", "train::deterministic_transforms")
SEPARATOR = "::"
"""Between the keys of an id in MONAI's configs; a ``#`` in its place means the same."""
MAX_DEPTH = 4 * MAX_CONFIG_DEPTH
"""Through references as well."""


def model_digest(config: Mapping[str, object]) -> str:
    """SHA-256 of what a train config makes of an image before the loss: preprocessing and network.

    Models of which it differs don't belong into one ensemble, though their weights may have the same shapes. A reference
    (``@id``, ``%id``) stands for what it names, so the digest is the same where that is written in its place.

    Raises:
        BundleError: the config refers too deep.
    """
    resolved = _Resolved(config)
    return _sha256([resolved.named(part) for part in MODEL_PARTS])


class _Resolved:
    """Digests of the parts of a config, each reckoned once, however often it is referred to."""

    def __init__(self, config: Mapping[str, object]) -> None:
        self._config = config
        self._known: dict[str, str] = {}
        self._depth = 0

    def named(self, place: str) -> str:
        """Of what has an id."""
        if place not in self._known:
            self._known[place] = _sha256(f"itself: {place}")  # for what refers to itself, which nothing can build
            self._known[place] = self._of(self._at(place), place)
        return self._known[place]

    def _at(self, place: str) -> object:
        found: object = self._config
        for key in place.split(SEPARATOR):
            if isinstance(found, dict):
                found = found.get(key)
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found

    def _of(self, value: object, place: str) -> str:
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise BundleError("The train config refers from key to key too deep.", code="bad-config")
            if isinstance(value, dict):
                return _sha256({str(key): self._of(one, f"{place}{SEPARATOR}{key}") for key, one in value.items()})
            if isinstance(value, list):
                return _sha256([self._of(one, f"{place}{SEPARATOR}{n}") for n, one in enumerate(value)])
            return self._of_text(value, place) if isinstance(value, str) else _sha256(value)
        finally:
            self._depth -= 1

    def _of_text(self, text: str, place: str) -> str:
        from monai.bundle import ConfigParser, ReferenceResolver

        if not text.startswith(("@", "%", "$")):
            return _sha256(text)
        try:
            text = cast("str", ConfigParser.resolve_relative_ids(place, text))
        except ValueError:  # beyond the config's root
            return _sha256(text)
        if text.startswith("%") and SEPARATOR not in text.partition(".")[2]:  # in this file, not in another
            return self.named(text[1:])
        references = sorted(ReferenceResolver.match_refs_pattern(text))
        if text.startswith("@"):
            return self.named(references[0]) if references else _sha256(text)
        return _sha256([text, *(self.named(one) for one in references)]) if references else _sha256(text)


def _sha256(value: object) -> str:
    """Of plain data; what is written differently, such as 1 and 1.0, differs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
