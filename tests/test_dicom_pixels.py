"""Pixels: words to values, codecs bit for bit, and a decoder that may crash without harm."""

from __future__ import annotations

import os
import signal
import sys
import threading
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.dicom_traps import Form, Slice, Stack, save, write_stack
from volseg.dicom.file.header import read_header
from volseg.dicom.pixels import FileFault, layout_of, pool, read_frames, read_series, rescale, stored_dtype
from volseg.dicom.pixels.codecs import decode_frame, decoders_of, missing_decoder
from volseg.dicom.pixels.encapsulation import frame_spans, read_frame
from volseg.errors import FileError, GeometryError, InputError

pytest.importorskip("pydicom")


def frames_of(path: Path) -> np.ndarray:
    return read_frames(layout_of(read_header(path)))


def layouts_in(folder: Path) -> list:
    return [layout_of(read_header(path)) for path in sorted(folder.iterdir())]


def sitk_values(path: Path) -> np.ndarray:
    """Rescaled values by SimpleITK."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


# Real codecs


LOSSLESS = ["RLE/CT1_RLE", "RLE/MR1_RLE", "JPLL/CT1_JPLL", "JPLL/MR1_JPLL", "JLSL/CT1_JLSL", "JLSL/MR1_JLSL",
            "J2KR/CT1_J2KR", "J2KR/MR1_J2KR"]  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_codecs_give_the_reference_bit_for_bit(real_data, name):
    folder = real_data("dicom/codecs-wg04")
    expected = frames_of(folder / f"REF/{Path(name).name[:3]}_UNC")
    got = frames_of(folder / name)
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected)


def test_the_reference_itself_is_what_pydicom_and_simpleitk_read(real_data):
    import pydicom

    for name in ("CT1", "MR1"):
        path = real_data("dicom/codecs-wg04") / f"REF/{name}_UNC"
        assert np.array_equal(frames_of(path)[0], pydicom.dcmread(path).pixel_array)
    path = real_data("dicom/codecs-wg04/REF/CT1_UNC")
    assert np.array_equal(rescale(frames_of(path), 1, -1024), sitk_values(path))


@pytest.mark.parametrize("name", ["J2KI/CT1_J2KI", "J2KI/MR1_J2KI", "JLSN/CT1_JLSN", "JLSN/MR1_JLSN", "JPLY/MR1_JPLY"])
def test_lossy_codecs_agree_with_a_second_decoder(real_data, name):
    """SimpleITK's own GDCM for all; for each codec that two packages decode, those two as well."""
    path = real_data("dicom/codecs-wg04") / name
    got = frames_of(path)
    intercept = -1024 if "CT1" in name else 0
    assert np.array_equal(rescale(got, 1, intercept), sitk_values(path))
    layout = layout_of(read_header(path))
    descriptor = os.open(path, os.O_RDONLY)
    data = read_frame(descriptor, frame_spans(descriptor, layout)[0], layout)
    os.close(descriptor)
    by_package = {}
    for package, decoder in decoders_of(layout.syntax):
        if "JPLY" not in name or decoder is decoders_of(layout.syntax)[-1][1]:
            by_package[package] = decoder(data, layout)
    assert all(np.array_equal(one, got[0]) for one in by_package.values())
    assert len(by_package) == (1 if "JPLY" in name else 2)
    assert np.array_equal(decode_frame(data, layout), got[0])


def test_one_image_in_nine_syntaxes(real_data):
    import nibabel

    folder = real_data("dicom/one-image-nine-syntaxes")
    mosaic = frames_of(folder / "In/1.dcm")
    for number in range(2, 10):
        assert np.array_equal(frames_of(folder / f"In/{number}.dcm"), mosaic)
    # The reference holds the mosaic's tiles of 64 x 64, 6 to a row, with their rows upside down.
    reference = np.asarray(nibabel.load(folder / "Ref/1.nii").dataobj)
    for k in range(reference.shape[2]):
        top, left = k // 6 * 64, k % 6 * 64
        assert np.array_equal(reference[:, ::-1, k].T, mosaic[0, top : top + 64, left : left + 64])


