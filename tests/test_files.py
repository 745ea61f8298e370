"""Small files read within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volseg.errors import FileError, InputError, UsageError
from volseg.files import read_bounded


def test_a_file_is_read_whole_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5, "list") == b"12345"
    with pytest.raises(InputError, match="larger than 4 bytes, far above any list") as caught:
        read_bounded(tmp_path / "a", 4, "list")
    assert (caught.value.code, caught.value.path) == ("too-large", tmp_path / "a")


def test_what_is_absent_or_no_file_is_told(tmp_path: Path) -> None:
    """A pipe in a file's place does not hold the reader."""
    with pytest.raises(FileError, match="does not exist") as caught:
        read_bounded(tmp_path / "a", 5, "list")
    assert caught.value.code == "missing-file"
    with pytest.raises(FileError, match="can't be read: Is a directory") as caught:
        read_bounded(tmp_path, 5, "list")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FileError, match="no plain file, as a list is") as caught:
            read_bounded(path, 5, "list")
        assert caught.value.code == "cannot-read"


def test_the_caller_may_refuse_the_opened_file(tmp_path: Path) -> None:
    def refuse(path: Path, found: os.stat_result) -> None:
        raise UsageError(f"{path.name} has {found.st_size} bytes.")

    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(UsageError, match="a has 5 bytes"):
        read_bounded(tmp_path / "a", 5, "list", require=refuse)
