"""Settings that libraries would take from the folder that one stands in, which is often one of data."""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

LOCAL_NAME = "matplotlibrc"


class _Matplotlib(MetaPathFinder):
    """Imports matplotlib without that folder's ``matplotlibrc``, which goes before all others.

    It may be made by a stranger: name a program to run, turn pictures round, or be a pipe that never ends.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        spec = PathFinder.find_spec(fullname) if fullname == "matplotlib" else None
        loader: Any = None if spec is None else spec.loader
        if loader is None:
            return None
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            functions: Any = os.path
            exists = functions.exists
            functions.exists = lambda path: path != LOCAL_NAME and exists(path)
            try:
                run(module)
            finally:
                functions.exists = exists

        loader.exec_module = exec_module
        return spec


def pass_over_local_settings() -> None:
    """Read no library's settings from the current folder, in the command and its workers."""
    sys.meta_path.insert(0, _Matplotlib())
