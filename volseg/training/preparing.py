"""Progress while MONAI fills its cache of preprocessed cases."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from volseg.progress import Progress


@contextmanager
def watched_caches(progress: Progress) -> Iterator[None]:
    """Show a bar for each ``monai.data.CacheDataset`` that is filled inside the block.

    MONAI fills it where it is built, out of a config, and knows of no bar but its own on the terminal. So the method
    that fills it is replaced for that time.
    """
    from monai.data import CacheDataset

    fill = CacheDataset._fill_cache

    def watched(self: Any, indices: Sequence[int] | None = None) -> list[Any]:
        load, lock = self._load_cache_item, threading.Lock()
        with ExitStack() as ended:
            task = ended.enter_context(progress.task("Preparing", self.cache_num, "cases"))

            def loaded(index: int) -> Any:
                item = load(index)
                with lock:
                    task.advance()
                return item

            self._load_cache_item = loaded  # found before the class's; MONAI maps threads over it
            ended.callback(delattr, self, "_load_cache_item")
            filled: list[Any] = fill(self, indices)
        return filled

    CacheDataset._fill_cache = watched
    try:
        yield
    finally:
        CacheDataset._fill_cache = fill
