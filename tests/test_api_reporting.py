"""Who is told, from Python, how far work is."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import volseg
from tests.conftest import uncounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from conftest import MakeDataset


class Listener:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[_Counter]:
        del total, unit
        counter = _Counter()
        yield counter
        self.told[title] = counter.done

    def say(self, line: str) -> None:
        self.told[line] = 0.0


class _Counter:
    done = 0.0

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        del note
        self.done += amount


def test_a_script_writes_to_the_log(make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "volseg"):
        volseg.check(make_dataset(3))
    told = [record.getMessage() for record in caplog.records if record.name == "volseg"]
    assert told[0].endswith("0/3 cases")
    assert "3/3 cases" in told[-1]


def test_nobody_is_told_unless_asked(
    make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_dataset(3)
    volseg.check(folder)  # the log is there for whoever turns it on
    with caplog.at_level(logging.INFO, "volseg"):
        volseg.check(folder, progress=False)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_listener_of_ones_own_hears_it(make_dataset: MakeDataset) -> None:
    listener = Listener()
    volseg.check(make_dataset(3), progress=listener)
    assert list(listener.told.values()) == [3.0]


def test_a_terminal_shows_a_bar(make_dataset: MakeDataset, tmp_path: Path) -> None:
    above, below = pty.openpty()
    code = f"import volseg; volseg.check({str(make_dataset(3))!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=uncounted(), stderr=below, cwd=tmp_path, timeout=120, check=True
    )
    os.close(below)
    shown = b""
    while True:
        try:
            part = os.read(above, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(above)
    assert done.returncode == 0
    assert "3/3 cases" in shown.decode()
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in shown.decode()
