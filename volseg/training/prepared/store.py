"""Where prepared cases are kept: in memory within a budget, and in files outside the bundle, so that no run makes them anew."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.device import GIB, available_bytes
from volseg.errors import DiskFullError, FileError
from volseg.personal import cache_folder, is_own
from volseg.progress import SILENT, Progress
from volseg.stamps import Stamp, forget_old_stamps, stamp_of
from volseg.training.prepared.entry import Case, loaded, read_entry, size_of, write_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIX = ".case"
ONCE = "once-"
"""How the keys begin of cases that no other run will know again."""
MEMORY_SHARE = 0.4
"""Of the memory that is free when a training begins, what prepared cases may take: the network needs the rest."""
DISK_SHARE = 0.8
"""Of the space that is free, what they may take."""
KEPT_DAYS = 30.0
"""A case that no run has used for so long is removed."""


def memory_for_data() -> int:
    """What prepared cases may take of the memory unless told otherwise, in bytes."""
    return int(MEMORY_SHARE * available_bytes())


class Store:
    """Prepared cases by their keys. Threads may share it.

    A key stands for the content of a case's files, the transforms and the versions of what they are made with, so an
    entry never goes out of date. Each is checked against its checksum when a run uses it first, or when its file has
    changed since.

    Args:
        memory_bytes: what may be kept in memory; a share of what is free by default.
        folder: where the files lie; ``prepared`` in the person's cache folder by default.
        progress: is told what is written, before it is.
        preparing_bytes: what cases may take while they are prepared; as much as is kept by default. Those that have files
            are kept in memory when they are used, so that the two don't add up.
    """

    def __init__(
        self,
        memory_bytes: int | None = None,
        folder: Path | None = None,
        progress: Progress = SILENT,
        preparing_bytes: int | None = None,
    ) -> None:
        self.left_bytes = memory_for_data() if memory_bytes is None else memory_bytes
        self.preparing_bytes = self.left_bytes if preparing_bytes is None else preparing_bytes
        self.folder = folder if folder is not None else cache_folder() / "prepared"
        self.progress = progress
        self._memory: dict[str, Case] = {}
        self._taken: set[str] = set()
        self._verified: dict[str, Stamp] = {}
        self._writes = True
        self._lock = threading.Lock()
        self._is_open = False

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Path, dict[str, Stamp]]]:
        """For another process, which reads the files and keeps nothing of its own: its memory would come on top.

        Raises:
            FileError: there are no files.
        """
        if not self._writes:
            raise FileError(
                f"The prepared cases are in the memory of this process alone, for {self.folder} can't be written or has no "
                "room: no other process can read them. Load batches with num_workers=0, or name a folder with more room.",
                code="memory-only",
                path=self.folder,
            )
        return _reader, (self.folder, dict(self._verified))

    def open(self) -> None:
        """Make the folder ready, at the first use.

        Raises:
            FileError: others than this person can write into it.
        """
        if self._is_open:
            return
        self._is_open = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            own = is_own(self.folder)
        except OSError:
            self._writes = False  # memory alone, while it lasts
            return
        if not own:
            raise FileError(
                f"{self.folder} can be written by others than you, and what lies there would be trained on. Take their "
                "right to write away, or name another folder with --cache.",
                code="shared-cache",
                path=self.folder,
            )
        forget_old_stamps()
        now = time.time()
        for path, used_at, _ in self._entries():
            if now - used_at > KEPT_DAYS * 86400:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what no other run would know again."""
        for key in self._verified:
            if key.startswith(ONCE):
                self._path(key).unlink(missing_ok=True)

    def _entries(self) -> list[tuple[Path, float, int]]:
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                told = path.lstat()
                found.append((path, told.st_mtime, told.st_size))
        return sorted(found, key=lambda one: one[1])

    def holds(self, key: str) -> bool:
        """Whether a case is there; its checksum is reckoned when it is used."""
        return key in self._memory or self._path(key).is_file()

    def get(self, key: str) -> Case | None:
        """A case; None where there is none, or its file is damaged. Its numbers are shared: never write to them."""
        case = self._memory.get(key)
        if case is not None:
            return case
        path = self._path(key)
        try:
            stamp = stamp_of(path)
        except FileError:
            return None
        known = self._verified.get(key)
        case = read_entry(path, key, verify=known != stamp)
        if case is None:
            return None
        if known != stamp:
            with suppress(OSError):
                if known is None:
                    os.utime(path)  # of when it was used last
                self._verified[key] = stamp_of(path)
        if self._takes(key, size_of(case)):
            self._memory[key] = case = loaded(case)
        return case

    def put(self, key: str, case: Case) -> None:
        """Keep a case, in a file where there is room for it, else in memory; from a file it comes there by its use.

        Raises:
            DiskFullError: there is no room for it in memory or on the disk.
            FileError: the file can't be written.
        """
        if self._writes:
            write_entry(self._path(key), key, case)
            with suppress(FileError):
                self._verified[key] = stamp_of(self._path(key))
        elif self._takes(key, size_of(case)):
            self._memory[key] = case
        else:
            self._refuse(size_of(case))

    def at_once(self, case_bytes: int) -> int:
        """How many cases may be prepared at once that take so much each; one at least."""
        # Without files, what is prepared stays.
        most = self.preparing_bytes if self._writes else available_bytes() - self.left_bytes
        return max(1, most // case_bytes)

    def make_room(self, needed_bytes: int, cases: int) -> None:
        """Say what is about to be written and where; old entries of other data go where the disk lacks room.

        Where the disk has none and memory has, cases stay in memory alone.

        Raises:
            DiskFullError: neither has room.
        """
        if not self._writes:
            return self._refuse(needed_bytes) if needed_bytes > self.left_bytes else None
        free = DISK_SHARE * shutil.disk_usage(self.folder).free
        for path, _, size in self._entries():
            if free >= needed_bytes:
                break
            if path.stem not in self._verified:
                path.unlink(missing_ok=True)
                free += size
        if free < needed_bytes:
            if needed_bytes > self.left_bytes:
                self._refuse(needed_bytes)
            self._writes = False
        elif needed_bytes > self.left_bytes:
            self.progress.say(
                f"{cases} prepared cases take about {needed_bytes / GIB:.1f} GiB, more than the {self.left_bytes / GIB:.1f} "
                f"GiB of memory for data; they are read from {self.folder} ({free / GIB:.0f} GiB may be used there)."
            )
        return None

    def _refuse(self, needed_bytes: int) -> None:
        where = f"in {self.folder}" if self._writes else f"and {self.folder} can't be written"
        raise DiskFullError(
            f"The prepared cases take about {needed_bytes / GIB:.1f} GiB, and there is no room for them: "
            f"{max(0, self.left_bytes) / GIB:.1f} GiB of memory for data, {where}. Name a folder with more room by "
            "--cache, or give --memory-for-data more.",
            path=self.folder,
        )

    def _takes(self, key: str, size: int) -> bool:
        """Whether there is memory for a case that no thread has taken any for."""
        with self._lock:
            if key in self._taken or size > self.left_bytes:
                return False
            self._taken.add(key)
            self.left_bytes -= size
            return True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"


def _reader(folder: Path, verified: dict[str, Stamp]) -> Store:
    store = Store(0, folder)
    store._verified = verified
    return store


_opened: list[Store] = []


@contextmanager
def opened(store: Store) -> Iterator[Store]:
    """Have the data sets that are built inside keep their cases in ``store``."""
    _opened.append(store)
    try:
        yield store
    finally:
        _opened.remove(store)
        store.close()


def current_store() -> Store:
    """The store that was opened last; one of default size where another program than volseg trains."""
    return _opened[-1] if _opened else Store()
