"""The bundles that come with volseg, found by their names.

They lie in the wheel, so that an installed volseg predicts without a network: hospitals' machines often have none, and what
was installed is what was tested. A checkout has them in its folder ``bundles``.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.bundle.folder import Bundle, is_bundle
from volseg.bundle.metadata import NETWORK_FORMAT, at, first_channel
from volseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLES = "bundles"
LICENCE_KEY = "license"
"""Of the metadata of a bundle that ships: the SPDX name of its weights' licence."""
MAX_WEIGHTS_BYTES = 10 * 10**6
"""Of each: they are in the wheel and in git."""


@dataclass(frozen=True)
class Shipped:
    """A bundle that comes with volseg.

    Args:
        name: by which it is found.
        folder: where it lies.
        labels: the structures that it segments.
        modality: of its first channel.
        size_bytes: of its weights.
        licence: of its weights; empty where the metadata names none.
        figures: cross-validated Dice by label, as its metadata has them.
    """

    name: str
    folder: Path
    labels: tuple[str, ...]
    modality: str
    size_bytes: int
    licence: str
    figures: Mapping[str, float]


def shipped_folder() -> Path | None:
    """Where they lie: in the installed package, else in the checkout that this package is of; None where neither is."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    if (package / BUNDLES).is_dir():
        return package / BUNDLES
    return checkout / BUNDLES if (checkout / "pyproject.toml").is_file() and (checkout / BUNDLES).is_dir() else None


def shipped_bundles(folder: Path | None = None) -> tuple[Shipped, ...]:
    """Each bundle that comes with volseg and has weights, by name.

    Args:
        folder: where to look; by default where they lie.

    Raises:
        BundleError: a metadata can't be read.
    """
    place = shipped_folder() if folder is None else folder
    found = [] if place is None else sorted(one for one in place.iterdir() if one.is_dir() and is_bundle(one))
    return tuple(_describe(one) for one in found if Bundle(one).model_path.is_file())


def find_bundle(place: Path) -> Path:
    """The folder of a bundle that a person named: one of volseg's own by its bare name, else the path itself.

    Neither shadows the other: where a bundle of volseg's and something in the current folder have the same name, nobody
    can tell which is meant, and a mask by the wrong model looks like any other.

    Raises:
        UsageError: both are there.
    """
    shipped = shipped_folder()
    if shipped is None or len(place.parts) != 1 or place.name != str(place) or not is_bundle(shipped / place.name):
        return place
    if os.path.lexists(place):
        raise UsageError(
            f"{place} is the name of a bundle that comes with volseg and of something in this folder. Name the one that "
            "you mean by its whole path; volseg bundles tells that of volseg's."
        )
    return shipped / place.name


def _describe(folder: Path) -> Shipped:
    bundle = Bundle(folder)
    metadata = bundle.metadata
    figures = at(metadata, "eval_metrics")
    return Shipped(
        folder.name,
        folder,
        bundle.labels.names,
        str(at(metadata, NETWORK_FORMAT, "inputs", "image", "modality") or first_channel(metadata) or ""),
        bundle.model_path.stat().st_size,
        str(metadata.get(LICENCE_KEY, "")),
        {
            str(name): float(value)
            for name, value in (figures.items() if isinstance(figures, dict) else ())
            if isinstance(value, (int, float)) and math.isfinite(value)
        },
    )
