"""Limits on declared sizes in image headers, checked before memory is allocated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_VOXELS = 2**33
"""A volume of 2048 cubed: above any scanner's, and a bound for headers that lie."""
MAX_DEFLATE_RATIO = 1032
"""Deflate can't grow by more than this (RFC 1951: 258 bytes from 2 bits)."""


def damaged(path: Path, what: str) -> InputError:
    """The error for a file whose content can't be right."""
    return InputError(f"{path} {what}. Export or copy the file again.", code="damaged-file", path=path)


def require_bounded(path: Path, shape: Sequence[int], channels: int, voxel_bytes: int, can_hold_bytes: int) -> None:
    """Refuse a header that declares more voxels than any scanner makes, or than its file can hold.

    Raises:
        InputError: it does.
    """
    voxels = math.prod(shape) * channels
    if voxels > MAX_VOXELS or voxels * voxel_bytes > can_hold_bytes:
        raise damaged(path, f"declares {tuple(shape)} voxels, more than the file can hold")
