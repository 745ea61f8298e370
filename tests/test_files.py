"""Files opened without waiting, and small ones read within bounds."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path

import pytest

from volseg.errors import FileError, InputError, UsageError
from volseg.files import open_plain, read_bounded


def test_a_file_is_read_whole_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5, "list") == b"12345"
    with pytest.raises(InputError, match="larger than 4 bytes, far above any list") as caught:
        read_bounded(tmp_path / "a", 4, "list")
    assert (caught.value.code, caught.value.path) == ("too-large", tmp_path / "a")


def test_what_is_absent_or_no_file_is_told_at_once(tmp_path: Path) -> None:
    """A pipe in a file's place does not hold the reader; a link to a file is followed."""
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open_plain(tmp_path / "link") as file:
        assert file.read() == b"12345"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to pipe").symlink_to(tmp_path / "pipe")
    (tmp_path / "link to itself").symlink_to(tmp_path / "link to itself")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))  # its name is bounded to some hundred bytes
        for path, code, words in (
            (tmp_path / "none", "missing-file", "does not exist"),
            (tmp_path, "no-plain-file", "is a folder, not a file"),
            (tmp_path / "pipe", "no-plain-file", "is a pipe, not a file"),
            (tmp_path / "link to pipe", "no-plain-file", "is a pipe, not a file"),
            (tmp_path / "socket", "no-plain-file", "is a socket, not a file"),
            (Path("/dev/zero"), "no-plain-file", "is a device, not a file"),
            (tmp_path / "link to itself", "cannot-read", "can't be read"),
        ):
            for read in (open_plain, partial(read_bounded, max_bytes=5, what="list")):
                with pytest.raises(FileError, match=words) as caught:
                    read(path)
                assert (caught.value.code, caught.value.path) == (code, path)


def test_what_is_put_in_a_file_s_place_while_it_is_opened_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    opened = os.open

    def swap(path: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(path, flags)

    monkeypatch.setattr("os.open", swap)
    with pytest.raises(FileError, match="is a pipe") as caught:
        open_plain(tmp_path / "a")
    assert caught.value.code == "no-plain-file"


def test_the_caller_may_refuse_the_opened_file(tmp_path: Path) -> None:
    def refuse(path: Path, found: os.stat_result) -> None:
        raise UsageError(f"{path.name} has {found.st_size} bytes.")

    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(UsageError, match="a has 5 bytes"):
        read_bounded(tmp_path / "a", 5, "list", require=refuse)
