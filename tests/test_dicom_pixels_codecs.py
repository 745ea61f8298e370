"""One compressed frame, here in this process: each decoder alone, and pixels of a single bit, by the letter of PS3.5."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import generate_frames

from tests.dicom_traps import Form, Slice, Stack, save
from volseg.dicom.file.header import read_header
from volseg.dicom.pixels import codecs, layout_of
from volseg.dicom.pixels.layout import DEFLATED_FRAMES, ENCAPSULATED_UNCOMPRESSED, RLE_LOSSLESS, PixelLayout
from volseg.errors import InputError

STACK = Stack(form=Form(stored=12, signed=False), offset=900, size=(64, 48))
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


def compressed(folder: Path, syntax: str) -> tuple[bytes, PixelLayout]:
    """A frame as pydicom compresses it."""
    data = Slice(STACK, 0).dataset()
    data.compress(syntax, generate_instance_uid=False)
    layout = layout_of(read_header(save(folder / "one", data, syntax)))
    return next(generate_frames(data.PixelData, number_of_frames=1)), layout


@pytest.fixture
def words(tmp_path: Path) -> PixelLayout:
    """The layout of a file of 12 bits in words of 16."""
    return layout_of(read_header(save(tmp_path / "plain", Slice(STACK, 0).dataset(), "1.2.840.10008.1.2.1")))


@pytest.fixture
def bits(words: PixelLayout) -> PixelLayout:
    """The layout of a frame of 5 x 7 pixels of a single bit."""
    return replace(words, rows=5, columns=7, bits_allocated=8, bits_stored=1, high_bit=0, single_bits=True)


@pytest.mark.parametrize("syntax", [RLE_LOSSLESS, JPEG_LS, JPEG_2000])
def test_every_decoder_of_a_syntax_gives_the_same_values(tmp_path: Path, syntax: str) -> None:
    frame, layout = compressed(tmp_path, syntax)
    expected = np.rint(STACK.phantom(0))
    decoders = codecs.decoders_of(syntax)
    assert len(decoders) > 1
    for _, decode in decoders:
        np.testing.assert_array_equal(decode(frame, layout), expected)
    found = codecs.decode_frame(frame, layout)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, expected)


def test_the_next_decoder_is_asked_where_one_gives_another_shape_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, layout = compressed(tmp_path, RLE_LOSSLESS)
    *_, (package, right) = codecs.decoders_of(RLE_LOSSLESS)

    def fails(*_: object) -> np.ndarray:
        raise RuntimeError("it says what it likes")

    def decoders(*others: Callable[..., np.ndarray]) -> None:
        found = tuple((package, decode) for decode in others)
        monkeypatch.setattr(codecs, "decoders_of", lambda *_, **__: found)

    decoders(fails, lambda *_: np.zeros((2, 2), np.uint16), right)
    np.testing.assert_array_equal(codecs.decode_frame(frame, layout), np.rint(STACK.phantom(0)))
    decoders(fails, lambda *_: np.zeros((layout.rows, layout.columns), np.uint32))
    with pytest.raises(InputError, match="damaged") as caught:
        codecs.decode_frame(frame, layout)
    assert caught.value.code == "undecodable"


def test_memory_that_runs_out_is_no_damage(words: PixelLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(codecs, "decoders_of", lambda *_, **__: (("numpy", short),))
    with pytest.raises(MemoryError):
        codecs.decode_frame(b"", words)


@pytest.mark.parametrize("syntax", [ENCAPSULATED_UNCOMPRESSED, DEFLATED_FRAMES])
def test_words_that_are_stored_as_they_are_or_deflated(words: PixelLayout, syntax: str) -> None:
    layout = replace(words, syntax=syntax)
    values = np.arange(layout.rows * layout.columns, dtype="<u2").reshape(layout.rows, layout.columns) % 4096
    content = values.tobytes()
    frame = zlib.compress(content, wbits=-15) if syntax == DEFLATED_FRAMES else content
    np.testing.assert_array_equal(codecs.decode_frame(frame, layout), values)
    with pytest.raises(InputError):
        codecs.decode_frame(frame[:-9], layout)


def run_length(content: bytes) -> bytes:
    """One segment of runs and of literals of one byte (PS3.5, G.3)."""
    runs = (run[0] for run in re.finditer(rb"(.)\1{0,127}", content, re.DOTALL))
    encoded = (bytes((257 - len(run) if len(run) > 1 else 0, run[0])) for run in runs)
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"".join(encoded)


PIXELS = np.random.default_rng(0).integers(0, 2, (5, 7)).astype(np.uint8)
PACKED = np.packbits(PIXELS, bitorder="little").tobytes()
DEFLATED = zlib.compress(PACKED, wbits=-15)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (ENCAPSULATED_UNCOMPRESSED, PACKED),
        (ENCAPSULATED_UNCOMPRESSED, PACKED + b"\0"),  # padded to an even length
        (DEFLATED_FRAMES, DEFLATED),
        (RLE_LOSSLESS, run_length(PACKED)),
        (RLE_LOSSLESS, run_length(PIXELS.tobytes())),
        (RLE_LOSSLESS, run_length(b"")[:64] + bytes((128, 34)) + PIXELS.tobytes()),  # 128 stands for nothing
    ],
)
def test_single_bits(bits: PixelLayout, syntax: str, frame: bytes) -> None:
    np.testing.assert_array_equal(codecs.decode_frame(frame, replace(bits, syntax=syntax)), PIXELS)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (ENCAPSULATED_UNCOMPRESSED, PACKED[:-1]),
        (ENCAPSULATED_UNCOMPRESSED, PIXELS.tobytes()),
        (DEFLATED_FRAMES, DEFLATED[:-2]),
        (DEFLATED_FRAMES, zlib.compress(bytes(10**6), wbits=-15)),
        (RLE_LOSSLESS, struct.pack("<16I", 2, 64, 64, *[0] * 13) + run_length(PACKED)[64:]),
        (RLE_LOSSLESS, run_length(PACKED[:-1])),
        (RLE_LOSSLESS, run_length((2 * PIXELS).tobytes())),
        (RLE_LOSSLESS, run_length(bytes(10**6))),
    ],
)
def test_single_bits_of_another_length_or_value_are_refused(bits: PixelLayout, syntax: str, frame: bytes) -> None:
    with pytest.raises(InputError) as caught:
        codecs.decode_frame(frame, replace(bits, syntax=syntax))
    assert caught.value.code == "undecodable"


def test_single_bits_of_jpeg_2000_have_one_decoder() -> None:
    ((package, _),) = codecs.decoders_of(JPEG_2000, single_bits=True)
    assert package == "pylibjpeg-openjpeg"
    assert codecs.decoders_of("1.2.840.10008.1.2.4.201") == ((package, _),)
    assert {name for name, _ in codecs.decoders_of("1.2.840.10008.1.2.4.50")} == {"python-gdcm"}
