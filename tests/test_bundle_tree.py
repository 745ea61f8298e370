"""The files of a bundle: how each can run, and one checksum over all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from volseg.bundle import tree
from volseg.bundle.tree import SOURCE, UNKNOWN, is_log, kind_of, read_tree, sha256_of_all
from volseg.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "beginning", "is_program", "words"),
    [
        ("net.py", b"", False, SOURCE),
        ("NET.PY", b"", False, SOURCE),
        ("lib.so.1", b"", False, "machine code"),
        ("scan.nii.gz", b"\x1f\x8b", False, ""),
        ("data.tar.gz", b"\x1f\x8b", False, "archive"),
        ("README", b"Thi", False, ""),
        ("license.md", b"MIT", False, ""),
        ("notes.txt", b"#!/b", False, "program or script"),
        ("picture.png", b"\x7fELF", False, "machine code"),
        ("table.csv", b"PK\x03\x04", False, "archive"),
        ("notes.txt", b"note", True, "program or script"),
        ("oddity", b"note", False, UNKNOWN),
        ("oddity.xyz", b"note", False, UNKNOWN),
    ],
)
def test_a_file_is_what_its_name_or_its_first_bytes_say(
    name: str, beginning: bytes, is_program: bool, words: str
) -> None:
    assert kind_of(name, beginning, is_program=is_program) == words


def test_every_file_but_logs_is_read_and_sources_are_kept(tmp_path: Path) -> None:
    for name, content in {
        "b/net.py": b"x = 1\n",
        "a.txt": b"a",
        "eval/training.log": b"log",
        "training.log": b"x",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    files = read_tree(tmp_path)
    assert list(files) == ["a.txt", "b/net.py"]
    assert files["b/net.py"].source == b"x = 1\n"
    assert files["a.txt"].source is None
    assert files["a.txt"].sha256 == hashlib.sha256(b"a").hexdigest()
    before = sha256_of_all(files)
    (tmp_path / "a.txt").rename(tmp_path / "c.txt")
    assert sha256_of_all(read_tree(tmp_path)) != before


@pytest.mark.parametrize(
    "name", ["training.log.py", "runs/fold_0/training.log", "logs/events.out.tfevents.py", "x.log"]
)
def test_what_is_only_called_like_a_log_is_none(name: str) -> None:
    assert not is_log(name)


def test_more_source_than_any_bundle_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_SOURCE_BYTES", 10)
    (tmp_path / "a.py").write_bytes(b"x" * 6)
    read_tree(tmp_path)
    (tmp_path / "b.py").write_bytes(b"x" * 5)
    with pytest.raises(BundleError) as caught:
        read_tree(tmp_path)
    assert caught.value.code == "too-large"
