"""Checkpoints that a foreign config loads by itself: which file is damaged, where one is."""

from __future__ import annotations

import traceback
from pathlib import Path

from volseg.errors import BundleError, VolsegError, raised_from

LOADER = "torch/serialization.py"


def damaged_checkpoint(error: BaseException, root: Path) -> BundleError | None:
    """The error for a person where torch could not read a checkpoint; None for any other error.

    Args:
        error: whatever ended the work; what it was raised from counts, too.
        root: the bundle's folder.
    """
    if isinstance(error, VolsegError):  # it says what it is
        return None
    for one in raised_from(error):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_name == "load" and frame.f_code.co_filename.replace("\\", "/").endswith(LOADER):
                named = frame.f_locals.get("f")
                return _damaged(Path(named) if isinstance(named, (str, Path)) else None, root)
    return None


def _damaged(path: Path | None, root: Path) -> BundleError:
    inside = path is not None and path.resolve().is_relative_to(root.resolve())
    where = f"{path}, which the bundle's config loads," if inside else "A checkpoint that the bundle's config loads"
    is_there = path is None or path.is_file()
    state = "is damaged or holds more than tensors" if is_there else "does not exist"
    return BundleError(
        f"{where} {state}. Get it anew, or take it out of the config.",
        code="bad-weights" if is_there else "no-weights",
        path=path if inside else root,
    )
