"""Which files of an earlier run stay, and what a ledger keeps of it."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from xxhash import xxh3_128_hexdigest

from volseg.errors import DiskFullError, FileError, OutputExistsError
from volseg.kept import RunningLedger, State, file_digest, kept_outcome, merged, require_replaceable, state_of
from volseg.outcomes import ALREADY_DONE, FileDigest, Ledger, Made, Outcome, Provenance, Status

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = FileDigest(0, "")


def made_of(folder: Path, *names: str, origin: str = "input", method: str = "method") -> Made:
    return Made(origin, method, {name: file_digest(folder / name) for name in names})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "a.nii.gz").write_bytes(b"mask")
    (tmp_path / "images" / "a.nii.gz").write_bytes(b"image")
    return tmp_path


NAMES = ("images/a.nii.gz", "a.nii.gz")


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 5])
def test_a_digest_is_that_of_the_whole_file(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert file_digest(tmp_path / "a") == FileDigest(size, xxh3_128_hexdigest(content[:size]))
    with pytest.raises(FileError):
        file_digest(tmp_path / "gone")


def test_two_files_that_gzip_stored_as_they_are_differ(tmp_path: Path) -> None:
    for name, content in (("a", b"one image"), ("b", b"an other!")):
        (tmp_path / name).write_bytes(gzip.compress(content, 0, mtime=0))
    assert zlib.crc32((tmp_path / "a").read_bytes()) == zlib.crc32((tmp_path / "b").read_bytes())  # why it is no CRC
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("nothing", State.CURRENT),
        ("input", State.STALE),
        ("method", State.OTHER_METHOD),
        ("edited", State.EDITED),
        ("edited, input", State.EDITED_STALE),
        ("edited, method", State.EDITED_STALE),
        ("one gone", State.STALE),
        ("edited, one gone", State.EDITED_STALE),
        ("all gone", State.ABSENT),
        ("no record", State.UNKNOWN),
        ("touched", State.CURRENT),
        ("one more wanted", State.STALE),
    ],
)
def test_what_there_is_of_a_case(folder: Path, change: str, state: State) -> None:
    before: Made | None = made_of(folder, *NAMES)
    now = Made("input", "method", dict.fromkeys(NAMES, NOTHING))
    if "input" in change:
        now = replace(now, input="other")
    if "method" in change:
        now = replace(now, method="other")
    if "edited" in change:
        (folder / "a.nii.gz").write_bytes(b"MASK")
    if "one gone" in change:
        (folder / "images" / "a.nii.gz").unlink()
    if change == "all gone":
        for name in NAMES:
            (folder / name).unlink()
    if change == "no record":
        before = None
    if change == "touched":
        (folder / "a.nii.gz").touch()
    if change == "one more wanted":
        now = replace(now, files={**now.files, "a.dcm": NOTHING})
    assert state_of(before, now, folder) is state


@pytest.mark.parametrize(
    ("state", "code"),
    [(State.OTHER_METHOD, "exists"), (State.UNKNOWN, "exists"), (State.EDITED_STALE, "edited")],
)
def test_what_may_be_somebody_s_own_is_refused_with_the_remedy(state: State, code: str) -> None:
    with pytest.raises(OutputExistsError, match="--overwrite") as caught:
        require_replaceable(state)
    assert caught.value.code == code


@pytest.mark.parametrize("state", [State.ABSENT, State.STALE, State.CURRENT])
def test_what_is_volseg_s_own_is_free(state: State) -> None:
    require_replaceable(state)


def test_an_edited_case_is_told_as_long_as_it_is_edited() -> None:
    earlier = Outcome("a", Status.DONE, "done", warnings=("one",))
    edited = kept_outcome(earlier, State.EDITED)
    assert edited.code == ALREADY_DONE
    assert len(edited.warnings) == 2
    assert kept_outcome(edited, State.EDITED) == edited
    assert kept_outcome(edited, State.CURRENT).warnings == ("one",)
    refused = Outcome("a", Status.REFUSED, "edited", "told why", made=Made("i", "m"))
    assert kept_outcome(refused, State.CURRENT) == Outcome("a", Status.DONE, ALREADY_DONE, made=Made("i", "m"))


def ledger_of(*outcomes: Outcome) -> Ledger:
    return Ledger(outcomes, Provenance("predict", {}, {}))


def done(case: str, *outputs: str, **more: object) -> Outcome:
    return replace(Outcome(case, Status.DONE, "done", outputs=outputs), **more)  # type: ignore[arg-type]


def test_ledgers_are_merged_in_one_way(folder: Path) -> None:
    record = made_of(folder, "a.nii.gz")
    earlier = [
        done("a", "a.nii.gz", made=record),
        done("gone", "gone.nii.gz"),
        done("other", "images/a.nii.gz"),
        Outcome("refused", Status.REFUSED, "x"),
    ]
    now = ledger_of(Outcome("a", Status.REFUSED, "edited", "why"), done("b", code=ALREADY_DONE))
    found = merged(now, earlier, folder)
    assert [(one.case, one.status, one.code) for one in found.outcomes] == [
        ("a", Status.REFUSED, "edited"),
        ("b", Status.DONE, "done"),
        ("other", Status.DONE, "done"),
    ]
    # What the refused case was made from stays known: once it is restored, it counts as done again.
    assert found.outcomes[0].made == record
    assert found.done_before == 2


def test_a_ledger_is_read_back_as_it_was(folder: Path) -> None:
    outcome = done("a", *NAMES, made=made_of(folder, *NAMES), warnings=("w",))
    ledger = ledger_of(outcome, Outcome("b", Status.SKIPPED, "x", "why", private="/data/Doe"))
    ledger.write(folder / "ledger.json")
    assert "Doe" not in (folder / "ledger.json").read_text()
    assert Ledger.read(folder / "ledger.json") == ledger_of(outcome, Outcome("b", Status.SKIPPED, "x", "why"))


def test_a_running_ledger_lies_on_the_disk_whatever_ends_the_run(folder: Path) -> None:
    path = folder / "ledger.json"

    def run() -> None:
        with RunningLedger(path, ledger_of(), {}) as running:
            assert Ledger.read(path) == ledger_of()
            running.add(done("a", "a.nii.gz"))
            running.add(done("b"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    found = Ledger.read(path)
    assert found is not None
    assert [one.case for one in found.outcomes] == ["a", "b"]
    with RunningLedger(path, ledger_of(), {one.case: one for one in found.outcomes}) as again:
        again.add(replace(found.outcomes[0], code=ALREADY_DONE))
    assert Ledger.read(path) == found
    assert (again.ledger.exit_code, again.ledger.done_before) == (0, 2)


def test_the_error_that_ends_a_run_is_not_hidden_by_a_ledger_that_can_t_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError("the second")

    def run() -> None:
        with RunningLedger(folder / "l.json", ledger_of(), {}):
            monkeypatch.setattr(Ledger, "write", full)
            raise DiskFullError("the first")

    with pytest.raises(DiskFullError, match="the first"):
        run()
