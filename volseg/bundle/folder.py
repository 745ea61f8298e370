"""A bundle on disk: its files, read with bounds and without running anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import yaml

from volseg.errors import BundleError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
MAX_CONFIG_BYTES = 4 * 2**20
"""The largest config in the Model Zoo is under 100 kB."""
MAX_CONFIG_NODES = 200_000
"""A bound for YAML aliases that unfold without end."""
MAX_CONFIG_DEPTH = 60

ConfigValue = None | bool | int | float | str | list["ConfigValue"] | dict[str, "ConfigValue"]
"""What JSON and safe YAML hold. A bundle's config is any such tree, so here alone records are dictionaries."""


@dataclass(frozen=True)
class Bundle:
    """A MONAI bundle's folder.

    Args:
        root: the folder that holds ``configs/``.
    """

    root: Path

    @property
    def model_path(self) -> Path:
        """The flat state dict that inference loads."""
        return self.root / "models" / "model.pt"

    @property
    def runs(self) -> Path:
        """Where training keeps its checkpoints, outside of ``models``."""
        return self.root / "runs"

    def config_path(self, name: str) -> Path:
        """The config of that name, such as ``inference``, whatever its format.

        Raises:
            BundleError: the bundle has none.
        """
        for suffix in CONFIG_SUFFIXES:
            path = self.root / "configs" / f"{name}{suffix}"
            if path.is_file():
                return path
        raise BundleError(
            f"{self.root} has no configs/{name}.yaml or .json, so it is no bundle that can do this. "
            "Name the bundle's folder, or write one with volseg plan.",
            code="no-config",
        )

    def read_config(self, name: str) -> dict[str, ConfigValue]:
        """Read a config as plain data; nothing in it is run.

        Raises:
            BundleError: it is missing, too large, too deep, or not a mapping.
        """
        path = self.config_path(name)
        try:
            if path.stat().st_size > MAX_CONFIG_BYTES:
                raise BundleError(f"{path} is larger than {MAX_CONFIG_BYTES // 2**20} MiB, which no config is.")
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except RecursionError as error:
            raise BundleError(f"{path} is nested too deeply to be a config.") from error
        except (yaml.YAMLError, ValueError) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(
                f"{path} is not valid {path.suffix[1:].upper()}. Repair it or get the bundle anew."
            ) from error
        if not isinstance(content, dict):
            raise BundleError(f"{path} does not hold a mapping, as every config of a bundle does.")
        for count, (place, _) in enumerate(walk(content)):
            if count > MAX_CONFIG_NODES or len(place) > MAX_CONFIG_DEPTH:
                raise BundleError(f"{path} is too large or too deep to be a config.")
        return cast("dict[str, ConfigValue]", content)

    @cached_property
    def metadata(self) -> dict[str, ConfigValue]:
        """``configs/metadata.json``."""
        return self.read_config("metadata")


def open_bundle(root: Path) -> Bundle:
    """The bundle in a folder.

    Raises:
        UsageError: the folder doesn't exist or is a file.
        BundleError: it holds no bundle.
    """
    if not root.exists():
        raise UsageError(f"{root} does not exist. Name a bundle's folder, or write one with volseg plan.")
    if not root.is_dir():
        raise UsageError(f"{root} is a file. Name a bundle's folder.")
    bundle = Bundle(root)
    bundle.config_path("metadata")
    return bundle


def walk(config: ConfigValue, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ConfigValue]]:
    """Each node of a config with its place, parents first, without recursion."""
    stack: list[tuple[tuple[str, ...], ConfigValue]] = [(place, config)]
    while stack:
        where, node = stack.pop()
        yield where, node
        if isinstance(node, dict):
            stack.extend(((*where, str(key)), value) for key, value in reversed(node.items()))
        elif isinstance(node, list):
            stack.extend(((*where, str(number)), value) for number, value in reversed(list(enumerate(node))))
