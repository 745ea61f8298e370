"""A bundle on disk: its files, read with bounds and without running anything."""

from __future__ import annotations

import hashlib
import json
import os
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import yaml

from volseg.errors import BundleError, FileError, InputError, UsageError
from volseg.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.bundle.outputs import Meaning
    from volseg.labels import LabelTable
    from volseg.planning.component import ConfigValue

CONFIGS = "configs"
CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
MAX_CONFIG_BYTES = 2**20
"""The largest config in the Model Zoo is under 100 kB."""
MAX_CONFIG_NODES = 15_000
"""The largest in the Model Zoo has a few hundred; MONAI's time grows with the square of this."""
MAX_CONFIG_DEPTH = 60
MAX_NUMBER_CHARACTERS = 400
"""No number in a config is longer; YAML's base 60 takes quadratic time to read."""


@dataclass(frozen=True)
class ConfigFile:
    """A config as it was read once: what is judged and what is built are the same data.

    Args:
        path: where it lies.
        sha256: of the very bytes that ``content`` was read from.
        content: plain data.
    """

    path: Path
    sha256: str
    content: dict[str, ConfigValue]


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

    def find_config(self, name: str) -> Path | None:
        """The config of that name, such as ``inference``; of several formats the first of ``CONFIG_SUFFIXES``."""
        return next(iter(self.find_configs(name)), None)

    def find_configs(self, name: str) -> list[Path]:
        """All configs of that name; volseg reads the first alone."""
        paths = (self.root / CONFIGS / f"{name}{suffix}" for suffix in CONFIG_SUFFIXES)
        return [path for path in paths if path.exists()]

    def config_path(self, name: str) -> Path:
        """The config of that name, whatever its format.

        Raises:
            BundleError: the bundle has none.
        """
        path = self.find_config(name)
        if path is None:
            raise BundleError(
                f"{self.root} has no configs/{name}.yaml or .json, so it is no bundle that can do this. "
                "Name the bundle's folder, or write one with volseg plan.",
                code="no-config",
                path=self.root,
            )
        return path

    def load_config(self, name: str) -> ConfigFile:
        """Read a config as plain data; nothing in it is run.

        Raises:
            BundleError: it is missing, too large, too deep, or not a mapping.
            FileError: it can't be read.
        """
        path = self.config_path(name)
        try:
            raw = read_bounded(path, MAX_CONFIG_BYTES, "config")
        except InputError as error:
            raise BundleError(error.message, path=path) from error
        content = deepcopy(_parse(path, raw))
        if not isinstance(content, dict):
            raise _bad(path, "does not hold a mapping, as every config of a bundle does.")
        for count, (place, _) in enumerate(walk(content)):
            if count > MAX_CONFIG_NODES or len(place) > MAX_CONFIG_DEPTH:
                raise _bad(path, "is too large or too deep to be a config.")
        return ConfigFile(path, hashlib.sha256(raw).hexdigest(), cast("dict[str, ConfigValue]", content))

    def read_config(self, name: str) -> dict[str, ConfigValue]:
        """The plain data of a config; see ``load_config``.

        Raises:
            BundleError: it is missing, too large, too deep, or not a mapping.
            FileError: it can't be read.
        """
        return self.load_config(name).content

    @cached_property
    def metadata(self) -> dict[str, ConfigValue]:
        """``configs/metadata.json``."""
        return self.read_config("metadata")

    @cached_property
    def meaning(self) -> Meaning:
        """What its masks mean, by its metadata and its inference config."""
        from volseg.bundle.outputs import meaning_of

        return meaning_of(self.metadata, self.read_config("inference") if self.find_config("inference") else {})

    @property
    def labels(self) -> LabelTable:
        """What the numbers in its masks stand for; empty where nobody knows which there are."""
        return self.meaning.table

    @property
    def ignore(self) -> int | None:
        """What stands for voxels that nobody judged in the masks that it learns from; None where every voxel was."""
        from volseg.bundle.targets import trained_labels

        trained = trained_labels(self.metadata)
        return trained.ignore if trained else None

    @property
    def structures(self) -> tuple[str, ...]:
        """The names of what its network gives: of regions where it cuts each output by itself, else of labels."""
        from volseg.bundle.outputs import Outputs

        overlap = self.meaning.outputs is Outputs.REGIONS
        return tuple(region.name for region in self.meaning.regions) if overlap else self.labels.names


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a bundle's ``configs/metadata.json``, or another config that volseg runs."""
    bundle = Bundle(folder)
    return any(bundle.find_config(name) is not None for name in ("metadata", "inference", "train"))


