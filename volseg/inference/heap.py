"""What the C library does with memory that is let go.

Left alone it gives blocks of some megabytes back to the system, which hands the next ones out page by page, each cleared first.
A network lets go of such a block after each layer: that was a quarter of the time of a small one (``scripts/bench/predict``).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""As glibc's ``malloc.h`` numbers them."""
KEPT_BYTES = 192 * 2**20
"""Blocks up to this size are kept; a volume is not."""


@cache
def _library() -> Any:
    """The C library; None where it is not glibc."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):
        return None


@cache
def keep_freed() -> None:
    """Have this process keep what it lets go for what it takes next, for all threads to come alike."""
    library = _library()
    if library is not None:
        library.mallopt(MMAP_THRESHOLD, KEPT_BYTES)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(ARENA_MAX, 1)


def give_back() -> None:
    """Give back to the system what is kept."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)
