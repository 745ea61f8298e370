"""Reading the stored values of a file or a whole series."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.batch import available_cores
from volseg.dicom.file.header import opened
from volseg.dicom.pixels.codecs import READ_SYNTAXES, missing_decoder
from volseg.dicom.pixels.encapsulation import frame_spans
from volseg.dicom.pixels.layout import PixelLayout, stored_dtype
from volseg.dicom.pixels.native import read_native
from volseg.dicom.pixels.pool import FileFault, decode_files
from volseg.errors import GeometryError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Plane = tuple[int, int]
"""A file, by its number among those that were given, and one of its frames."""


def read_frames(layout: PixelLayout) -> NDArray[Any]:
    """The stored values of one file.

    Returns:
        (frames, rows, columns) of ``layout.dtype``: unused bits out, signs extended, no rescale applied.

    Raises:
        InputError: ``truncated-pixels``, ``damaged-file``, ``undecodable``, ``missing-decoder``,
            ``unsupported-syntax`` or ``decoder-crashed``.
        FileError: the file can't be read.
    """
    out = np.empty(layout.shape, layout.dtype)
    read_series([layout], out, jobs=1)
    return out


def read_series(
    layouts: Sequence[PixelLayout],
    out: NDArray[Any],
    *,
    planes: Sequence[Plane] | None = None,
    jobs: int | None = None,
    advance: Callable[[int, int], None] = lambda _number, _frames: None,
) -> None:
    """Read the stored values of many files into one array.

    Uncompressed pixels are read straight to their place. Compressed ones are decoded in processes of their own, whose
    memory and time are bounded, over ``jobs`` of them. No frame is read that isn't asked for.

    Args:
        layouts: of the files.
        out: (planes, rows, columns), contiguous, of a type that holds them all: see ``stored_dtype``.
        planes: the file, by its number, and the frame of it that each plane of ``out`` shows; by default all frames of
            the first file, then those of the second, and so on.
        jobs: decoding processes, or reading threads, at once; by default one for each core.
        advance: called with a file's number and a count of frames as they come in, from several threads.

    Raises:
        FileFault: the first file found at fault: its number, and the same code as ``read_frames`` gives.
        GeometryError: the files don't have one size, or ``out`` doesn't fit them.
        FileError: a file can't be read.
    """
    if not layouts:
        return
    runs = _runs(layouts, planes)
    sizes = {(layout.rows, layout.columns) for layout in layouts}
    if len(sizes) != 1 or out.shape != (sum(run.count for run in runs), *sizes.pop()):
        raise GeometryError("The images of a series differ in their rows or columns.", code="mixed-sizes")
    if not out.flags.c_contiguous or not np.can_cast(stored_dtype(layouts), out.dtype):
        raise GeometryError(f"An array of {out.dtype} can't take {stored_dtype(layouts)} pixels.", code="wrong-type")
    by_file: dict[int, list[_Run]] = {}
    for run in runs:
        by_file.setdefault(run.number, []).append(run)
    jobs = available_cores() if jobs is None else max(1, jobs)
    native: list[int] = []
    compressed: list[tuple[_Run, NDArray[Any]]] = []
    for number, of_file in by_file.items():
        layout = layouts[number]
        if layout.is_native:
            native.append(number)
        elif layout.syntax in READ_SYNTAXES:
            compressed.extend((run, _target(layout, run, out)) for run in of_file)
        else:
            raise FileFault(number, missing_decoder(layout.syntax))

    def read(number: int) -> None:
        try:
            _read_native_runs(layouts[number], by_file[number], out)
        except InputError as error:
            raise FileFault(number, error) from error
        advance(number, sum(run.count for run in by_file[number]))

    # Filling fresh memory takes longer than reading from the cache, and both go on without the interpreter. What has
    # to be taken apart in memory of its own goes one at a time.
    threads = min(jobs, len(native)) if all(layouts[number].is_addressable for number in native) else 1
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read, native):
                pass
    else:
        for number in native:
            read(number)
    if not compressed:
        return
    try:
        decode_files(
            [(layouts[run.number], run.first, target) for run, target in compressed],
            jobs=jobs,
            advance=lambda at, count: advance(compressed[at][0].number, count),
        )
    except FileFault as error:
        raise FileFault(compressed[error.number][0].number, error.fault) from error
    for run, target in compressed:
        _settle(run, target, out)


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring frames of a file that are neighbours in the array too: how many from ``first`` on go to ``start``."""

    number: int
    first: int
    count: int
    start: int


def _runs(layouts: Sequence[PixelLayout], planes: Sequence[Plane] | None) -> list[_Run]:
    if planes is None:
        starts = np.cumsum([0, *(layout.frames for layout in layouts)])
        return [_Run(number, 0, layout.frames, int(starts[number])) for number, layout in enumerate(layouts)]
    runs: list[_Run] = []
    for start, (number, frame) in enumerate(planes):
        if not 0 <= frame < layouts[number].frames:
            raise GeometryError(f"A file has no frame {frame + 1}.", code="no-such-frame")
        last = runs[-1] if runs else None
        if last is not None and (last.number, last.first + last.count) == (number, frame):
            runs[-1] = replace(last, count=last.count + 1)
        else:
            runs.append(_Run(number, frame, 1, start))
    return runs


def _read_native_runs(layout: PixelLayout, runs: Sequence[_Run], out: NDArray[Any]) -> None:
    if layout.is_addressable or [run.count for run in runs] == [layout.frames]:
        for run in runs:
            target = _target(layout, run, out)
            read_native(layout.part(run.first, run.count), target)
            _settle(run, target, out)
        return
    whole = np.empty(layout.shape, layout.dtype)
    read_native(layout, whole)
    for run in runs:
        out[run.start : run.start + run.count] = whole[run.first : run.first + run.count]


def _target(layout: PixelLayout, run: _Run, out: NDArray[Any]) -> NDArray[Any]:
    """Where a run's values are put: their place in the array, or one of the file's own type."""
    if layout.dtype == out.dtype:
        return out[run.start : run.start + run.count]
    return np.empty((run.count, layout.rows, layout.columns), layout.dtype)


def _settle(run: _Run, target: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy a run's values to their place where they are not there already."""
    if target.dtype != out.dtype:
        out[run.start : run.start + run.count] = target


def frame_digest(layout: PixelLayout, frame: int) -> bytes:
    """A digest of one frame: of its bytes as stored, or of its values where they can't be told from those of others.

    Raises:
        InputError: as ``read_frames``.
        FileError: the file can't be read.
    """
    with opened(layout.path) as descriptor:
        if layout.is_addressable:
            part = layout.part(frame, 1)
            stored = os.pread(descriptor, part.frame_bytes, part.offset)
        elif layout.is_native:
            stored = read_frames(layout)[frame].tobytes()
        else:
            spans = frame_spans(descriptor, layout)[frame]
            stored = b"".join(os.pread(descriptor, length, offset) for offset, length in spans)
    return hashlib.blake2b(stored).digest()
