"""The decoder process, which isolates crashes, hangs and memory exhaustion of codecs.

It reads one line of JSON for each stretch of frames from its input, and answers each frame with a status byte, a
length and that many bytes: the frame's values, or an error's code and message. Nothing is pickled either way.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from volseg.dicom.file.header import opened
from volseg.dicom.pixels.layout import PixelLayout
from volseg.errors import VolsegError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.dicom.pixels.encapsulation import Span

MEMORY_BYTES = 2**30
"""Of address space, libraries included. A frame of 4096 x 4096 needs a third of it in the hungriest decoder."""
REPLY = struct.Struct("<BI")
READY, FRAME, FAULT = 0, 1, 2
"""The code of the one fault that is the disk's and not the content's."""


def request(layout: PixelLayout, first: int, count: int, seconds: float) -> bytes:
    """The line that asks for ``count`` frames of a file from frame ``first`` on, each in that much computing time."""
    content = asdict(layout) | {"path": os.fsdecode(layout.path), "first": first, "count": count, "seconds": seconds}
    return json.dumps(content).encode("ascii") + b"\n"


def answers(line: bytes) -> Iterator[tuple[int, Any]]:
    """The status and content of each answer to one request; a fault ends them."""
    from volseg.dicom.pixels.codecs import decode_frame
    from volseg.dicom.pixels.encapsulation import read_frame

    content = json.loads(line)
    first, count, seconds = content.pop("first"), content.pop("count"), content.pop("seconds")
    layout = PixelLayout(**content | {"path": Path(content["path"])})
    try:
        with opened(layout.path) as descriptor:
            for spans in _spans(descriptor, layout)[first : first + count]:
                data = read_frame(descriptor, spans, layout)
                with _computing_at_most(seconds):
                    values = decode_frame(data, layout)
                yield FRAME, values.reshape(-1).view("u1").data
    except VolsegError as error:
        yield FAULT, json.dumps([error.code, error.message]).encode()
    except MemoryError:
        yield FAULT, json.dumps(["decoder-crashed", OUT_OF_MEMORY]).encode()


_known_spans: list[tuple[object, list[list[Span]]]] = []
"""Where the frames of the file that was asked for last lie, so that the next request need not walk over it again."""


def _spans(descriptor: int, layout: PixelLayout) -> list[list[Span]]:
    from volseg.dicom.pixels.encapsulation import frame_spans

    status = os.fstat(descriptor)
    asked = (layout, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if not _known_spans or _known_spans[0][0] != asked:
        _known_spans[:] = [(asked, frame_spans(descriptor, layout))]
    return _known_spans[0][1]


@contextmanager
def _computing_at_most(seconds: float) -> Iterator[None]:
    """Have the system end this process when the block computes for longer.

    Computing time, since on a busy machine a sound frame may take any time by the clock.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


OUT_OF_MEMORY = (
    "Decoding a file's pixels took more memory than any slice needs, so it was stopped. The file is damaged or made "
    "to do harm; export it again."
)


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # codecs write to these, at times what stands in the file
    os.dup2(quiet, 2)
    _load()
    _bound_memory()
    _send(output, READY, b"")
    for line in sys.stdin.buffer:
        for status, content in answers(line):
            _send(output, status, content)


def _load() -> None:
    """Import what decoding needs before the memory is bounded, so that each request finds it loaded."""
    import contextlib
    import logging

    import pydicom.encaps
    import pydicom.pixels  # noqa: F401

    with contextlib.suppress(ImportError):
        import gdcm  # noqa: F401
    logging.disable(logging.CRITICAL)


def _bound_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        # Some systems know no such bound; the deadline still holds there.
        return


def _send(output: BinaryIO, status: int, content: Any) -> None:
    _write(output, memoryview(REPLY.pack(status, len(content))))
    _write(output, memoryview(content))


def _write(output: BinaryIO, view: memoryview) -> None:
    while view:
        view = view[output.write(view) :]
