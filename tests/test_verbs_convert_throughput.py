"""The bar of a conversion: series, files and speed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volseg.console import ConsoleProgress
from volseg.verbs.convert import ConvertOptions, convert, throughput
from volseg.verbs.convert.throughput import Load, Throughput

if TYPE_CHECKING:
    from conftest import WriteSeries


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_files_and_speed_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    stream = io.StringIO()
    progress = Throughput(ConsoleProgress(stream), {"a": Load(10, 3_000_000), "b": Load(20, 1_000_000)})
    with progress.task("Converting", 2, "cases") as task:
        clock.now = 2.0
        task.advance(1, "a")
        task.advance(1, "b")
    assert stream.getvalue().splitlines()[-1].endswith("30/30 files, 2 MB/s")
    assert "2/2 series" in stream.getvalue()


def test_a_conversion_shows_series_files_and_speed(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    write_series(tmp_path / "dicom/b", seed=2)
    stream = io.StringIO()
    convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(spacing=("native",)), ConsoleProgress(stream))
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("Converting: done, 2/2 series")
    assert "10/10 files" in last
    assert last.endswith("MB/s")