def test_what_is_refused_among_hostile_files(real_data):
    folder = real_data("dicom/hostile")
    for name, code in (
        ("2026-05-26-oob-monochrome-46341.dcm", "declares-too-much"),
        ("DummyCTInvalidRows.dcm", "no-pixels"),
        ("Issue22-NoPixelData.dcm", "no-pixels"),
        ("UnknownSopClassUid.dcm", "not-grayscale"),
    ):
        with pytest.raises(InputError) as caught:
            frames_of(folder / name)
        assert caught.value.code == code
        assert name not in str(caught.value)


# Words


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        (Form(), "i2"),
        (Form(signed=False), "u2"),
        (Form(stored=12, signed=False), "u2"),
        (Form(stored=12, garbage=True), "i2"),
        (Form(stored=12, signed=False, garbage=True), "u2"),
        (Form(stored=12, high_bit=15, signed=False), "u2"),
        (Form(stored=10, high_bit=12, garbage=True), "i2"),
        (Form(allocated=8, stored=8, signed=False, slope=4, intercept=0), "u1"),
        (Form(allocated=8, stored=7, garbage=True, slope=8), "i1"),
        (Form(allocated=32, stored=32), "i4"),
        (Form(allocated=32, stored=20, signed=False, garbage=True), "u4"),
    ],
)
def test_words_become_values(tmp_path, form, dtype):
    stack = Stack(form=form, offset=500 if not form.signed else 0, gaps_mm=(3.0, 3.0))
    write_stack(tmp_path, stack)
    got = {}
    for path in tmp_path.iterdir():
        header = read_header(path)
        got[header.integer(0x00200013)] = read_frames(layout_of(header))
    for number in range(3):
        expected = np.rint((stack.phantom(number) - form.intercept) / form.slope)
        assert got[number + 1].dtype == np.dtype(dtype)
        assert np.array_equal(got[number + 1][0], expected)


@pytest.mark.parametrize("odd", [False, True])
def test_eight_bits_in_big_endian_words(tmp_path, odd):
    stack = Stack(form=Form(allocated=8, stored=8, signed=False, slope=4), offset=400, size=(3, 5) if odd else (4, 4))
    data = Slice(stack, 0).dataset()
    expected = np.frombuffer(data.PixelData, np.uint8).copy()
    data.PixelData = np.frombuffer(data.PixelData, "<u2").byteswap().tobytes()
    data["PixelData"].VR = "OW"
    path = save(tmp_path / "one", data, "1.2.840.10008.1.2.2")
    assert np.array_equal(frames_of(path).ravel(), expected[: stack.size[0] * stack.size[1]])


def test_floats_are_read_as_they_are(tmp_path):
    data = Slice(Stack(), 0).dataset()
    values = np.linspace(-1, 1, 120, dtype="<f4")
    del data.PixelData
    data.FloatPixelData = values.tobytes()
    data.BitsAllocated = 32
    path = save(tmp_path / "one", data)
    assert np.array_equal(frames_of(path).ravel(), values)


def test_files_of_different_forms_share_one_array(tmp_path):
    forms = [Form(signed=False), Form(stored=12), Form(allocated=8, stored=8, signed=False, slope=8, intercept=-600)]
    stack = Stack(form=forms, gaps_mm=(3.0, 3.0), offset=300)
    for image in stack.slices():
        save(tmp_path / f"{image.number}", image.dataset())
    layouts = layouts_in(tmp_path)
    out = np.empty((3, 12, 10), stored_dtype(layouts))
    assert out.dtype == np.int32
    read_series(layouts, out)
    for number, form in enumerate(forms):
        assert np.array_equal(out[number], np.rint((stack.phantom(number) - form.intercept) / form.slope))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"BitsAllocated": 12}, "unsupported-pixels"),
        ({"BitsAllocated": 64}, "unsupported-pixels"),
        ({"BitsStored": 17}, "unsupported-pixels"),
        ({"BitsStored": 12, "HighBit": 3}, "unsupported-pixels"),
        ({"SamplesPerPixel": 3}, "not-grayscale"),
        ({"Rows": 0}, "no-pixels"),
        ({"Columns": 60000, "Rows": 60000}, "declares-too-much"),
        ({"NumberOfFrames": 100}, "declares-too-much"),
        ({"NumberOfFrames": 2**31 - 1, "Rows": 65535}, "declares-too-much"),
        ({"Rows": 13}, "declares-too-much"),
    ],
)
def test_senseless_pixel_modules_are_refused_before_reading(tmp_path, change, code):
    data = Slice(Stack(), 0).dataset()
    for keyword, value in change.items():
        setattr(data, keyword, value)
    header = read_header(save(tmp_path / "one", data))
    with pytest.raises(InputError) as caught:
        layout_of(header)
    assert caught.value.code == code


