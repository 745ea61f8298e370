"""How many workers a cohort gets: by cores, work and memory."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from volseg.batch import SERIAL, Processes, available_cores, choose_executor, voxel_bytes, workers
from volseg.errors import UsageError


def test_small_cohorts_stay_in_this_process_and_large_ones_take_every_core() -> None:
    assert choose_executor(0, [100] * 50) == SERIAL
    assert choose_executor(0, [2**30]) == SERIAL  # one case keeps one worker busy
    cores = available_cores()
    assert choose_executor(0, [2**30] * 50).workers == cores
    assert choose_executor(1, [2**30] * 50) == SERIAL
    assert choose_executor(3, [100] * 50) == Processes(3)


def test_a_compressed_file_counts_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(10**6)))
    (tmp_path / "b.nrrd").write_bytes(bytes(500))
    (tmp_path / "c.nii.gz").write_bytes(b"\1")
    assert voxel_bytes([tmp_path / "a.nii.gz"]) == 10**6
    assert voxel_bytes(sorted(tmp_path.iterdir())) == 10**6 + 500 + 1
    assert voxel_bytes([tmp_path / "gone.nii.gz"]) == 0


def test_available_cores_are_those_of_this_process() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            assert available_cores() == 1
        finally:
            os.sched_setaffinity(0, before)


def test_no_more_workers_than_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available_cores", lambda: 8)
    monkeypatch.setattr(workers, "machine_bytes", lambda _: 10 * 2**30)
    sizes = [2**28, 2**30, 2**28]
    assert choose_executor(0, sizes * 4).workers == 8
    assert choose_executor(0, sizes * 4, held_copies=2.0).workers == 2  # 6 GiB for 2 GiB and a little each
    assert choose_executor(0, sizes * 4, held_copies=20.0).workers == 1
    assert choose_executor(3, sizes * 4, held_copies=20.0).workers == 3  # asked for


def test_a_negative_number_of_jobs_is_refused() -> None:
    with pytest.raises(UsageError, match="--jobs -1"):
        choose_executor(-1, [])


def test_sizes_are_read_as_far_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available_cores", lambda: 3)
    sizes = iter([2**30] * 10)
    assert choose_executor(0, sizes).workers == 3
    assert len(list(sizes)) == 7
