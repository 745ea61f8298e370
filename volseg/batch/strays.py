"""Threads that libraries have begun and that nobody ends: those that fill a cache, write curves, load ahead."""

from __future__ import annotations

import atexit
import multiprocessing.connection
import multiprocessing.pool
import queue
import selectors
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from volseg.safepath import is_command

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

WAIT_SECONDS = 3.0
"""For threads that still compute when an error or Ctrl-C ends the work."""
LAST_SECONDS = 60.0
"""For the same when a program ends: Python aborts where it ends while they are inside of a library."""
POLL_SECONDS = 0.05
SEEN_WAITING = 3
"""So many looks in a row have to find the threads waiting: one that computes passes through these modules as well."""
WAITING = frozenset(
    str(module.__file__) for module in (threading, queue, selectors, multiprocessing.connection, multiprocessing.pool)
)
"""A thread inside of one of these waits for work and may be left alone."""


@contextmanager
def strays_ended() -> Iterator[None]:
    """Wait a moment, where work ends early, for the threads begun in it that still compute.

    They can't be stopped. The command then ends without them; a program of somebody's own waits for them at its end.
    """
    before = set(threading.enumerate())
    try:
        yield
    except BaseException:
        begun = set(threading.enumerate()) - before
        if not _wait(begun, WAIT_SECONDS) and not is_command():
            atexit.register(_wait, begun, LAST_SECONDS)
        raise


def are_computing(threads: Collection[threading.Thread]) -> bool:
    """Whether one of some threads does more than to wait."""
    frames = sys._current_frames()
    found = (frames.get(thread.ident or 0) for thread in threads if thread.is_alive())
    return any(frame is not None and frame.f_code.co_filename not in WAITING for frame in found)


def _wait(threads: Collection[threading.Thread], seconds: float) -> bool:
    deadline, waiting = time.monotonic() + seconds, 0
    while any(thread.is_alive() for thread in threads):
        waiting = 0 if are_computing(threads) else waiting + 1
        if waiting == SEEN_WAITING:
            break
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
