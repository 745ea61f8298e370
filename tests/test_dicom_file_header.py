"""The bounded header reader, against pydicom on real files, and on hostile ones."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest

from volseg.dicom.file import tags
from volseg.dicom.file.elements import MAX_DEPTH
from volseg.dicom.file.header import Header, NotDicomError, read_header
from volseg.errors import FileError, InputError

if TYPE_CHECKING:
    from conftest import RealData, WriteSeries


def explicit_meta(syntax: bytes = b"1.2.840.10008.1.2.1") -> bytes:
    value = syntax + b"\0" * (len(syntax) % 2)
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)) + value
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element)) + element


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


SERIES = element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0") + element(0x20, 0xE, b"UI", b"1.2.3\0")


@pytest.mark.filterwarnings("ignore")
def test_real_files_read_as_pydicom_reads_them(real_data: RealData) -> None:
    compared = 0
    for path in sorted(real_data("dicom").rglob("*")):
        if not path.is_file() or "Deeply-Nested" in path.name or (path.suffix == ".dcm" and "mr_000" in str(path)):
            continue
        try:
            header = read_header(path)
        except NotDicomError:
            continue
        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        compared += 1
        if header.uids_of_meta_header:
            for own, of_meta in (
                ("SOPClassUID", "MediaStorageSOPClassUID"),
                ("SOPInstanceUID", "MediaStorageSOPInstanceUID"),
            ):
                if not ds.get(own):
                    setattr(ds, own, ds.file_meta[of_meta].value)
        for tag in tags.WANTED:
            if tag >> 16 != 2:
                assert_same_value(header, ds, tag)
    assert compared > 250


def assert_same_value(header: Header, ds: pydicom.Dataset, tag: int) -> None:
    expected = ds.get(tag)
    assert (expected is None) == (tag not in header.values)
    if expected is None:
        return
    several = expected.value if expected.VM > 1 else [expected.value] if expected.value not in (None, "") else []
    if expected.VR in ("DS", "IS"):
        assert header.numbers(tag) == tuple(float(value) for value in several)
    elif expected.VR == "US":
        assert header.unsigned(tag) == (several[0] if several else None)
    elif expected.VR == "FD":
        assert header.doubles(tag) == tuple(several)
    elif expected.VR in ("UI", "CS"):
        assert header.texts(tag) == tuple(str(value) for value in several)


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
def test_pixels_are_found_in_each_uncompressed_syntax(syntax: str, write_series: WriteSeries, tmp_path: Path) -> None:
    stored = write_series(tmp_path, syntax=syntax)[0]
    header = read_header(tmp_path / "000.dcm")
    assert header.syntax == syntax
    assert header.numbers(tags.PIXEL_SPACING) == (0.5, 0.75)
    assert header.unsigned(tags.ROWS) == 12
    content = (tmp_path / "000.dcm").read_bytes()
    if syntax.endswith(".99"):
        start = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
        content = zlib.decompress(content[start:], -15)
    order = ">u2" if header.big_endian else "<u2"
    assert header.pixel_length == stored.nbytes
    assert content[header.pixel_offset :][: stored.nbytes] == stored.astype(order).tobytes()
    assert header.file_size == len(content)


def test_files_without_preamble_or_meta_header_are_read(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path)
    content = (tmp_path / "000.dcm").read_bytes()
    start = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
    for name, bare in (("meta", content[132:]), ("nothing", content[start:])):
        (tmp_path / name).write_bytes(bare)
        header = read_header(tmp_path / name)
        assert not header.has_preamble
        assert header.unsigned(tags.COLUMNS) == 10
    assert read_header(tmp_path / "000.dcm").has_preamble


def test_a_syntax_that_the_bytes_deny_is_not_believed(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path, syntax="1.2.840.10008.1.2")
    path = tmp_path / "000.dcm"
    start = 132 + 12 + struct.unpack_from("<I", path.read_bytes(), 140)[0]
    path.write_bytes(explicit_meta() + path.read_bytes()[start:])
    assert read_header(path).numbers(tags.PIXEL_SPACING) == (0.5, 0.75)


@pytest.mark.parametrize("content", [b"", b"DICM", b"\x08\x00" * 40, b"\0" * 200, b"PK\x03\x04" + b"x" * 300])
def test_other_files_are_no_dicom(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotDicomError):
        read_header(tmp_path / "file")


def test_an_absent_file_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        read_header(tmp_path / "absent")


def nested(depth: int) -> bytes:
    return b"".join(
        struct.pack("<HH2sHIHHI", 0x7777, 1, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) for _ in range(depth)
    )


def closed(depth: int) -> bytes:
    return struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * depth


def test_nesting_is_followed_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    after = element(0x7778, 2, b"US", b"\1\0")
    path.write_bytes(explicit_meta() + SERIES + nested(MAX_DEPTH) + closed(MAX_DEPTH) + after)
    assert read_header(path).uid(tags.SERIES_INSTANCE_UID) == "1.2.3"
    path.write_bytes(explicit_meta() + SERIES + nested(MAX_DEPTH + 1) + closed(MAX_DEPTH + 1))
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert caught.value.code == "nested-too-deep"


def test_a_real_file_that_nests_without_end_is_refused_at_once(real_data: RealData) -> None:
    with pytest.raises(InputError) as caught:
        read_header(real_data("dicom/hostile/2026-05-06-Deeply-Nested-Sequence.dcm"))
    assert caught.value.code == "nested-too-deep"


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (struct.pack("<HH2sHI", 0x20, 0x32, b"UN", 0, 2**31), "truncated-file"),
        (struct.pack("<HH2sH", 0x20, 0x32, b"DS", 100) + b"1", "truncated-file"),
        (nested(1), "truncated-file"),
        # The rest of an element behind a value that reaches beyond what is read at once.
        (struct.pack("<HH2sHI", 0x7777, 1, b"UN", 0, 40_000) + bytes(40_000) + b"\x10\x00\x20", "truncated-file"),
        (nested(1) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), "damaged-file"),
        (struct.pack("<HH2sHI", 0x7777, 1, b"SQ", 0, 0xFFFFFFFF) + element(8, 8, b"CS", b"AB"), "damaged-file"),
    ],
)
def test_damaged_headers_are_told(tail: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(explicit_meta() + SERIES + tail)
    with pytest.raises(InputError) as caught:
        read_header(tmp_path / "file")
    assert caught.value.code == code


def test_every_cut_of_a_file_ends_in_an_error_or_a_header(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path)
    whole = (tmp_path / "000.dcm").read_bytes()
    path = tmp_path / "cut"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            header = read_header(path)
        except InputError:
            continue
        assert header.pixel_offset <= length


def test_a_deflate_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.dicom.file.header.MAX_INFLATED_BYTES", 2**20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(SERIES + b"\0" * 2**22) + packer.flush()
    (tmp_path / "file").write_bytes(explicit_meta(b"1.2.840.10008.1.2.1.99") + bomb)
    with pytest.raises(InputError) as caught:
        read_header(tmp_path / "file")
    assert caught.value.code == "declares-too-much"


def test_numbers_that_are_none_are_not_made_up(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path)
    path = tmp_path / "000.dcm"
    path.write_bytes(path.read_bytes().replace(b"0.5\\0.75", b"0.5\\nan "))
    assert read_header(path).numbers(tags.PIXEL_SPACING) == ()
