"""Which device to compute on, and what to say when its memory runs out."""

from __future__ import annotations

import os
import re
from pathlib import Path

from volseg.errors import MemoryShortError, UsageError, raised_from

SIGNS = re.compile(
    r"not enough memory|can't allocate memory|out of memory|_ALLOC_FAILED|Unable to allocate", re.IGNORECASE
)
"""How torch, cuDNN and numpy say it where they raise something else than ``MemoryError``."""
ASKED_FOR = re.compile(r"(?:allocate|allocating) (\d+(?:\.\d+)?) ?(bytes|[KMGTP]iB)", re.IGNORECASE)
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what a container may take, in its two versions of control groups."""
GIB = 2**30
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def choose_device(asked: str | None) -> str:
    """``cpu`` or ``cuda``; a GPU where there is one unless asked otherwise.

    Raises:
        UsageError: cuda was asked for and there is none, or something else than these two.
    """
    import torch

    if asked not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {asked}: volseg computes on cpu or cuda.")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this machine has no GPU that torch can use. Leave --device out, or say cpu.")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def machine_bytes(device: str) -> int:
    """The memory of the machine, or of what a container may take of it; of the GPU for ``cuda`` and ``cuda:1``."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    for place in MEMORY_LIMITS:
        try:
            found.append(int(Path(place).read_text(encoding="ascii")))
        except (OSError, ValueError):  # not Linux, or without a limit
            continue
    return min(found, default=2**63)


def available_bytes() -> int:
    """The memory that programs may still take, as Linux says; elsewhere half of the machine's."""
    whole = machine_bytes("cpu")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return whole // 2
    return min(whole, free)


def memory_lacking(need_bytes: float, device: str) -> str:
    """The end of a sentence about what takes more memory than there is; empty where there is room.

    Args:
        need_bytes: how much it takes.
        device: ``cpu``, or ``cuda`` with or without a number.
    """
    room, here = machine_bytes(device), "GPU" if device.startswith("cuda") else "machine"
    if need_bytes <= room:
        return ""
    return f"takes about {need_bytes / GIB:.3g} GiB of memory, and this {here} has {room / GIB:.3g}"


def memory_short(
    error: BaseException, remedy: str = "Close other programs, or work on fewer or smaller volumes at once."
) -> MemoryShortError | None:
    """The error for a person where memory ran out, of the processor or of the GPU; None for any other error.

    Args:
        error: whatever ended the work; what it was raised from counts, too.
        remedy: what to do about it, in a sentence.
    """
    for behind in raised_from(error):
        if isinstance(behind, MemoryShortError):
            return behind
        kind, text = type(behind).__name__, str(behind)
        if isinstance(behind, MemoryError) or kind == "OutOfMemoryError" or (
            isinstance(behind, RuntimeError) and SIGNS.search(text)
        ):  # fmt: skip
            where = "The GPU's memory" if "CUDA" in text or "GPU" in text else "Memory"
            found = ASKED_FOR.search(text)
            gib = float(found[1]) * 1024 ** (UNITS.index(_unit(found[2])) - 3) if found else 0.0
            need = f": {gib:.2g} GiB more were needed at once" if gib >= 0.01 else ""
            return MemoryShortError(f"{where} ran out{need}. {remedy}")
    return None


def _unit(word: str) -> str:
    return next(unit for unit in UNITS if unit.lower() == word.lower())
