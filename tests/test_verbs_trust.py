"""The verb ``trust`` from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.bundle.folder import Bundle
from volseg.bundle.trust import judge
from volseg.errors import BundleError, FileError, UsageError
from volseg.verbs.trust import trust

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeBundle


def test_a_bundle_that_needs_none(make_bundle: MakeBundle, trust_store: Path) -> None:
    result = trust(make_bundle())
    assert (result.findings, result.sha256, result.already) == ((), "", False)
    assert not trust_store.exists()


def test_trusting_once_and_again(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    with (root / "configs" / "train.yaml").open("a") as file:
        file.write("one: $1\ntwo: $2\n")
    first = trust(root)
    assert [finding.text for finding in first.findings] == ["$1", "$2"]
    assert (first.sha256, first.already) == (judge(Bundle(root)).sha256, False)
    again = trust(root)
    assert (again.sha256, again.already) == (first.sha256, True)
    (root / "note").write_text("")
    assert not trust(root).already


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        trust(tmp_path / "absent")
    with pytest.raises(BundleError):
        trust(tmp_path)


def test_a_record_that_cannot_be_written(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_bundle()
    (root / "configs" / "inference.yaml").write_text("one: $1\n")
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(tmp_path / "plain"))
    with pytest.raises(FileError):
        trust(root)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(tmp_path / "closed"))
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(FileError) as caught:
        trust(root)
    assert caught.value.code == "cannot-write"
