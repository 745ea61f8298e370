"""Which files of an earlier run stay, and what a ledger keeps of it."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from xxhash import xxh3_128_hexdigest

from volseg.errors import DiskFullError, FileError, InputError, OutputExistsError
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


def ledger_of(*outcomes: Outcome, **options: object) -> Ledger:
    return Ledger(outcomes, Provenance("predict", options, {"volseg": "1"}))


def done(case: str, *outputs: str, **more: object) -> Outcome:
    return replace(Outcome(case, Status.DONE, "done", outputs=outputs), **more)  # type: ignore[arg-type]


def summed_up(ledger: Ledger) -> list[tuple[str, str, object, str]]:
    """Of each case its name, its code, an option that it was made by, and what the last run said of it."""
    return [(one.case, one.code, ledger.provenance_of(one).options["spacing"], one.since) for one in ledger.outcomes]


def test_what_lies_there_stays_recorded_as_it_was_made(folder: Path) -> None:
    record = made_of(folder, "a.nii.gz")
    before = ledger_of(
        done("a", "a.nii.gz", made=record, warnings=("w",)),
        done("gone", "gone.nii.gz"),
        done("other", "images/a.nii.gz"),
        Outcome("refused", Status.REFUSED, "x"),
        spacing=1,
    )
    refusal = Outcome("a", Status.REFUSED, "exists", "why", private="Doe")
    found = merged(ledger_of(refusal, done("b"), done("gone", code="done"), spacing=2), before, folder)
    assert summed_up(found) == [
        ("a", "done", 1, "refused [exists] why"),
        ("b", "done", 2, ""),
        ("gone", "done", 2, ""),
        ("other", "done", 1, ""),
    ]
    assert replace(found.outcomes[0], run=0, since="") == before.outcomes[0]
    assert (found.done_before, found.exit_code) == (2, 0)
    # A run that has nothing to do with the case leaves what was said; one that finds it as it is takes it back.
    again = merged(ledger_of(spacing=3), found, folder)
    assert [line for line in summed_up(again) if line[0] == "a"] == [("a", "done", 1, "refused [exists] why")]
    kept = kept_outcome(again.outcomes[0], State.CURRENT)
    (restored,) = [line for line in summed_up(merged(ledger_of(kept, spacing=1), again, folder)) if line[0] == "a"]
    assert restored == ("a", "done", 1, "")


def test_the_bytes_are_those_of_the_run_that_made_the_files(folder: Path) -> None:
    first = merged(ledger_of(done("a", "a.nii.gz"), spacing=(1.0, 2.0)), None, folder)
    first.write(folder / "ledger.json")
    written = (folder / "ledger.json").read_bytes()
    for code, spacing in (("exists", "native"), ("exists", (3.0,)), (ALREADY_DONE, (1.0, 2.0))):
        status = Status.DONE if code == ALREADY_DONE else Status.REFUSED
        run = ledger_of(Outcome("a", status, code, outputs=("a.nii.gz",)), spacing=spacing)
        merged(run, Ledger.read(folder / "ledger.json"), folder).write(folder / "ledger.json")
    assert (folder / "ledger.json").read_bytes() == written


def test_what_nobody_recorded_is_of_no_known_run(folder: Path) -> None:
    there = [done("a", "a.nii.gz"), done("b", "images/a.nii.gz")]
    run = ledger_of(replace(there[0], code=ALREADY_DONE), spacing=1)
    found = merged(run, None, folder, there)
    assert [found.provenance_of(one).options for one in found.outcomes] == [{"spacing": 1}, {}]
    # Once a run finds it to be what it would make, it is that run's.
    found = merged(ledger_of(replace(there[1], code=ALREADY_DONE), spacing=1), found, folder, there)
    assert (found.earlier, {one.run for one in found.outcomes}) == ((), {0})


def test_refusals_of_another_input_stay_and_of_this_one_the_last_run_tells(folder: Path) -> None:
    ours, theirs = (Outcome(case, Status.REFUSED, "missing-slice") for case in ("ours", "theirs"))
    first = merged(ledger_of(theirs, spacing=1), None, folder, origin="theirs")
    second = merged(ledger_of(ours, spacing=1), first, folder, origin="ours")
    assert [one.case for one in second.outcomes] == ["ours", "theirs"]
    assert [one.case for one in merged(ledger_of(), second, folder, origin="ours").outcomes] == ["theirs"]
    assert merged(ledger_of(spacing=1), second, folder, origin="ours", aside={"ours"}) == second
    healed = merged(ledger_of(done("ours"), spacing=1), second, folder, origin="ours")
    assert [(one.case, one.status, one.origin) for one in healed.outcomes] == [
        ("ours", Status.DONE, ""),
        ("theirs", Status.REFUSED, "theirs"),
    ]


@pytest.mark.parametrize("run", [1, -1])
def test_a_ledger_knows_the_runs_of_its_outcomes(folder: Path, run: int) -> None:
    with pytest.raises(ValueError, match="of a run"):
        ledger_of(done("a", run=run))
    text = ledger_of(done("a")).to_json().replace('"code": "done"', f'"code": "done", "run": {run}')
    (folder / "ledger.json").write_text(text)
    with pytest.raises(InputError, match="is no ledger"):
        Ledger.read(folder / "ledger.json")


def test_a_ledger_is_read_back_as_it_was(folder: Path) -> None:
    outcome = done("a", *NAMES, made=made_of(folder, *NAMES), warnings=("w",))
    ledger = ledger_of(outcome, Outcome("b", Status.SKIPPED, "x", "why", private="/data/Doe"))
    ledger.write(folder / "ledger.json")
    assert "Doe" not in (folder / "ledger.json").read_text()
    assert Ledger.read(folder / "ledger.json") == ledger_of(outcome, Outcome("b", Status.SKIPPED, "x", "why"))


def test_a_running_ledger_lies_on_the_disk_whatever_ends_the_run(folder: Path) -> None:
    path = folder / "ledger.json"

    def run() -> None:
        with RunningLedger(path, ledger_of(), None) as running:
            assert Ledger.read(path) == ledger_of()
            running.add(done("a", "a.nii.gz"))
            running.add(done("b"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    found = Ledger.read(path)
    assert found is not None
    assert [one.case for one in found.outcomes] == ["a", "b"]
    with RunningLedger(path, ledger_of(), found) as again:
        again.add(replace(found.outcomes[0], code=ALREADY_DONE))
    assert Ledger.read(path) == found
    assert (again.ledger.exit_code, again.ledger.done_before) == (0, 2)


def test_what_is_known_of_an_edited_case_is_not_forgotten_while_it_is_worked_on(folder: Path) -> None:
    path = folder / "ledger.json"
    before = ledger_of(done("a", "a.nii.gz", "gone.csv"), done("b", "gone.nii.gz"))
    with RunningLedger(path, ledger_of(), before, under_way={"a"}) as running:
        found = Ledger.read(path)
        assert found is not None
        assert [one.case for one in found.outcomes] == ["a"]
        running.add(Outcome("a", Status.REFUSED, "edited", "Somebody has."))
    (one,) = Ledger.read(path).outcomes  # type: ignore[union-attr]
    assert (one.status, one.outputs, one.since) == (
        Status.DONE,
        ("a.nii.gz", "gone.csv"),
        "refused [edited] Somebody has.",
    )
    with RunningLedger(path, ledger_of(), before, under_way={"a"}) as running:
        running.add(Outcome("a", Status.REFUSED, "bad-input", "It is."))
    (one,) = Ledger.read(path).outcomes  # type: ignore[union-attr]
    assert (one.status, one.outputs) == (Status.REFUSED, ())


def test_the_error_that_ends_a_run_is_not_hidden_by_a_ledger_that_can_t_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError("the second")

    def run() -> None:
        with RunningLedger(folder / "l.json", ledger_of(), None):
            monkeypatch.setattr(Ledger, "write", full)
            raise DiskFullError("the first")

    with pytest.raises(DiskFullError, match="the first"):
        run()
