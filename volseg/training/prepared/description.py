"""What a transform does, as text: two with the same text do the same."""

from __future__ import annotations

import enum
import functools
import types
from typing import Any

import numpy as np
import torch

MAX_DEPTH = 12
TRACES = frozenset({"_tracing", "filenames"})
"""Attributes that MONAI's transforms get by being used (1.6), and that say nothing of what they do."""


class NoDescriptionError(TypeError):
    """Something whose behaviour its attributes don't tell."""


def describe(value: Any, depth: int = 0) -> str:
    """A value with all that it holds, recursively.

    Raises:
        NoDescriptionError: it holds something else than numbers, words, arrays, classes, functions of a module and
            objects of such.
    """
    if depth > MAX_DEPTH:
        raise NoDescriptionError("too deep")
    below = depth + 1
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, (torch.dtype, torch.device, np.dtype, slice, range)):
        return repr(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, np.random.RandomState):
        return "random"
    if isinstance(value, (np.ndarray, np.generic)):
        return f"array:{value.dtype}:{value.shape}:{value.tobytes().hex()}"
    if isinstance(value, torch.Tensor):
        return f"tensor:{describe(value.detach().cpu().as_subclass(torch.Tensor).numpy(), below)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{','.join(describe(one, below) for one in value)}]"
    if isinstance(value, (set, frozenset)):
        return f"set[{','.join(sorted(describe(one, below) for one in value))}]"
    if isinstance(value, dict):
        pairs = (f"{describe(name, below)}={describe(one, below)}" for name, one in value.items())
        return f"dict[{','.join(sorted(pairs))}]"
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return _named(value)
    state = getattr(value, "__dict__", None)
    # What functools.partial calls, and with what, is in none of its attributes' dictionary.
    opaque = (types.ModuleType, types.MethodType, torch.nn.Module, functools.partial)
    if state is None or isinstance(value, opaque):
        raise NoDescriptionError(type(value).__qualname__)
    state = {name: one for name, one in state.items() if name not in TRACES}
    return f"{_named(type(value))}{describe(state, below)}"


def _named(value: Any) -> str:
    if "<" in value.__qualname__:  # a lambda, or defined inside a function: its name doesn't tell what it does
        raise NoDescriptionError(value.__qualname__)
    return f"{value.__module__}.{value.__qualname__}"
