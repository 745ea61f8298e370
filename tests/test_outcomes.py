"""Outcomes and ledgers."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest

from volseg.errors import DiskFullError, FileError, GeometryError
from volseg.outcomes import Ledger, Outcome, Provenance, Status, installed_versions, sha256_of, tally


@dataclass(frozen=True)
class Options:
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    folder: Path = Path("/data/Jane Doe")
    table: str = field(default="secret", metadata={"private": True})
    jobs: int = 2


def outcome(status: Status, code: str = "x", **more: object) -> Outcome:
    return Outcome("case", status, code, **more)  # type: ignore[arg-type]


def ledger(*statuses: Status) -> Ledger:
    return Ledger(tuple(outcome(status) for status in statuses), Provenance.of("convert", Options()))


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ((), 2),
        ((Status.DONE,), 0),
        ((Status.DONE, Status.SKIPPED), 0),
        ((Status.SKIPPED,), 2),
        ((Status.DONE, Status.REFUSED), 1),
        ((Status.DONE, Status.FAILED), 1),
        ((Status.REFUSED,), 2),
        ((Status.FAILED, Status.SKIPPED), 2),
    ],
)
def test_exit_codes(statuses: tuple[Status, ...], code: int) -> None:
    assert ledger(*statuses).exit_code == code


def test_content_is_refused_and_broken_files_fail() -> None:
    refused = Outcome.of_error("a", GeometryError("two", code="missing-slice"), private="p/q")
    assert (refused.status, refused.code, refused.message, refused.private) == (
        Status.REFUSED,
        "missing-slice",
        "two",
        "p/q",
    )
    assert Outcome.of_error("a", DiskFullError("full")).status is Status.FAILED


def test_the_ledger_has_neither_what_is_private_nor_what_changes_between_runs(tmp_path: Path) -> None:
    one = Ledger(
        (
            outcome(Status.DONE, "done", outputs=("a.nii.gz",), private="Doe^Jane/IM1"),
            outcome(Status.SKIPPED, "report"),
        ),
        Provenance.of("convert", Options(), checksums={"model.pt": "00"}, seed=3),
        {"secondary capture": 2, "SR": 1},
    )
    text = one.to_json()
    assert text == one.to_json()
    assert "Doe" not in text
    assert "secret" not in text
    content = json.loads(text)
    assert content["outcomes"] == [
        {"case": "case", "status": "done", "code": "done", "outputs": ["a.nii.gz"]},
        {"case": "case", "status": "skipped", "code": "report"},
    ]
    assert content["provenance"]["options"] == {"spacing_mm": [1.0, 1.0, 1.0], "jobs": 2}
    assert content["provenance"]["checksums"] == {"model.pt": "00"}
    assert content["provenance"]["seed"] == 3
    assert list(content["skipped_kinds"]) == ["SR", "secondary capture"]
    one.write(tmp_path / "conversion.json")
    assert (tmp_path / "conversion.json").read_text() == text


def test_versions_are_those_installed() -> None:
    found = installed_versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == version("numpy")
    assert found["nibabel"] == version("nibabel")


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_of(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_tally_counts_what_there_is() -> None:
    assert tally([outcome(Status.REFUSED), outcome(Status.DONE), outcome(Status.DONE)]) == "2 done, 1 refused"
    assert tally([]) == "nothing to do"


def test_a_link_in_the_place_of_a_ledger_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "conversion.json").symlink_to(tmp_path / "other.json")
    with pytest.raises(FileError, match="is a link, not a file"):
        Ledger.read(tmp_path / "conversion.json")