def test_a_file_that_shrinks_after_its_header_was_read(tmp_path):
    path = save(tmp_path / "one", Slice(Stack(), 0).dataset())
    layout = layout_of(read_header(path))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileFault) as caught:
        read_frames(layout)
    assert caught.value.code == "truncated-pixels"
    path.unlink()
    with pytest.raises(OSError, match="can't be read"):
        read_frames(layout)


@pytest.mark.parametrize("jobs", [1, 4])
def test_threads_fill_every_place_and_name_the_first_damaged_file(tmp_path, jobs):
    stack = Stack(gaps_mm=(1.0,) * 29, offset=700)
    for image in stack.slices():
        save(tmp_path / f"{image.number:02d}", image.dataset())
    layouts = layouts_in(tmp_path)
    out = np.empty((30, 12, 10), stored_dtype(layouts))
    seen = []
    read_series(layouts, out, jobs=jobs, advance=lambda number, frames: seen.append((number, frames)))
    assert sorted(seen) == [(number, 1) for number in range(30)]
    for number in range(30):
        assert np.array_equal(out[number], np.rint(stack.phantom(number)))
    for number in (7, 21):
        path = layouts[number].path
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileFault) as caught:
        read_series(layouts, out, jobs=jobs)
    assert (caught.value.number, caught.value.code) == (7, "truncated-pixels")


def test_series_of_unequal_sizes_are_refused(tmp_path):
    save(tmp_path / "0", Slice(Stack(), 0).dataset())
    save(tmp_path / "1", Slice(Stack(size=(8, 8)), 1).dataset())
    layouts = layouts_in(tmp_path)
    with pytest.raises(GeometryError, match="rows or columns"):
        read_series(layouts, np.empty((2, 12, 10), np.int16))
    with pytest.raises(GeometryError, match="can't take"):
        read_series(layouts[:1], np.empty((1, 12, 10), np.uint8))


# Rescale


@pytest.mark.parametrize(
    ("stored", "dtype", "slope", "intercept", "expected"),
    [
        ([0, 4095], "u2", 1, -1024, "i2"),
        ([0, 40000], "u2", 1, 0, "u2"),
        ([0, 40000], "u2", 1, 1, "u2"),
        ([0, 65535], "u2", 1, -1, "i4"),
        ([0, 255], "u1", 1, -1024, "i2"),
        ([0, 255], "u1", 300, 0, "i4"),
        ([-5, 5], "i2", -3, 7, "i2"),
        ([-32768, 32767], "i2", 2, 0, "i4"),
        ([0, 2**31], "u4", 2, 0, "f4"),
        ([0, 100], "u2", 0.5, 0, "f4"),
        ([0, 100], "u2", 1, 0.25, "f4"),
        ([0, 100], "f4", 2, 0, "f4"),
    ],
)
@pytest.mark.parametrize("reuse", [False, True])
def test_rescale_is_exact_in_the_first_type_that_holds_it(stored, dtype, slope, intercept, expected, reuse):
    low, high = stored
    frames = np.linspace(low, high, 60).astype(dtype).reshape(3, 4, 5)
    exact = frames.astype(np.float64) * slope + intercept
    kept = frames.copy()
    got = rescale(frames, slope, intercept, reuse=reuse)
    assert got.dtype == np.dtype(expected)
    assert np.array_equal(got, exact.astype(expected))
    if not reuse:
        assert np.array_equal(frames, kept)


def test_rescale_per_frame_rounds_once():
    frames = np.arange(2 * 4 * 5, dtype=np.uint16).reshape(2, 4, 5) * 1000
    slopes, intercepts = [0.1, 0.3], [0.7, -1e4]
    exact = frames * np.array(slopes)[:, None, None] + np.array(intercepts)[:, None, None]
    got = rescale(frames, slopes, intercepts)
    assert got.dtype == np.float32
    assert np.array_equal(got, exact.astype(np.float32))
    assert rescale(frames, [1, 1], [0, 0]) is frames


