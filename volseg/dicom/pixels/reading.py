"""The stored values of one file or of a whole series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.batch import available_cores
from volseg.dicom.pixels.codecs import READ_SYNTAXES, missing_decoder
from volseg.dicom.pixels.layout import PixelLayout, stored_dtype
from volseg.dicom.pixels.native import read_native
from volseg.dicom.pixels.pool import FileFault, decode_files
from volseg.errors import GeometryError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


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
    jobs: int | None = None,
    advance: Callable[[int, int], None] = lambda _number, _frames: None,
) -> None:
    """Read the stored values of many files, one after the other, into one array.

    Uncompressed pixels are read straight to their place. Compressed ones are decoded in processes of their own, whose
    memory and time are bounded, over ``jobs`` of them.

    Args:
        layouts: of the files, in the order that they shall lie in.
        out: (all frames, rows, columns), contiguous, of a type that holds them all: see ``stored_dtype``.
        jobs: decoding processes at once; by default one for each core.
        advance: called with a file's number and a count of frames as they come in, from several threads.

    Raises:
        FileFault: the first file found at fault: its number, and the same code as ``read_frames`` gives.
        GeometryError: the files don't have one size, or ``out`` doesn't fit them.
        FileError: a file can't be read.
    """
    if not layouts:
        return
    planes = {(layout.rows, layout.columns) for layout in layouts}
    frames = sum(layout.frames for layout in layouts)
    if len(planes) != 1 or out.shape != (frames, *planes.pop()):
        raise GeometryError("The images of a series differ in their rows or columns.", code="mixed-sizes")
    if not out.flags.c_contiguous or not np.can_cast(stored_dtype(layouts), out.dtype):
        raise GeometryError(f"An array of {out.dtype} can't take {stored_dtype(layouts)} pixels.", code="wrong-type")
    compressed: list[tuple[int, PixelLayout, NDArray[Any], NDArray[Any]]] = []
    start = 0
    for number, layout in enumerate(layouts):
        place = out[start : start + layout.frames]
        start += layout.frames
        target = place if layout.dtype == out.dtype else np.empty(layout.shape, layout.dtype)
        if layout.is_native:
            try:
                read_native(layout, target)
            except InputError as error:
                raise FileFault(number, error) from error
            if target is not place:
                place[...] = target
            advance(number, layout.frames)
        elif layout.syntax in READ_SYNTAXES:
            compressed.append((number, layout, place, target))
        else:
            raise FileFault(number, missing_decoder(layout.syntax))
    if not compressed:
        return
    try:
        decode_files(
            [(layout, target) for _, layout, _, target in compressed],
            jobs=available_cores() if jobs is None else max(1, jobs),
            advance=lambda at, count: advance(compressed[at][0], count),
        )
    except FileFault as error:
        raise FileFault(compressed[error.number][0], error.fault) from error
    for _, _, place, target in compressed:
        if target is not place:
            place[...] = target
