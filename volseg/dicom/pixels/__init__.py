"""Pixel data: decoding stored values, and rescaling them to modality values.

``layout_of(header)`` checks a file's pixel module and sizes before memory is taken. ``read_series(layouts, out)`` reads
or decodes many files into one array, ``read_frames(layout)`` one file. ``rescale`` applies slope and intercept.
"""

from volseg.dicom.pixels.codecs import BIT_SYNTAXES
from volseg.dicom.pixels.layout import PixelLayout, layout_of, stored_dtype
from volseg.dicom.pixels.pool import FileFault
from volseg.dicom.pixels.reading import frame_digest, read_frames, read_series
from volseg.dicom.pixels.rescaling import rescale

__all__ = [
    "BIT_SYNTAXES",
    "FileFault",
    "PixelLayout",
    "frame_digest",
    "layout_of",
    "read_frames",
    "read_series",
    "rescale",
    "stored_dtype",
]