# Compressed files, made here


def multi_frame(
    folder: Path, count: int, *, table: bool, pieces: int = 1, syntax: str = "1.2.840.10008.1.2.4.80"
) -> Path:
    """Frames of JPEG-LS, each cut into pieces."""
    from pydicom.encaps import encapsulate

    stack = Stack(form=Form(stored=12, signed=False), offset=700, gaps_mm=(1.0,) * (count - 1), size=(40, 36))
    codestreams = []
    for number in range(count):
        data = Slice(stack, number).dataset()
        data.compress(syntax, generate_instance_uid=False)
        from pydicom.encaps import generate_frames

        codestreams.append(next(generate_frames(data.PixelData, number_of_frames=1)))
    data = Slice(stack, 0).dataset()
    data.NumberOfFrames = count
    data.PixelData = encapsulate(codestreams, fragments_per_frame=pieces, has_bot=table)
    data["PixelData"].is_undefined_length = True
    return save(folder / f"frames-{count}-{table}-{pieces}", data, syntax)


@pytest.mark.parametrize(("table", "pieces"), [(True, 1), (False, 1), (True, 3), (False, 3)])
def test_frames_are_found_by_table_or_by_their_ends(tmp_path, table, pieces):
    path = multi_frame(tmp_path, 5, table=table, pieces=pieces)
    got = frames_of(path)
    stack = Stack(offset=700, gaps_mm=(1.0,) * 4, size=(40, 36))
    for number in range(5):
        assert np.array_equal(got[number], np.rint(stack.phantom(number)))


@pytest.mark.parametrize("cut", [1, 9, 30, 200])
def test_a_compressed_file_that_is_cut_off(tmp_path, cut):
    path = multi_frame(tmp_path, 2, table=True)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(FileFault) as caught:
        frames_of(path)
    assert caught.value.code == "truncated-pixels"


