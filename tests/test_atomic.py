"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from volseg.atomic import TEMPORARY_MARK, atomic_path, exclusive, write_bytes, write_error, write_text
from volseg.errors import DiskFullError, FileError, InputError
from volseg.volume import is_image

if TYPE_CHECKING:
    from pathlib import Path


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.nii.gz"
    with atomic_path(path) as partial:
        partial.write_bytes(b"half")
        assert not path.exists()
        assert partial.parent == path.parent
        assert partial.name.endswith(".nii.gz")
        assert TEMPORARY_MARK in partial.name
        assert not is_image(partial)
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def note(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, (tmp_path / "x").exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_bytes(tmp_path / "x", b"content")
    assert seen == [(7, False)]
    assert (tmp_path / "x").read_bytes() == b"content"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), InputError("x"), SystemExit(1)])
def test_an_error_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def break_off() -> None:
        with atomic_path(path) as partial:
            partial.write_text("new")
            raise error

    with pytest.raises(type(error)):
        break_off()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_nothing(number: int, tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "x.nii.gz") as partial:
            partial.write_bytes(b"half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match="Free some space") as caught:
        fill()
    assert caught.value.code == "disk-full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_device_is_told() -> None:
    def fill() -> None:
        with open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(b"x")

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    from pathlib import Path

    assert isinstance(write_error(Path("x"), caught.value), DiskFullError)


def test_other_reasons_name_the_file_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError) as caught:
        write_text(tmp_path / "file" / "x.json", "y")
    assert caught.value.code == "cannot-write"
    assert "x.json" in caught.value.message
    assert "file is a file" in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match="Permission denied"):
            write_text(tmp_path / "x", "y")
    finally:
        tmp_path.chmod(0o700)


def test_an_error_of_volseg_passes_unchanged(tmp_path: Path) -> None:
    error = FileError("this very one", code="mine")

    def refuse() -> None:
        with atomic_path(tmp_path / "x"):
            raise error

    with pytest.raises(FileError) as caught:
        refuse()
    assert caught.value is error


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(FileError):
        write_bytes(tmp_path / "x", b"y")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_text_is_utf8_and_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "ä")
    write_text(path, "Größe\n")
    assert path.read_bytes() == b"Gr\xc3\xb6\xc3\x9fe\n"


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with exclusive(tmp_path / "new"):
        with pytest.raises(FileError) as caught, exclusive(tmp_path / "new"):
            pass
        assert caught.value.code == "in-use"
        (tmp_path / "new" / "file").touch()
    with exclusive(tmp_path / "new"), exclusive(tmp_path / "other"):
        pass
    assert (tmp_path / "new" / "file").exists()
    assert not (tmp_path / "other").exists()  # nothing came into it
