"""Decoding one compressed frame, by each installed decoder in turn.

The codecs are C libraries that parse what a stranger wrote. So nothing but ``worker.py`` calls this, in a process that
may crash or run out of memory without harm.
"""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.pixels.layout import DEFLATED_FRAMES, ENCAPSULATED_UNCOMPRESSED, RLE_LOSSLESS, PixelLayout
from volseg.dicom.pixels.words import values_in_place
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Decoder = Callable[[bytes, PixelLayout], NDArray[Any]]

log = logging.getLogger(__name__)

JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless SV1",
}
JPEG_LS = {"1.2.840.10008.1.2.4.80": "JPEG-LS Lossless", "1.2.840.10008.1.2.4.81": "JPEG-LS Near-lossless"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless", "1.2.840.10008.1.2.4.91": "JPEG 2000"}
HTJ2K = {
    "1.2.840.10008.1.2.4.201": "High-throughput JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.202": "High-throughput JPEG 2000 Lossless RPCL",
    "1.2.840.10008.1.2.4.203": "High-throughput JPEG 2000",
}
READ_SYNTAXES = frozenset(
    {RLE_LOSSLESS, ENCAPSULATED_UNCOMPRESSED, DEFLATED_FRAMES, *JPEG, *JPEG_LS, *JPEG_2000, *HTJ2K}
)
BIT_SYNTAXES = READ_SYNTAXES - {*JPEG, *JPEG_LS}
"""What pixels of a single bit may come in: JPEG has 8 bits at least (ISO 10918-1, B.2.2), JPEG-LS 2 (ISO 14495-1, C.2.2)."""


def _plugin(name: str) -> Decoder:
    """One of pydicom's decoding plugins."""

    def decode(data: bytes, layout: PixelLayout) -> NDArray[Any]:
        from pydicom.encaps import encapsulate
        from pydicom.pixels.decoders.base import get_decoder

        decoder = get_decoder(layout.syntax)
        if name not in decoder.available_plugins:
            raise ModuleNotFoundError(name)
        described: Any = {
            "rows": layout.rows,
            "columns": layout.columns,
            "number_of_frames": 1,
            "samples_per_pixel": 1,
            "bits_allocated": layout.bits_allocated,
            "bits_stored": layout.bits_stored,
            "pixel_representation": int(layout.signed),
            "photometric_interpretation": "MONOCHROME2",
            "pixel_keyword": "PixelData",
        }
        array: NDArray[Any] = decoder.as_array(
            encapsulate([data]), index=0, raw=True, decoding_plugin=name, **described
        )[0]
        return array

    return decode


def _gdcm(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    """GDCM itself, which decodes some that pydicom's plugin for it refuses, such as 12-bit JPEG Extended."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2"))
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(layout.syntax)))
    image.SetPixelFormat(
        gdcm.PixelFormat(1, layout.bits_allocated, layout.bits_stored, layout.bits_stored - 1, int(layout.signed))
    )
    # GDCM hands its buffer over as text, whose bytes this gives back.
    raw = image.GetBuffer().encode("utf-8", "surrogateescape")
    word = len(raw) // (layout.rows * layout.columns)
    return np.frombuffer(raw, f"{'i' if layout.signed else 'u'}{word}").reshape(layout.rows, layout.columns)


def _as_is(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    """Encapsulated, but not compressed (PS3.5, A.4.11); always little endian."""
    if layout.single_bits:
        return _of_bits(data, layout)
    words = np.frombuffer(data[: layout.frame_bytes], layout.dtype.newbyteorder("<"))
    return words.reshape(layout.rows, layout.columns)


def _inflated(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    """A frame as it would be stored uncompressed, deflated without a header (PS3.5, 8.2.16 and A.4.13)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(data, layout.frame_bytes + 2)  # and the padding to an even length
    if not inflater.eof:
        raise ValueError("cut off, or longer than a frame")
    return _as_is(content, layout)


def _of_bits(packed: bytes, layout: PixelLayout) -> NDArray[np.uint8]:
    """Pixels that were packed eight to a byte, the lowest bit first, frame by frame (PS3.5, 8.1.1 and D.2)."""
    pixels = layout.rows * layout.columns
    length = -(-pixels // 8)
    if len(packed) not in (length, length + length % 2):
        raise ValueError("another length than that of the frame")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=pixels, bitorder="little")
    return bits.reshape(layout.rows, layout.columns)


def _rle_bits(data: bytes, layout: PixelLayout) -> NDArray[np.uint8]:
    """Pixels of a single bit in one RLE segment (PS3.5, 8.2.2 and G), written as a byte each or packed eight to a byte.

    Writers differ in that, and the length of what was encoded tells which.
    """
    count, position = struct.unpack("<2I", data[:8])
    if count != 1 or position < 64:
        raise ValueError("another number of segments than one")
    pixels = layout.rows * layout.columns
    content = bytearray()
    while position < len(data) and len(content) <= pixels:
        head = data[position]
        if head < 128:
            content += data[position + 1 : position + head + 2]
            position += head + 2
        else:
            content += data[position + 1 : position + 2] * (257 - head if head > 128 else 0)
            position += 2 if head > 128 else 1
    if len(content) == pixels:
        return np.frombuffer(content, np.uint8).reshape(layout.rows, layout.columns)
    return _of_bits(bytes(content), layout)


_GDCM: tuple[tuple[str, Decoder], ...] = (("python-gdcm", _plugin("gdcm")), ("python-gdcm", _gdcm))
_OPENJPEG: tuple[str, Decoder] = ("pylibjpeg-openjpeg", _plugin("pylibjpeg"))
_JPEGLS: tuple[str, Decoder] = ("pyjpegls", _plugin("pyjpegls"))


def decoders_of(syntax: str, *, single_bits: bool = False) -> tuple[tuple[str, Decoder], ...]:
    """The decoders for a transfer syntax in the order of trial, each with the package that brings it."""
    if single_bits and syntax == RLE_LOSSLESS:
        return (("numpy", _rle_bits),)
    if single_bits and syntax in JPEG_2000:
        return (_OPENJPEG,)
    if syntax == DEFLATED_FRAMES:
        return (("numpy", _inflated),)
    if syntax == RLE_LOSSLESS:
        return ("pydicom", _plugin("pydicom")), *_GDCM[1:]
    if syntax == ENCAPSULATED_UNCOMPRESSED:
        return (("numpy", _as_is),)
    if syntax in JPEG:
        return _GDCM
    if syntax in JPEG_LS:
        return _JPEGLS, *_GDCM
    if syntax in JPEG_2000:
        return *_GDCM[:1], _OPENJPEG
    return (_OPENJPEG,) if syntax in HTJ2K else ()


def decode_frame(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    """Decode one frame.

    Args:
        data: its codestream.
        layout: the layout of its file.

    Returns:
        (rows, columns) values of ``layout.dtype``.

    Raises:
        InputError: ``missing-decoder``, no decoder for this syntax is installed; ``undecodable``, all that are refuse
            the data.
    """
    missing: list[str] = []
    decoders = decoders_of(layout.syntax, single_bits=layout.single_bits)
    for package, decoder in decoders:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array = decoder(data, layout)
        except ImportError:
            missing.append(package)
            continue
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 a decoder may raise anything on what it can't read
            log.debug("%s doesn't decode this frame: %s", package, type(error).__name__)
            continue
        if array.shape != (layout.rows, layout.columns) or array.dtype.itemsize > layout.dtype.itemsize:
            continue
        if layout.single_bits and int(array.max()) > 1:
            continue
        values = array.astype(layout.dtype)
        values_in_place(values, layout)
        return values
    if len(missing) == len(decoders):
        raise missing_decoder(layout.syntax)
    raise InputError(
        "No decoder can read a file's compressed pixels, so they are damaged. Copy or export it again.",
        code="undecodable",
    )


def missing_decoder(syntax: str) -> InputError:
    """The error for a transfer syntax that nothing here decodes, naming the package to install where there is one."""
    packages = list(dict.fromkeys(package for package, _ in decoders_of(syntax)))
    if not packages:
        return InputError(
            "A file is in a transfer syntax that volseg doesn't read, such as video. Export it uncompressed.",
            code="unsupported-syntax",
        )
    name = {**JPEG, **JPEG_LS, **JPEG_2000, **HTJ2K}.get(syntax, "compressed")
    return InputError(
        f"No decoder for {name} pixels is installed. Install one: pip install {' or '.join(packages)}.",
        code="missing-decoder",
    )