def test_a_codestream_without_its_end_is_cut_off_though_the_items_are_whole(tmp_path):
    from pydicom.encaps import encapsulate, generate_frames

    data = Slice(Stack(size=(40, 36)), 0).dataset()
    data.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)
    whole = next(generate_frames(data.PixelData, number_of_frames=1))
    data.PixelData = encapsulate([whole[: len(whole) // 2]])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(FileFault) as caught:
        frames_of(save(tmp_path / "one", data, "1.2.840.10008.1.2.4.90"))
    assert caught.value.code == "truncated-pixels"


def spans_of(path: Path) -> list:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return frame_spans(descriptor, layout_of(read_header(path)))
    finally:
        os.close(descriptor)


def test_a_missing_delimiter_is_no_fault(tmp_path):
    path = multi_frame(tmp_path, 2, table=True)
    before = spans_of(path)
    path.write_bytes(path.read_bytes()[:-8])
    assert spans_of(path) == before
    assert len(before) == 2


@pytest.mark.parametrize(
    ("find", "put", "code"),
    [
        (b"\xfe\xff\x00\xe0", b"\xfe\xff\x01\xe0", "damaged-file"),
        (b"\xfe\xff\xdd\xe0", b"\xfe\xff\xde\xe0", "damaged-file"),
        (b"\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0", b"\0\0\x10\0\0\0\xfe\xff\x00\xe0", "damaged-file"),
    ],
)
def test_fragments_that_make_no_sense(tmp_path, find, put, code):
    path = multi_frame(tmp_path, 2, table=True)
    raw = path.read_bytes()
    place = raw.rindex(find)
    path.write_bytes(raw[:place] + put + raw[place + len(find) :])
    with pytest.raises(InputError) as caught:
        spans_of(path)
    assert caught.value.code == code


def test_frames_that_nothing_tells_apart(tmp_path):
    """Three fragments for two frames, no table, and no codestream ends inside."""
    path = multi_frame(tmp_path, 2, table=False, pieces=2)
    raw = path.read_bytes()
    place = raw.index(b"\xff\xd9", layout_of(read_header(path)).offset)
    path.write_bytes(raw[:place] + b"\xff\xd8" + raw[place + 2 :])
    with pytest.raises(InputError) as caught:
        spans_of(path)
    assert caught.value.code == "damaged-file"


def test_fewer_fragments_than_frames_are_cut_off(tmp_path):
    path = multi_frame(tmp_path, 2, table=False)
    layout = replace(layout_of(read_header(path)), frames=3)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(InputError) as caught:
        frame_spans(descriptor, layout)
    os.close(descriptor)
    assert caught.value.code == "truncated-pixels"


def test_deflated_pixels_are_inflated_no_further_than_needed(tmp_path):
    stack = Stack(gaps_mm=(1.0, 1.0))
    path = save(tmp_path / "one", Slice(stack, 0).dataset(), "1.2.840.10008.1.2.1.99")
    layout = layout_of(read_header(path))
    assert np.array_equal(read_frames(layout)[0], np.rint(stack.phantom(0)))
    raw = path.read_bytes()
    path.write_bytes(raw[:-40])
    with pytest.raises(FileFault) as caught:
        read_frames(layout)
    assert caught.value.code in ("truncated-pixels", "damaged-file")
    path.write_bytes(b"\0" * 132 + raw[140:])
    with pytest.raises(FileFault) as caught:
        read_frames(layout)
    assert caught.value.code == "damaged-file"


def test_encapsulated_but_not_compressed(tmp_path):
    from pydicom.encaps import encapsulate

    stack = Stack(form=Form(stored=12, garbage=True))
    data = Slice(stack, 0).dataset()
    data.PixelData = encapsulate([data.PixelData])
    data["PixelData"].is_undefined_length = True
    path = save(tmp_path / "one", data, "1.2.840.10008.1.2.1.98")
    assert np.array_equal(frames_of(path)[0], np.rint(stack.phantom(0)))


def test_frames_deflated_one_by_one_are_read(tmp_path):
    from pydicom.encaps import encapsulate

    stack = Stack()
    data = Slice(stack, 0).dataset()
    deflater = zlib.compressobj(wbits=-15)
    data.PixelData = encapsulate([deflater.compress(data.PixelData) + deflater.flush()])
    data["PixelData"].is_undefined_length = True
    path = save(tmp_path / "one", data, "1.2.840.10008.1.2.1.98")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1.98", b"1.2.840.10008.1.2.8.1\0", 1))
    assert np.array_equal(frames_of(path)[0], np.rint(stack.phantom(0)))


def test_a_missing_decoder_names_the_package(tmp_path, monkeypatch):
    from pydicom.pixels.decoders import base

    monkeypatch.setitem(sys.modules, "gdcm", None)
    monkeypatch.setattr(base.JPEGLSLosslessDecoder, "_available", {})
    layout = layout_of(read_header(multi_frame(tmp_path, 1, table=False)))
    with pytest.raises(InputError, match="pip install pyjpegls or python-gdcm") as caught:
        decode_frame(b"\xff\xd8", layout)
    assert caught.value.code == "missing-decoder"
    assert "JPEG-LS" in str(caught.value)
    assert missing_decoder("1.2.840.10008.1.2.4.100").code == "unsupported-syntax"


# Processes


def children() -> list[str]:
    """The command lines of this process's children that have not ended; of all Linux tells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # After the name in parentheses, which may hold anything: state, parent.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.append((folder / "cmdline").read_text())
    return found


def decoder_that(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Have new decoding processes do ``body`` for each frame."""
    start = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        "import os, time\n"
        "from volseg.dicom.pixels import codecs, worker\n"
        f"def decode_frame(data, layout):\n    {body}\n"
        "codecs.decode_frame = decode_frame\n"
        "worker.main()\n"
    )
    pool.end_idle()
    monkeypatch.setattr(pool, "_START", start)


@pytest.fixture
def fresh_pool():
    yield
    pool.end_idle()


@pytest.mark.usefixtures("fresh_pool")
@pytest.mark.parametrize(
    "body",
    [
        "os.abort()",
        "os._exit(0)",
        "bytearray(3 * 2**30)",
        "time.sleep(600)",
        "while True: pass",
        "os.write(1, b'x' * 100); sys.exit(1)",
    ],
)
def test_a_decoder_that_dies_costs_the_series_alone(tmp_path, monkeypatch, body):
    path = multi_frame(tmp_path, 2, table=False)
    monkeypatch.setattr(pool, "FRAME_SECONDS", 0.5)
    if "sleep" in body:
        monkeypatch.setattr(pool, "STALL_SECONDS", 1.0)
    decoder_that(monkeypatch, body)
    with pytest.raises(FileFault) as caught:
        frames_of(path)
    assert caught.value.code == "decoder-crashed"
    assert caught.value.number == 0
    if body in ("time.sleep(600)", "while True: pass"):
        assert body not in " ".join(children())  # what hangs doesn't outlive its series
    if body == "os.abort()":
        monkeypatch.undo()
        assert frames_of(path).shape == (2, 36, 40)


@pytest.mark.usefixtures("fresh_pool")
def test_what_a_decoder_prints_harms_nothing(tmp_path, monkeypatch, capfd):
    path = multi_frame(tmp_path, 2, table=False)
    decoder_that(
        monkeypatch, "os.write(1, b'noise'); os.write(2, b'noise'); import numpy; return numpy.ones((36, 40), 'u2')"
    )
    assert (frames_of(path) == 1).all()
    assert "noise" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("jobs", [1, 3])
def test_many_files_go_to_their_own_places(tmp_path, jobs):
    stack = Stack(form=Form(stored=12, signed=False), offset=900, gaps_mm=(1.0,) * 39)
    seen = []
    for image in stack.slices():
        data = image.dataset()
        if image.number % 5:
            data.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
        save(
            tmp_path / f"{image.number:02d}", data, "1.2.840.10008.1.2.5" if image.number % 5 else "1.2.840.10008.1.2.1"
        )
    layouts = layouts_in(tmp_path)
    out = np.empty((40, 12, 10), np.uint16)
    read_series(layouts, out, jobs=jobs, advance=lambda number, frames: seen.append((number, frames)))
    assert sorted(seen) == [(number, 1) for number in range(40)]
    for number in range(40):
        assert np.array_equal(out[number], np.rint(stack.phantom(number)))


def test_the_file_at_fault_is_named_by_its_number(tmp_path):
    stack = Stack(form=Form(stored=12, signed=False), offset=900, gaps_mm=(1.0,) * 19)
    for image in stack.slices():
        data = image.dataset()
        data.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
        save(tmp_path / f"{image.number:02d}", data, "1.2.840.10008.1.2.5")
    path = tmp_path / "13"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FileFault) as caught:
        read_series(layouts_in(tmp_path), np.empty((20, 12, 10), np.uint16), jobs=2)
    assert (caught.value.number, caught.value.code) == (13, "truncated-pixels")


def test_a_compressed_file_that_vanishes(tmp_path):
    path = multi_frame(tmp_path, 1, table=False)
    layout = layout_of(read_header(path))
    path.unlink()
    with pytest.raises(FileError, match="can't be read") as caught:
        read_frames(layout)
    assert caught.value.code == "cannot-read"


@pytest.mark.usefixtures("fresh_pool")
def test_interrupting_stops_the_decoders(tmp_path, monkeypatch):
    path = multi_frame(tmp_path, 2, table=False)
    monkeypatch.setattr(pool, "STALL_SECONDS", 500.0)
    decoder_that(monkeypatch, "time.sleep(600)")
    alarm = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    alarm.start()
    with pytest.raises(KeyboardInterrupt):
        frames_of(path)
    alarm.join()
    pool.end_idle()  # one that was still starting has not begun its work
    assert not any("worker.main()" in child for child in children())


# Damage


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_damaged_codestreams_give_a_fault_or_values_and_nothing_else(tmp_path, syntax):
    rng = np.random.default_rng(int(syntax[-2:].strip(".")))
    data = Slice(Stack(form=Form(stored=12, signed=False), offset=700, size=(40, 36)), 0).dataset()
    data.compress(syntax, generate_instance_uid=False)
    path = save(tmp_path / "one", data, syntax)
    layout = layout_of(read_header(path))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    seen = set()
    for _ in range(60):
        raw = whole.copy()
        places = rng.integers(layout.offset, len(raw), rng.integers(1, 12))
        raw[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
        path.write_bytes(raw.tobytes())
        try:
            seen.add(read_frames(layout).shape)
        except FileFault as error:
            seen.add(error.code)
    assert seen <= {(1, 36, 40), "undecodable", "truncated-pixels", "damaged-file", "decoder-crashed"}
    assert len(seen) > 1
