"""Class values in a file, for more of them than the memory is to hold."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import TYPE_CHECKING

import torch

from volseg.atomic import write_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FLOAT = 4


class Scratch:
    """Zeros in a file that has no name, so that nothing of it is left whatever happens.

    The system may write parts of it out and bring them back as it likes; ``let_go`` says that it may.

    Args:
        shape: of ``values``, float32.
        folder: on whose disk the file lies.

    Raises:
        DiskFullError, FileError: it can't be made so large.
    """

    def __init__(self, shape: Sequence[int], folder: Path) -> None:
        size = FLOAT * math.prod(shape)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is told here, and kills no process later
                self._map = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise write_error(folder, error) from error
        self.values = torch.frombuffer(self._map, dtype=torch.float32).reshape(*shape)

    def let_go(self) -> None:
        """Hold nothing of it in this process's memory."""
        self._map.madvise(mmap.MADV_DONTNEED)
