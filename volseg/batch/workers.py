"""How many workers a cohort gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from volseg.batch.executors import SERIAL, Executor, Processes
from volseg.device import machine_bytes
from volseg.errors import UsageError
from volseg.files import open_plain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WORTH_BYTES = 2**26
"""Of voxels, uncompressed: with less work than this, processes take longer to start than they save."""
SHARE_OF_MEMORY = 0.6
"""Of the machine's, that workers take together; other programs have the rest."""
PROCESS_BYTES = 2**27
"""Of a worker before it begins: Python with numpy."""


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def choose_executor(jobs: int, sizes: Iterable[int], *, held_copies: float = 0.0) -> Executor:
    """The executor for a cohort on this machine.

    Args:
        jobs: how many cases a person wants to be worked on at once; 0 leaves it to this rule: one for each core, or
            only one where all cases together are small.
        sizes: of each case's voxels in bytes; read as far as they are needed.
        held_copies: what the work on a case takes in terms of its size; above 0, so few workers are taken that the
            largest cases fit into the machine's memory together.

    Raises:
        UsageError: ``jobs`` is negative.
    """
    if jobs < 0:
        raise UsageError(f"--jobs {jobs} makes no sense; 0 takes as many as pay.")
    if jobs:
        return Processes(jobs) if jobs > 1 else SERIAL
    work, cases, largest, cores = 0, 0, 0, available_cores()
    for size in sizes:
        work, cases, largest = work + size, cases + 1, max(largest, size)
        if work > WORTH_BYTES and cases >= cores and not held_copies:
            break
    workers = min(cores, cases)
    if held_copies and largest:
        room = SHARE_OF_MEMORY * machine_bytes("cpu") / (held_copies * largest + PROCESS_BYTES)
        workers = min(workers, max(1, int(room)))
    return Processes(workers) if workers > 1 and work > WORTH_BYTES else SERIAL


def voxel_bytes(paths: Iterable[Path]) -> int:
    """About how many bytes of voxels files hold; a gzip file tells it at its end (RFC 1952, 2.3.1), modulo 2**32."""
    total = 0
    for path in paths:
        try:
            with open_plain(path) as file:
                size = file.seek(0, os.SEEK_END)
                if path.name.lower().endswith(".gz") and size >= 4:
                    file.seek(-4, os.SEEK_END)
                    size = max(size, int.from_bytes(file.read(4), "little"))
        except OSError:  # the work on the case tells the person
            continue
        total += size
    return total
