"""The pool of decoder processes, as the main process uses it."""

from __future__ import annotations

import atexit
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from volseg.dicom.pixels import worker as protocol
from volseg.errors import FileError, InputError, VolsegError
from volseg.files import NO_PLAIN_FILE
from volseg.safepath import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from volseg.dicom.pixels.layout import PixelLayout

START_SECONDS = 60.0
"""For a process to start on a machine that is busy."""
FRAME_SECONDS = 5.0
"""Of computing, for one frame; a slice of 512 x 512 takes 3 to 30 ms in the slowest codec, measured."""
SECONDS_PER_MEGAPIXEL = 0.25
MAX_FRAME_SECONDS = 9.0
STALL_SECONDS = 60.0
"""By the clock, for one frame: far more than it may compute, since the machine may be busy with other things."""
MAX_FAULT_BYTES = 4096
MAX_STRETCH = 16
"""Frames per request: enough to make asking cheap, few enough to share the work out evenly."""

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from volseg.dicom.pixels.worker import main; main()"


class DecoderProcess:
    """One decoding process.

    Raises:
        InputError: ``decoder-crashed``, it didn't start.
    """

    def __init__(self) -> None:
        paths = json.dumps(absolute_path())
        # -I: neither the folder that one works in nor the person's own packages get a say in what is imported.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        try:
            self._reply(time.monotonic() + START_SECONDS)
        except EOFError as error:
            self.end()
            raise crashed() from error

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def decode(
        self, layout: PixelLayout, first: int, out: NDArray[Any], advance: Callable[[int], None] = lambda _: None
    ) -> None:
        """Decode ``len(out)`` frames of a file, from frame ``first`` on.

        Args:
            layout: of the file.
            first: the first frame, from 0.
            out: (frames, rows, columns), contiguous, of the layout's type.
            advance: called with the count of frames that were decoded.

        Raises:
            InputError: what the decoder found wrong; ``decoder-crashed`` where it crashed, hung or ate its memory,
                and the process is gone then.
            FileError: the file can't be read.
        """
        seconds = min(MAX_FRAME_SECONDS, FRAME_SECONDS + SECONDS_PER_MEGAPIXEL * layout.rows * layout.columns / 1e6)
        try:
            self._input.write(protocol.request(layout, first, len(out), seconds))
            for frame in out:
                self._frame(frame.reshape(-1).view(np.uint8).data, time.monotonic() + STALL_SECONDS)
                advance(1)
        except VolsegError:
            raise  # the process itself is well
        except (EOFError, OSError, ValueError) as error:
            self.end()
            raise crashed() from error
        except BaseException:
            self.end()
            raise

    def _frame(self, target: memoryview, deadline: float) -> None:
        status, length = self._reply(deadline)
        if status == protocol.FAULT and length <= MAX_FAULT_BYTES:
            raw = bytearray(length)
            self._fill(memoryview(raw), deadline)
            code, message = json.loads(raw)
            kind = FileError if code in ("cannot-read", NO_PLAIN_FILE) else InputError
            raise kind(str(message), code=str(code))
        if status != protocol.FRAME or length != len(target):
            raise EOFError
        self._fill(target, deadline)

    def _reply(self, deadline: float) -> tuple[int, int]:
        head = bytearray(protocol.REPLY.size)
        self._fill(memoryview(head), deadline)
        return cast("tuple[int, int]", protocol.REPLY.unpack(head))

    def _fill(self, target: memoryview, deadline: float) -> None:
        while target:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise EOFError  # too late; the caller ends the process
            count = os.readv(self._output.fileno(), [target])
            if not count:
                raise EOFError
            target = target[count:]

    def kill(self) -> None:
        """Stop the process from another thread than the one that reads from it, whose reading ends by that."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and forget it."""
        self._process.kill()
        self._selector.close()
        self._input.close()
        self._output.close()
        self._process.wait()


def crashed() -> InputError:
    """The error for a file whose decoding ended the decoder."""
    return InputError(
        "The decoder crashed on a file's compressed pixels, or took far too long. The file is damaged or made to do "
        "harm; export it again.",
        code="decoder-crashed",
    )


_idle: queue.SimpleQueue[DecoderProcess] = queue.SimpleQueue()
"""Processes that wait for work, so that each of many small series need not start its own."""


def _borrow() -> DecoderProcess:
    while True:
        try:
            process = _idle.get_nowait()
        except queue.Empty:
            return DecoderProcess()
        if process.is_alive:
            return process
        process.end()


def _give_back(process: DecoderProcess) -> None:
    if process.is_alive:
        _idle.put(process)


@atexit.register
def end_idle() -> None:
    """End the processes that wait for work."""
    while True:
        try:
            _idle.get_nowait().end()
        except queue.Empty:
            return


def decode_files(
    files: Sequence[tuple[PixelLayout, int, NDArray[Any]]],
    *,
    jobs: int,
    advance: Callable[[int, int], None] = lambda _number, _frames: None,
) -> None:
    """Decode runs of frames of compressed files, each into its own array, over ``jobs`` processes.

    Args:
        files: each file's layout, the first frame, and the array (frames, rows, columns) of its type to fill.
        jobs: how many processes work at once.
        advance: called with a run's number and a count of frames, from several threads.

    Raises:
        FileFault: the first run that can't be decoded, by number; the rest is left.
        FileError: a file can't be read.
    """
    stretches: queue.SimpleQueue[tuple[int, int, int]] = queue.SimpleQueue()
    total = sum(len(out) for _, _, out in files)
    length = max(1, min(MAX_STRETCH, total // (4 * max(1, jobs))))
    for number, (_, _, out) in enumerate(files):
        for first in range(0, len(out), length):
            stretches.put((number, first, min(length, len(out) - first)))
    stop = threading.Event()
    active: set[DecoderProcess] = set()

    def advance_of(number: int) -> Callable[[int], None]:
        return lambda count: advance(number, count)

    def serve() -> None:
        process = None
        try:
            while not stop.is_set():
                try:
                    number, first, count = stretches.get_nowait()
                except queue.Empty:
                    break
                if process is None:
                    process = _borrow()
                    active.add(process)
                if stop.is_set():  # it may have been while the process started
                    break
                layout, begin, out = files[number]
                try:
                    process.decode(layout, begin + first, out[first : first + count], advance_of(number))
                except InputError as error:
                    raise FileFault(number, error) from error
        except BaseException:
            stop.set()
            raise
        finally:
            if process is not None:
                active.discard(process)
                _give_back(process)

    with ThreadPoolExecutor(max(1, min(jobs, stretches.qsize()))) as threads:
        running = [threads.submit(serve) for _ in range(max(1, min(jobs, stretches.qsize())))]
        try:
            for future in running:
                future.result()
        except BaseException:
            stop.set()
            for process in tuple(active):
                process.kill()
            raise


class FileFault(InputError):
    """A fault of one file among many, with its number, so that the caller can say privately which."""

    def __init__(self, number: int, error: InputError) -> None:
        super().__init__(error.message, code=error.code)
        self.number = number
        """The file's place in what was given."""
        self.fault = error
        """What is wrong with it."""

    def __reduce__(self) -> tuple[object, ...]:
        return FileFault, (self.number, self.fault)
