"""Decoding one compressed frame, by each installed decoder in turn.

The codecs are C libraries that parse what a stranger wrote. So nothing but ``worker.py`` calls this, in a process that
may crash or run out of memory without harm.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dicom.pixels.layout import ENCAPSULATED_UNCOMPRESSED, RLE_LOSSLESS, PixelLayout
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
READ_SYNTAXES = frozenset({RLE_LOSSLESS, ENCAPSULATED_UNCOMPRESSED, *JPEG, *JPEG_LS, *JPEG_2000, *HTJ2K})


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
    words = np.frombuffer(data[: layout.frame_bytes], layout.dtype.newbyteorder("<"))
    return words.reshape(layout.rows, layout.columns)


_GDCM: tuple[tuple[str, Decoder], ...] = (("python-gdcm", _plugin("gdcm")), ("python-gdcm", _gdcm))
_OPENJPEG: tuple[str, Decoder] = ("pylibjpeg-openjpeg", _plugin("pylibjpeg"))
_JPEGLS: tuple[str, Decoder] = ("pyjpegls", _plugin("pyjpegls"))


def decoders_of(syntax: str) -> tuple[tuple[str, Decoder], ...]:
    """The decoders for a transfer syntax in the order of trial, each with the package that brings it."""
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
    decoders = decoders_of(layout.syntax)
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
