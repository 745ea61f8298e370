"""Where prepared cases are kept: what is old or damaged goes, and memory serves where no file can be written."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from volseg.errors import DiskFullError
from volseg.training.prepared import Store
from volseg.training.prepared.entry import Case, as_case, size_of
from volseg.training.prepared.store import DISK_SHARE, KEPT_DAYS, ONCE, current_store, opened


def case_of(value: int) -> Case:
    return as_case({"image": torch.full((4, 4, 4), float(value))})


def value_of(case: Case | None) -> float:
    assert case is not None
    return float(np.asarray(case["image"].numbers).flat[0])  # type: ignore[union-attr]


SIZE = size_of(case_of(0))


def opened_store(folder: Path, memory: int) -> Store:
    store = Store(memory, folder)
    store.open()
    store.open()  # once
    return store


def test_a_case_that_no_run_used_for_long_is_removed(tmp_path: Path) -> None:
    store = opened_store(tmp_path, 0)
    for key in ("old", "new"):
        store.put(key, case_of(1))
    (old,) = tmp_path.glob("old*")
    long_ago = time.time() - (KEPT_DAYS + 1) * 86400
    os.utime(old, (long_ago, long_ago))
    again = opened_store(tmp_path, 0)
    assert (again.holds("old"), again.holds("new")) == (False, True)
    assert again.get("old") is None
    assert value_of(again.get("new")) == 1


def test_a_damaged_file_is_no_case_and_one_that_was_used_is_younger(tmp_path: Path) -> None:
    store = opened_store(tmp_path, 0)
    store.put("a", case_of(2))
    (path,) = tmp_path.iterdir()
    os.utime(path, (10**9, 10**9))
    now = time.time()
    later = Store(0, tmp_path)
    assert value_of(later.get("a")) == 2
    assert path.stat().st_mtime > now - 60
    path.write_bytes(path.read_bytes()[:-1])
    assert Store(0, tmp_path).get("a") is None


def test_what_fits_is_kept_in_memory_and_stays_when_its_file_goes(tmp_path: Path) -> None:
    store = opened_store(tmp_path, SIZE)
    store.put("a", case_of(3))
    store.put("b", case_of(4))
    assert [value_of(store.get(key)) for key in "ab"] == [3, 4]
    shutil.rmtree(tmp_path)
    assert value_of(store.get("a")) == 3
    assert store.get("b") is None


def test_where_no_folder_can_be_made_memory_serves_while_it_lasts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = opened_store(tmp_path / "file" / "prepared", SIZE)
    store.make_room(SIZE, 1)
    store.put("a", case_of(5))
    assert value_of(store.get("a")) == 5
    with pytest.raises(DiskFullError, match=r"can't be written\. Name a folder with more room"):
        store.put("b", case_of(6))
    with pytest.raises(DiskFullError, match="can't be written"):
        store.make_room(SIZE, 1)


def test_cases_of_other_data_make_room_the_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = opened_store(tmp_path, 0)
    for place, key in enumerate(("oldest", "older", "young")):
        before.put(key, case_of(place))
        (path,) = tmp_path.glob(f"{key}.*")
        os.utime(path, (time.time() - 1000 + place,) * 2)
    size = path.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size / DISK_SHARE))
    store = opened_store(tmp_path, 0)
    assert value_of(store.get("oldest")) == 0  # this run's own
    store.make_room(2 * size, 2)
    assert [store.holds(key) for key in ("oldest", "older", "young")] == [True, False, True]
    with pytest.raises(DiskFullError, match=r"in .*Name a folder with more room"):
        store.make_room(100 * size, 100)


def test_a_full_disk_leaves_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened_store(tmp_path, SIZE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    store.make_room(SIZE, 1)
    store.put("a", case_of(7))
    assert value_of(store.get("a")) == 7
    assert list(tmp_path.iterdir()) == []


def test_a_case_that_no_other_run_would_know_goes_with_the_store(tmp_path: Path) -> None:
    with opened(Store(0, tmp_path)) as store:
        store.open()
        assert current_store() is store
        store.put(f"{ONCE}a", case_of(8))
        store.put("b", case_of(9))
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name.partition(".")[0] for path in tmp_path.iterdir()] == ["b"]
    assert current_store() is not store
