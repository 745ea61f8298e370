"""Processes that Python starts for this one, and where they import from."""

from __future__ import annotations

import multiprocessing.spawn
import multiprocessing.util
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from volseg.safepath import SafeEnvironment, absolute_path

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_inside = 0
_environment = SafeEnvironment()
_prepare: Any = multiprocessing.spawn.get_preparation_data
_flags: Any = multiprocessing.util._args_from_interpreter_flags  # type: ignore[attr-defined]


@contextmanager
def safe_children() -> Iterator[None]:
    """While this lasts, no process of ``multiprocessing`` or ``torch`` imports from the current folder.

    Such processes begin as ``python -c`` and so with that folder first on their path; then they get this process's path,
    where an empty entry means that folder again. Here they take this process's absolute entries alone. Nor do they run
    its main script again, as Python has them do.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _environment.__enter__()
            multiprocessing.spawn.get_preparation_data = _preparation
            multiprocessing.util._args_from_interpreter_flags = _safe_flags  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                multiprocessing.spawn.get_preparation_data = _prepare
                multiprocessing.util._args_from_interpreter_flags = _flags  # type: ignore[attr-defined]
                _environment.__exit__()


def _preparation(name: str) -> dict[str, Any]:
    found: dict[str, Any] = _prepare(name) | {"sys_path": absolute_path()}
    return {key: value for key, value in found.items() if not key.startswith("init_main")}


def _safe_flags() -> list[str]:
    found: list[str] = _flags()  # of which -E would keep Python from reading the variable
    return found if {"-I", "-P"} & set(found) else [*found, "-P"]