def open_bundle(root: Path) -> Bundle:
    """The bundle in a folder.

    Raises:
        UsageError: the folder doesn't exist or is a file.
        BundleError: it holds no bundle, or a link.
    """
    if not root.exists():
        raise UsageError(f"{root} does not exist. Name a bundle's folder, or write one with volseg plan.")
    if not root.is_dir():
        raise UsageError(f"{root} is a file. Name a bundle's folder.")
    bundle = Bundle(root)
    bundle.config_path("metadata")
    refuse_links(bundle)
    return bundle


def refuse_links(bundle: Bundle) -> None:
    """Refuse a bundle with a link anywhere in it: what volseg or a transform writes would land elsewhere.

    Raises:
        BundleError, FileError: as ``plain_files``.
    """
    for _ in plain_files(bundle.root):
        pass


def plain_files(root: Path) -> Iterator[Path]:
    """Every file below a bundle's folder, which may itself be reached through a link: whoever names it has chosen so.

    Raises:
        BundleError: there is a link, or a special file such as a pipe, with the code ``link``.
        FileError: a folder can't be read.
    """
    folders = [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                found = [
                    (Path(one.path), one.is_dir(follow_symlinks=False), one.is_file(follow_symlinks=False))
                    for one in entries
                ]
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            raise FileError(f"{error.filename or root} can't be read: {error.strerror}.") from error
        for path, is_folder, is_plain in found:
            if is_folder:
                folders.append(path)
            elif is_plain:
                yield path
            else:
                raise BundleError(
                    f"{path} is a link or special file, and volseg follows none in a bundle. Put the file or folder "
                    "itself in its place.",
                    code="link",
                    path=path,
                )


def walk(config: ConfigValue, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ConfigValue]]:
    """Each node of a config with its place, parents first, without recursion."""
    stack = [iter([(place, config)])]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        else:
            yield found
            stack.append(_below(*found))


def target_name(node: ConfigValue) -> str:
    """The last part of what a component names as its target, such as ``Spacingd``; empty for anything else."""
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, dict) else ""


def _below(place: tuple[str, ...], node: ConfigValue) -> Iterator[tuple[tuple[str, ...], ConfigValue]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*place, str(key)), value
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield (*place, str(number)), value


class _TooLargeError(ValueError):
    """More than any config holds."""


class _BoundedLoader(yaml.SafeLoader):
    """Safe YAML loader with bounds on time and memory."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._left = 2 * MAX_CONFIG_NODES  # of keys and values

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._left -= 1
        if self._left < 0:
            raise _TooLargeError
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Flatten merge keys (``<<``) within bounds: a chain of them doubles at every link."""
        total = len(node.value)
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(part, yaml.MappingNode):
                        self.flatten_mapping(part)
                        total += len(part.value)
        if total > MAX_CONFIG_NODES:
            raise yaml.constructor.ConstructorError(None, None, "too many merged keys", node.start_mark)
        super().flatten_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_NUMBER_CHARACTERS:
            raise yaml.constructor.ConstructorError(None, None, "a number is too long", node.start_mark)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        if len(node.value) > MAX_NUMBER_CHARACTERS:
            raise yaml.constructor.ConstructorError(None, None, "a number is too long", node.start_mark)
        return super().construct_yaml_float(node)


_BoundedLoader.add_constructor("tag:yaml.org,2002:int", _BoundedLoader.construct_yaml_int)
_BoundedLoader.add_constructor("tag:yaml.org,2002:float", _BoundedLoader.construct_yaml_float)


def _parse(path: Path, raw: bytes) -> object:
    try:
        return _content(raw, is_json=path.suffix == ".json")
    except (RecursionError, _TooLargeError) as error:
        raise _bad(path, "is too large or nested too deeply to be a config.") from error
    # PyYAML's constructors trip over odd scalars (!!int '', !!bool x, !!timestamp x) in all these ways.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise _bad(path, f"is not valid {path.suffix[1:].upper()}. Repair it or get the bundle anew.") from error


@lru_cache(maxsize=8)
def _content(raw: bytes, *, is_json: bool) -> object:
    """The data in a config's bytes; a command reads the same ones several times."""
    text = raw.decode("utf-8-sig")
    return json.loads(text) if is_json else yaml.load(text, _BoundedLoader)


def _bad(path: Path, what: str) -> BundleError:
    return BundleError(f"{path} {what}", code="bad-config", path=path)
