"""Digests by stamps: believed while the file system says that nothing changed, and not a moment longer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from volseg.personal import cache_folder
from volseg.stamps import content_digest as digest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    from volseg.kept import file_digest

    found: list[Path] = []

    def counted(path: Path) -> Any:
        found.append(path)
        return file_digest(path)

    monkeypatch.setattr("volseg.stamps.file_digest", counted)
    monkeypatch.setattr("volseg.stamps.RACY_SECONDS", -1.0)
    return found


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    first = digest(path)
    assert digest(path) == first
    assert len(reads) == 1
    told = path.stat()
    path.write_bytes(b"other")  # as long, and as old as the first
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert path.stat().st_mtime_ns == told.st_mtime_ns
    assert digest(path) != first
    (tmp_path / "b").write_bytes(b"third")
    os.utime(tmp_path / "b", ns=(told.st_atime_ns, told.st_mtime_ns))
    (tmp_path / "b").replace(path)
    assert digest(path) != first
    assert len(reads) == 3


def test_a_file_that_was_changed_just_now_is_read_again(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volseg.stamps.RACY_SECONDS", 60.0)
    (tmp_path / "a").write_bytes(b"first")
    assert digest(tmp_path / "a") == digest(tmp_path / "a")
    assert len(reads) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": [[1, 2], "x"]}'])
def test_damaged_stamps_are_forgotten(tmp_path: Path, reads: list[Path], content: bytes) -> None:
    (tmp_path / "a").write_bytes(b"first")
    first = digest(tmp_path / "a")
    (place,) = (cache_folder() / "stamps").iterdir()
    assert str(tmp_path).encode() not in place.read_bytes()
    place.write_bytes(content)
    assert digest(tmp_path / "a") == first
    assert len(reads) == 2
    digest(tmp_path / "a", anew=True)
    assert len(reads) == 3


def test_notes_that_others_may_write_are_not_believed(tmp_path: Path, reads: list[Path]) -> None:
    """They could pass one file off as another, whose prepared case would be trained on."""
    (tmp_path / "a").write_bytes(b"first")
    digest(tmp_path / "a")
    notes = cache_folder() / "stamps"
    notes.chmod(0o777)
    digest(tmp_path / "a")
    assert len(reads) == 2
    notes.chmod(0o700)
    digest(tmp_path / "a")
    assert len(reads) == 2
