"""Progress that nobody watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.progress import SILENT

if TYPE_CHECKING:
    from volseg.progress import Progress


def test_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    progress: Progress = SILENT
    with progress.task("work", 3, "cases") as outer, progress.task("part", 0) as inner:
        outer.advance()
        inner.advance(0.5, "note")
    progress.say("a line")
    assert capfd.readouterr() == ("", "")


def test_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), SILENT.task("work", 1):
        raise ZeroDivisionError
