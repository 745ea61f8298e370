"""Processes that Python starts for this one import nothing from the current folder."""

from __future__ import annotations

import multiprocessing
import multiprocessing.spawn
import os
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.batch.children import safe_children

if TYPE_CHECKING:
    import pytest


def test_a_child_imports_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colorsys.py").write_text("raise SystemExit('from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with safe_children(), multiprocessing.get_context("spawn").Pool(1) as pool:
        path, found = pool.apply(eval, ("(__import__('sys').path, __import__('colorsys').__file__)",))
    assert all(Path(entry).is_absolute() for entry in path)
    assert str(tmp_path) not in path
    assert not Path(found).is_relative_to(tmp_path)


def test_it_lasts_as_long_as_somebody_needs_it_and_leaves_all_as_it_was() -> None:
    before, environment = multiprocessing.spawn.get_preparation_data, dict(os.environ)
    with safe_children():
        with safe_children():
            pass
        inside = multiprocessing.spawn.get_preparation_data("child")
        assert not any(key.startswith("init_main") for key in inside)
        assert "" not in inside["sys_path"]
    assert multiprocessing.spawn.get_preparation_data is before
    assert dict(os.environ) == environment
