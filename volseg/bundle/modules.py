"""A trusted bundle's own modules: imported from the very bytes that were hashed, and only where nothing else has the name.

Nothing is read from the disk again, and no byte code is read or left beside the sources: what a person trusted is what
runs. A name that is installed is never a bundle's, not even where the bundle's code puts its folder first on the path.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import multiprocessing
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.bundle.shims import mend_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from volseg.bundle.tree import TreeFile

CONFIG_KEY = "volseg_modules"
"""Under which processes that are started take a bundle's modules along."""


def own_sources(files: Mapping[str, TreeFile]) -> dict[str, bytes]:
    """The Python sources of a bundle by their path relative to it."""
    return {name: file.source for name, file in files.items() if file.source is not None}


def stand_ins(files: Mapping[str, TreeFile]) -> tuple[str, ...]:
    """The names of a bundle's modules that something installed has, too; those are never imported from the bundle."""
    tops = {name.partition("/")[0].removesuffix(".py") for name in own_sources(files)}
    return tuple(sorted(top for top in tops if top.isidentifier() and _is_installed(top)))


def open_modules(root: Path, sources: Mapping[str, bytes]) -> None:
    """Let code import a bundle's modules, and no longer those of the bundle before.

    Args:
        root: the bundle's folder, resolved.
        sources: its Python sources by their path relative to it.
    """
    global _opened
    with _lock:
        opened = _Modules(root, dict(sources))
        if opened == _opened:
            return
        _forget()
        _opened = opened
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        if _entry_finder not in sys.path_hooks:
            sys.path_hooks.insert(0, _entry_finder)
        for entry in list(sys.path_importer_cache):
            if opened.folder_of(entry) is not None:
                del sys.path_importer_cache[entry]
        # A process begins with a copy of this, so that objects of these modules can be sent to it.
        multiprocessing.current_process()._config[CONFIG_KEY] = opened  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Modules:
    root: Path
    sources: Mapping[str, bytes]

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (self.root, self.sources)

    def folder_of(self, entry: object) -> str | None:
        """An entry of a path relative to the bundle; None where it lies elsewhere."""
        if not isinstance(entry, (str, bytes)):
            return None
        place = Path(os.path.realpath(os.fsdecode(entry) or "."))
        return place.relative_to(self.root).as_posix() if place.is_relative_to(self.root) else None

    def spec(self, fullname: str, folder: str) -> ModuleSpec | None:
        """The module that a folder, relative to the bundle, has under the last part of a name."""
        stem = os.path.normpath(os.path.join(folder, fullname.rpartition(".")[2]))  # noqa: PTH118  no path of a disk
        for name, package in ((f"{stem}/__init__.py", True), (f"{stem}.py", False)):
            if name in self.sources:
                path = str(self.root / name)
                loader = _Loader(fullname, path, self.sources[name], is_package=package)
                return importlib.util.spec_from_file_location(
                    fullname,
                    path,
                    loader=loader,
                    submodule_search_locations=[str(self.root / stem)] if package else None,
                )
        if any(name.startswith(f"{stem}/") for name in self.sources):
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(self.root / stem)]
            return spec
        return None


def _reopened(root: Path, sources: Mapping[str, bytes]) -> _Modules:
    open_modules(root, sources)
    return _Modules(root, sources)


class _Loader(importlib.abc.ExecutionLoader):
    def __init__(self, fullname: str, path: str, source: bytes, *, is_package: bool) -> None:
        self._fullname, self._path, self._source, self._is_package = fullname, path, source, is_package

    def exec_module(self, module: ModuleType) -> None:
        text = self.get_source(self._fullname)
        # Tracebacks show, and torch.jit compiles, these lines, whatever lies on the disk by then.
        linecache.cache[self._path] = (len(text), None, text.splitlines(keepends=True), self._path)
        super().exec_module(module)

    def get_source(self, fullname: str) -> str:
        del fullname
        return importlib.util.decode_source(self._source)

    @staticmethod
    def source_to_code(data: Any, path: Any = "<string>") -> CodeType:
        tree = ast.parse(data, path)
        mend_module(tree)
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code

    def get_filename(self, fullname: str) -> str:
        del fullname
        return self._path

    def is_package(self, fullname: str) -> bool:
        del fullname
        return self._is_package


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules at the top, in the bundle's root and in such folders of it as its code put on the path."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del target
        if path is not None or _opened is None:
            return None
        folders = [".", *(folder for entry in sys.path if (folder := _opened.folder_of(entry)) is not None)]
        found = next((spec for folder in folders if (spec := _opened.spec(fullname, folder)) is not None), None)
        return None if found is None or _is_installed(fullname) else found


class _EntryFinder(importlib.abc.PathEntryFinder):
    """Finds, in a folder of the bundle, the modules below a package; never one at the top, nor anything on the disk."""

    def __init__(self, modules: _Modules, folder: str) -> None:
        self._modules, self._folder = modules, folder

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        del target
        return self._modules.spec(fullname, self._folder) if "." in fullname else None


def _entry_finder(entry: str) -> _EntryFinder:
    folder = None if _opened is None else _opened.folder_of(entry)
    if _opened is None or folder is None:
        raise ImportError
    return _EntryFinder(_opened, folder)


def _is_installed(name: str) -> bool:
    """Whether somebody else has a module of this name; folders without ``__init__.py`` don't count."""
    others = (finder for finder in sys.meta_path if finder is not _finder and hasattr(finder, "find_spec"))
    specs = (finder.find_spec(name, None) for finder in others)
    return any(spec is not None and spec.loader is not None for spec in specs)


def _forget() -> None:
    """Drop the modules of the bundle before."""
    for name in list(_own_modules()):
        del sys.modules[name]
    for entry, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, _EntryFinder):
            del sys.path_importer_cache[entry]


def _own_modules() -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        places = getattr(spec, "submodule_search_locations", None) or ()
        if isinstance(getattr(spec, "loader", None), _Loader) or (
            _opened is not None and any(_opened.folder_of(place) is not None for place in places)
        ):
            yield name


_lock = threading.RLock()
_opened: _Modules | None = None
_finder = _Finder()
