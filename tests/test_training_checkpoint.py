"""What a run leaves on the disk: whole or not at all, and nothing in it can run."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.conftest import uncounted
from volseg.errors import BundleError, DiskFullError, FileError
from volseg.training.checkpoint import RunFolder, RunState, go_back, is_whole, write_best, write_state, write_tensors
from volseg.training.history import Epoch, Validation

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = RunState(
    network={"weight": torch.arange(6.0)},
    optimizer={"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    average=None,
    scheduler=None,
    epoch=2,
    step=9,
    seconds=12.5,
    setup_seconds=2.5,
    epochs=10,
    minutes=None,
    validation_seconds=1.5,
    complete=False,
    history=(Epoch(1, 4, 0.1, 0.1, 2.0, Validation(0.5, (0.4, 0.6))), Epoch(2, 8, 0.2, 0.1, 1.0)),
    losses=(0.75,),
)


class _FullDisk(io.FileIO):
    """A file on a disk with room for some bytes."""

    room = 1000

    def write(self, content: Any) -> int:
        size = memoryview(content).nbytes
        if self.tell() + size > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new file stands on a full disk."""

    def opened(path: Path, mode: str = "r") -> io.BufferedIOBase:
        return io.BufferedWriter(_FullDisk(path, "w")) if mode == "wb" else io.BufferedReader(io.FileIO(path))

    monkeypatch.setattr(Path, "open", opened)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user can't mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_state_survives_the_disk(tmp_path: Path) -> None:
    write_tensors(tmp_path / "run" / "last.pt", STATE.to_plain())
    content = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    found = RunState.read(tmp_path, content)
    assert torch.equal(found.network["weight"], STATE.network["weight"])
    assert (found.history, found.losses) == (STATE.history, STATE.losses)
    assert (found.epoch, found.step, found.seconds, found.complete) == (2, 9, 12.5, False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"format": 99},
        STATE.to_plain() | {"network": 3},
        STATE.to_plain() | {"history": [{}]},
        STATE.to_plain() | {"step": "many"},
        {key: value for key, value in STATE.to_plain().items() if key != "optimizer"},
    ],
)
def test_what_is_no_state_is_refused(content: object) -> None:
    with pytest.raises(BundleError, match=r"last\.pt is no checkpoint of this version.*--fresh") as caught:
        RunState.read(Path("last.pt"), content)
    assert caught.value.code == "bad-checkpoint"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(b"old")
    for size in (10, 1_000_000):
        with pytest.raises(DiskFullError, match=r"No space is left on the disk to write .*last\.pt"):
            write_tensors(path, {"weight": torch.zeros(size)})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_really_full_leaves_the_old_checkpoint(small_disk: Path) -> None:
    path = small_disk / "last.pt"
    write_tensors(path, {"weight": torch.ones(10)})
    with pytest.raises(DiskFullError, match="No space is left"):
        write_tensors(path, {"weight": torch.ones(1_000_000)})
    assert torch.load(path, weights_only=True)["weight"].sum() == 10
    assert list(small_disk.iterdir()) == [path]


def test_a_failure_of_torch_s_own_is_not_taken_for_the_disk_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="broken"):
        write_tensors(tmp_path / "last.pt", {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_run_s_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(FileError, match="is a file"):
        write_tensors(tmp_path / "runs" / "fold_0" / "last.pt", {})
    assert (tmp_path / "runs").read_text() == "mine"


def test_a_fresh_start_removes_what_a_run_left_and_nothing_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    ours = (folder.last, folder.best, folder.final, folder.record, folder.history, folder.curve)
    for path in (*ours, tmp_path / "notes.txt"):
        path.write_text("x")
    folder.remove()
    folder.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_last_two_checkpoints_are_kept_and_torch_reads_them(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not run.is_begun
    for step in (9, 10, 11):
        write_state(run, replace(STATE, step=step))
    for path, step in ((run.last, 11), (run.previous, 10)):
        assert is_whole(path)
        assert RunState.read(path, torch.load(path, weights_only=True)).step == step
    run.last.unlink()
    assert run.is_begun
    assert sorted(path.name for path in tmp_path.iterdir()) == ["previous.pt"]


def test_a_run_that_goes_back_has_the_best_weights_of_then(tmp_path: Path) -> None:
    """A checkpoint, and from the same moment its best; then back to the one before the last, at every length."""
    run = RunFolder(tmp_path)
    known: list[int | None] = []
    state = replace(STATE, history=(), best_step=None)
    for step, is_better in enumerate([False, True, False, True, True, False, False], start=1):
        state = replace(state, step=step, best_step=step if is_better else state.best_step)
        write_state(run, state)
        if is_better:
            write_best(run, {"made_at": torch.tensor(step)})
        known.append(state.best_step)
        if step == 1:
            continue
        before = tmp_path / f"{step}"
        shutil.copytree(tmp_path, before, ignore=lambda _, names: [name for name in names if name.isdigit()])
        copy = RunFolder(before)
        previous = RunState.read(copy.previous, torch.load(copy.previous, weights_only=True))
        assert previous.step == step - 1
        go_back(copy, previous)
        assert not copy.previous.exists()
        assert not copy.previous_best.exists()
        found = int(torch.load(copy.best, weights_only=True)["made_at"]) if copy.best.exists() else None
        assert found == known[-2], step


def test_every_turned_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_state(run, STATE)
    content = run.last.read_bytes()
    comment = len(content) - 48
    for place in [
        *range(0, comment - 2, 37),
        len(content) - 1,
    ]:  # between lies the comment's length, which says nothing
        run.last.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        assert not is_whole(run.last) or is_unreadable(run.last), place
    for size in (0, 10, len(content) // 2, comment - 22, comment, len(content) - 1):
        run.last.write_bytes(content[:size])
        assert not is_whole(run.last) or is_unreadable(run.last), size


def is_unreadable(path: Path) -> bool:
    try:
        torch.load(path, weights_only=True)
    except Exception:  # noqa: BLE001  torch raises what it likes
        return True
    return False


def test_a_writer_that_is_killed_leaves_a_whole_checkpoint() -> None:
    script = Path(__file__).parent.parent / "scripts" / "fuzz" / "kills"
    done = subprocess.run(
        [sys.executable, script, "--kills", "0", "--writer", "8"],
        env=uncounted(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("writer of checkpoints: 8 kills, 8 left a whole one")
