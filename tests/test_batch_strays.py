"""An error or Ctrl-C ends the work in a moment, whatever threads libraries have begun."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import uncounted
from tests.zoo import write_zoo_bundle
from volseg.batch.strays import WAIT_SECONDS, are_computing, strays_ended
from volseg.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = 60.0
SCRIPT = f"""
import queue, threading, time
from pathlib import Path
import torch
from monai.transforms import MapTransform

threading.Thread(target=queue.Queue().get, daemon=True).start()  # as a writer of curves: it waits for good


class Windowd(MapTransform):
    def __init__(self, keys, low, high):
        super().__init__(keys)

    def __call__(self, data):
        begun = Path(__file__).with_name("begun.txt")
        if FIRST in data["image"].meta["filename_or_obj"]:  # of which MONAI takes the result first
            time.sleep(1.0)
            begun.touch()
            raise ValueError("nonsense")
        if FIRST == "?":
            begun.touch()
        end = time.monotonic() + {LONG}
        while time.monotonic() < end:
            torch.randn(500, 500) @ torch.randn(500, 500)
        return data
"""


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def begun(target: object) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def compute(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def fail_with(target: object) -> float:
    started = time.monotonic()

    def work() -> None:
        with strays_ended():
            begun(target)
            time.sleep(0.2)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    return time.monotonic() - started


def test_a_thread_that_waits_is_no_hindrance(stop: threading.Event) -> None:
    assert fail_with(stop.wait) < WAIT_SECONDS
    assert fail_with(queue.Queue[int]().get) < WAIT_SECONDS
    assert not are_computing([threading.Thread()])


def test_one_that_computes_is_waited_for_a_moment(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[object] = []
    monkeypatch.setattr("atexit.register", lambda *what: left.append(what))
    assert WAIT_SECONDS <= fail_with(lambda: compute(stop)) < 3 * WAIT_SECONDS
    assert len(left) == 1
    left.clear()
    threading.Timer(1.0, stop.set).start()
    assert fail_with(lambda: compute(stop)) < WAIT_SECONDS
    assert left == []


@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_training_ends_in_a_moment(cohort: Path, tmp_path: Path, how: str) -> None:
    """While a cache is filled in threads, of which none can be stopped."""
    root = write_zoo_bundle(tmp_path / "bundle", cohort)
    first = min(path.name for path in (cohort / "imagesTr").iterdir()) if how == "error" else "?"
    (root / "scripts" / "window.py").write_text(SCRIPT.replace("FIRST", repr(first)))
    path = root / "configs" / "train.json"
    config = json.loads(path.read_text())
    config["train"]["dataset"]["num_workers"] = 3
    path.write_text(json.dumps(config))
    assert main(["trust", str(root), "--yes"]) == 0
    command = [sys.executable, "-m", "volseg", "train", str(root)]
    with subprocess.Popen(
        command, env=uncounted(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 240
        while not (root / "scripts" / "begun.txt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if how == "interrupt":
            time.sleep(1.0)
        started = time.monotonic()
        if how == "interrupt":
            process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=200)
    assert time.monotonic() - started < LONG / 2, shown
    assert process.returncode == (130 if how == "interrupt" else 2), shown
    assert shown.rstrip().splitlines()[-1] == "interrupted" if how == "interrupt" else "ValueError" in shown
    assert "Traceback" not in shown
