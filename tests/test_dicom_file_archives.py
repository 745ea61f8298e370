"""Archives: every form is read, nothing leaves the private folder, and bombs, damage and secrets are refused."""

from __future__ import annotations

import bz2
import errno
import gzip
import os
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.conftest import uncounted
from volseg.dicom.file import archives
from volseg.dicom.file.archives import Limits, Unpacker, is_archive, private_folder
from volseg.dicom.file.files import FoundFile
from volseg.errors import DiskFullError, FileError, InputError, UsageError
from volseg.outcomes import Ledger, Status
from volseg.verbs.convert import ConvertOptions, convert, preview

if TYPE_CHECKING:
    from conftest import WriteSeries

NATIVE = ConvertOptions(spacing=("native",))


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private folders are made; nothing may stay there."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def slices(write_series: WriteSeries, tmp_path: Path) -> list[Path]:
    write_series(tmp_path / "plain")
    return sorted((tmp_path / "plain").iterdir())


def zipped(path: Path, slices: list[Path], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for file in slices:
            archive.write(file, f"study/{file.name}")
    return path


def tarred(path: Path, slices: list[Path], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for file in slices:
            archive.add(file, f"study/{file.name}")
    return path


MAKERS: dict[str, Callable[[Path, list[Path]], Path]] = {
    "zip": zipped,
    "stored": lambda path, files: zipped(path, files, zipfile.ZIP_STORED),
    "tar": tarred,
    "gnu": lambda path, files: tarred(path, files, form=tarfile.GNU_FORMAT),
    "tar.gz": lambda path, files: tarred(path, files, "w:gz"),
    "tar.bz2": lambda path, files: tarred(path, files, "w:bz2"),
}


def codes(ledger: Ledger) -> list[str]:
    return sorted(outcome.code for outcome in ledger.outcomes if outcome.status is not Status.DONE)


def voxels(folder: Path) -> np.ndarray:
    (image,) = (folder / "imagesTs").glob("*.nii.gz")
    return np.asanyarray(nibabel.load(image).dataobj)


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize("place", ["inside", "in its place", "nested"])
def test_every_form_gives_the_same_image(
    form: str, place: str, slices: list[Path], tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / "dicom").mkdir()
    # The name says nothing: content alone tells an archive.
    source = MAKERS[form](tmp_path / "dicom/IM0001", slices)
    if place == "nested":
        outer = zipped(tmp_path / "outer", [source])
        source.unlink()
        outer.rename(source)
    ledger = convert(source if place == "in its place" else tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger) == []
    assert "IM0001/study" in ledger.outcomes[0].private
    convert(tmp_path / "plain", tmp_path / "peer", NATIVE)
    np.testing.assert_array_equal(voxels(tmp_path / "out"), voxels(tmp_path / "peer"))
    assert not list(scratch.iterdir())
    again = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert [outcome.code for outcome in again.outcomes] == ["already-done"]


def test_a_preview_reads_archives_too(slices: list[Path], tmp_path: Path, scratch: Path) -> None:
    rows, _ = preview(zipped(tmp_path / "a.zip", slices), tmp_path / "out", NATIVE)
    assert [row.images for row in rows] == [5]
    assert not list(scratch.iterdir())


def test_names_and_links_lead_nowhere(slices: list[Path], tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "dicom").mkdir()
    with tarfile.open(tmp_path / "dicom/a.tar", "w") as archive:
        for number, file in enumerate(slices):
            archive.add(file, ("../../up", "/abs", "x/../../y", "a\nb", "same")[number])
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        pipe = tarfile.TarInfo("pipe")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    with zipfile.ZipFile(tmp_path / "dicom/b.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert ledger.count(Status.DONE) == 1
    assert ledger.skipped_kinds == {"symbolic link": 2, "special file": 1}
    assert {path for path in tmp_path.rglob("*") if "out" not in path.relative_to(tmp_path).parts} == before
    assert not list(scratch.iterdir())


def bomb(path: Path, _: list[Path]) -> Path:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("image", "w", force_zip64=True) as file,
    ):
        for _ in range(10):
            file.write(bytes(2**23))
    return path


def tar_bomb(path: Path, _: list[Path]) -> Path:
    member = tarfile.TarInfo("image")
    member.size = 2**27
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf())
        for _ in range(16):
            file.write(bytes(2**23))
    return path


def header_bomb(path: Path, _: list[Path]) -> Path:
    """A long name of 128 MiB."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**27
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf())
        for _ in range(16):
            file.write(bytes(2**23))
    return path


def nested_bomb(path: Path, _: list[Path]) -> Path:
    """Each layer alone is within bounds."""
    inner = path.with_name("inner")
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("image", bytes(2**26 + 2**20))
    outer = zipped(path, [inner])
    inner.unlink()
    return outer


def cut(maker: str, at: float) -> Callable[[Path, list[Path]], Path]:
    def make(path: Path, files: list[Path]) -> Path:
        raw = MAKERS[maker](path, files).read_bytes()
        path.write_bytes(raw[: int(len(raw) * at)])
        return path

    return make


def cut_between(path: Path, files: list[Path]) -> Path:
    """The last slice and the end are lost, to the block."""
    tarred(path, files)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    return path


def flipped(path: Path, files: list[Path]) -> Path:
    raw = bytearray(zipped(path, files, zipfile.ZIP_STORED).read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    return path


def encrypted(path: Path, files: list[Path]) -> Path:
    raw = zipped(path, files).read_bytes()
    place = raw.find(b"PK\x01\x02")
    while place >= 0:
        flags = struct.unpack_from("<H", raw, place + 8)[0] | 1
        raw = raw[: place + 8] + struct.pack("<H", flags) + raw[place + 10 :]
        place = raw.find(b"PK\x01\x02", place + 4)
    path.write_bytes(raw)
    return path


def thrice(path: Path, files: list[Path]) -> Path:
    inner = zipped(path.with_name("1"), files)
    middle = zipped(path.with_name("2"), [inner])
    outer = zipped(path, [middle])
    inner.unlink()
    middle.unlink()
    return outer


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (bomb, "declares-too-much"),
        (tar_bomb, "declares-too-much"),
        (header_bomb, "declares-too-much"),
        (nested_bomb, "declares-too-much"),
        (cut("zip", 0.7), "damaged-archive"),
        (cut("tar", 0.5), "damaged-archive"),
        (cut("tar.gz", 0.9), "damaged-archive"),
        (cut("tar.bz2", 0.9), "damaged-archive"),
        (cut_between, "damaged-archive"),
        (flipped, "damaged-archive"),
        (encrypted, "encrypted-archive"),
        (lambda path, files: zipped(path, files, zipfile.ZIP_LZMA), "unsupported-archive"),
        (thrice, "nested-too-deep"),
    ],
)
def test_an_archive_that_is_no_good_is_refused_whole(
    make: Callable[[Path, list[Path]], Path], code: str, slices: list[Path], tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / "dicom").mkdir()
    make(tmp_path / "dicom/archive.tar.bz2", slices)  # content tells the others
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger) == [code]
    assert ledger.exit_code == 2
    assert not list(scratch.iterdir())


def test_too_many_entries_are_refused(slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 4)
    for form in ("zip", "tar"):
        ledger = convert(MAKERS[form](tmp_path / form, slices), tmp_path / f"out {form}", NATIVE)
        assert codes(ledger) == ["declares-too-much"]


def test_a_directory_that_declares_too_much_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(zipfile, "ZipFile", fail)
    (tmp_path / "dicom").mkdir()
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, 2**31, 0, 0)
    (tmp_path / "dicom/a").write_bytes(b"PK\x03\x04" + bytes(100) + end)
    far = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 9, 9, 2**40, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 104, 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, 2**32 - 1, 0, 0)
    (tmp_path / "dicom/b").write_bytes(b"PK\x03\x04" + bytes(100) + far + locator + end)
    assert codes(convert(tmp_path / "dicom", tmp_path / "out", NATIVE)) == ["declares-too-much"] * 2


def test_packed_files_that_are_no_archive_are_none(tmp_path: Path) -> None:
    for name, raw in (
        ("image.nii.gz", gzip.compress(bytes(5000))),
        ("text.bz2", bz2.compress(b"text")),
        ("broken.gz", b"\x1f\x8b\x08junk"),
        ("short", b"PK"),
        ("empty", b""),
    ):
        (tmp_path / name).write_bytes(raw)
        assert not is_archive(tmp_path / name)
    with pytest.raises(UsageError):
        convert(tmp_path / "image.nii.gz", tmp_path / "out", NATIVE)
    with pytest.raises(FileError):
        is_archive(tmp_path / "absent")


def test_the_folder_is_private_and_goes_with_an_interrupt(scratch: Path) -> None:
    def work() -> None:
        with private_folder() as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "slice").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_when_the_command_is_stopped(
    number: signal.Signals, write_series: WriteSeries, tmp_path: Path, scratch: Path
) -> None:
    array = np.zeros((60, 256, 256), np.uint16)
    write_series(tmp_path / "plain", array=array, positions=[(0, 0, z) for z in range(60)])
    source = tarred(tmp_path / "a.tar", sorted((tmp_path / "plain").iterdir()))
    words = [sys.executable, "-m", "volseg", "convert", str(source), str(tmp_path / "out"), "--spacing", "0.3"]
    process = subprocess.Popen(
        words, env=uncounted() | {"TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    while not list(scratch.glob("*/*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143), err
    assert not list(scratch.iterdir())


def test_one_bad_archive_never_costs_the_others(slices: list[Path], tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    cut("zip", 0.5)(tmp_path / "dicom/a", slices)
    zipped(tmp_path / "dicom/b", slices)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger) == ["damaged-archive"]
    assert ledger.exit_code == 1
    names = (
        "".join(path.name for path in (tmp_path / "out").rglob("*")) + (tmp_path / "out/conversion.json").read_text()
    )
    assert "study" not in names


def test_an_empty_archive_holds_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    with zipfile.ZipFile(tmp_path / "dicom/empty.zip", "w"):
        pass
    (tmp_path / "dicom/text").write_text("x")
    with pytest.raises(ValueError, match="no DICOM"):
        convert(tmp_path / "dicom", tmp_path / "out", NATIVE)


def test_no_word_of_a_header_or_archive_gets_out(
    write_series: WriteSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pydicom.datadict import dictionary_VR, keyword_for_tag
    from pydicom.dataset import Dataset

    from volseg.cli.main import main
    from volseg.dicom.file import tags

    word = "QZXCANARYQZX"
    kept = {tags.PHOTOMETRIC_INTERPRETATION, tags.MODALITY, tags.SPECIFIC_CHARACTER_SET}

    def edit(data: Dataset, _: int) -> None:
        for tag in tags.WANTED - kept:
            keyword = keyword_for_tag(tag)
            if keyword and keyword not in data and dictionary_VR(tag) in {"LO", "SH", "PN", "CS", "LT", "ST", "UT"}:
                setattr(data, keyword, word)
        data.PatientID = data.PatientName = data.SeriesDescription = data.StudyID = data.Manufacturer = word
        data.BurnedInAnnotation, data.BodyPartExamined = "YES", "HEAD"

    write_series(tmp_path / "plain", edit=edit)
    files = sorted((tmp_path / "plain").iterdir())
    (tmp_path / "dicom").mkdir()
    with zipfile.ZipFile(tmp_path / "dicom/a.zip", "w") as archive:
        for file in files:
            archive.write(file, f"{word}/{file.name}")
    with zipfile.ZipFile(tmp_path / "dicom/b.zip", "w") as archive:
        archive.writestr(f"{word}.dcm", bytes(128) + b"DICM" + bytes(9))
    words = ["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native", "--orientation", "RAS"]
    assert main([*words, "--dry-run"]) == 0
    assert main([*words, "--linkage", str(tmp_path / "table.csv")]) == 0
    out, err = capsys.readouterr()
    assert word not in out
    assert "a.zip/" in err  # the files' own names go to stderr alone
    assert "burned into" in out
    assert "This is a head" in out
    assert word in (tmp_path / "table.csv").read_text()
    for path in (tmp_path / "out").rglob("*"):
        assert word not in str(path)
        if path.is_file():
            raw = path.read_bytes()
            assert word.encode() not in (gzip.decompress(raw) if path.suffix == ".gz" else raw)


def unpacked(archive: Path, folder: Path, limits: Limits | None = None) -> list[FoundFile]:
    folder.mkdir(exist_ok=True)
    limits = limits or Limits(archive.stat().st_size)
    return Unpacker(folder).unpack(FoundFile(archive, archive.name), limits)


def zip64(directory_at: int) -> bytes:
    """The end of an archive whose directory is described elsewhere."""
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, directory_at, 1)
    return locator + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, 2**32 - 1, 0, 0)


def without_local_header(raw: bytes) -> bytes:
    return b"PK\x03\x04" + bytes(26) + raw[30:]


def without_directory(raw: bytes) -> bytes:
    return raw.replace(b"PK\x01\x02", b"PK\x00\x00")


@pytest.mark.parametrize(
    "spoil",
    [
        without_local_header,
        without_directory,
        lambda _: b"PK\x03\x04" + zip64(2**40),
        lambda _: zip64(0)[20:],
    ],
)
def test_an_archive_whose_parts_lie_is_damaged(
    spoil: Callable[[bytes], bytes], slices: list[Path], tmp_path: Path
) -> None:
    path = zipped(tmp_path / "a.zip", slices)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError) as caught:
        unpacked(path, tmp_path / "to")
    assert caught.value.code == "damaged-archive"
    assert not list((tmp_path / "to").iterdir())


def test_more_bytes_than_any_archive_may_hold(
    slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="unpacks to more than") as caught:
        unpacked(zipped(tmp_path / "a.zip", slices), tmp_path / "to")
    assert caught.value.code == "declares-too-much"
    assert not list((tmp_path / "to").iterdir())


class Failing(Limits):
    """Fails as writing would."""

    number = errno.ENOSPC

    def take_bytes(self, count: int) -> None:
        del count
        raise OSError(self.number, os.strerror(self.number))


def test_where_no_space_is_left_nothing_stays(
    slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", slices)
    with pytest.raises(DiskFullError, match="No space is left to unpack"):
        unpacked(path, tmp_path / "to", Failing(1))
    monkeypatch.setattr(Failing, "number", errno.EROFS)
    with pytest.raises(FileError, match="can't be unpacked: Read-only file system"):
        unpacked(path, tmp_path / "to", Failing(1))
    monkeypatch.setattr(archives, "MIN_FREE_BYTES", 2**60)
    with pytest.raises(DiskFullError):
        unpacked(path, tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


def test_a_private_folder_that_can_not_be_made_and_a_file_that_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryDirectory", refused)
        with (
            pytest.raises(FileError, match="No temporary folder can be made: Permission denied") as caught,
            private_folder(),
        ):
            pass
        assert caught.value.code == "cannot-write"
    monkeypatch.setattr(archives, "open_plain", refused)
    with pytest.raises(FileError, match="A file can't be read: Permission denied") as caught:
        is_archive(tmp_path / "Doe^Jane.zip")
    assert "Doe" not in str(caught.value)
