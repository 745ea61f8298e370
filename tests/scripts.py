"""Scripts of the repository as modules, for tests of their functions."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).parents[1] / "scripts"


def loaded(place: str) -> ModuleType:
    """A script, by its path below ``scripts``; no byte code is left beside it."""
    name = place.replace("/", "_")
    loader = SourceFileLoader(name, str(SCRIPTS / place))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    write = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = write
    return module
