"""``volseg demo``: what it prints of a demo that ended; the demo itself has tests of its own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.compared import two_sides
from volseg.cli import demo as module
from volseg.cli.main import main
from volseg.verbs.evaluate import EvaluateOptions, evaluate
from volseg.workflows.demo import DemoOptions, DemoResult, Places, Viewable

if TYPE_CHECKING:
    from volseg.progress import Progress


def test_the_scores_come_first_then_what_to_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Path, DemoOptions]] = []
    cases = tuple(Viewable(name, Path(f"{name}.nii.gz"), Path(f"m{name}.nii.gz"), Path(f"{name}.png")) for name in "ab")

    def ran(folder: Path, options: DemoOptions, _: Progress) -> DemoResult:
        asked.append((folder, options))
        return DemoResult(
            Places(folder), evaluate(*two_sides(tmp_path), EvaluateOptions(jobs=1)), cases, Path("labels.txt")
        )

    monkeypatch.setattr(module, "run_demo", ran)
    assert main(["demo", str(tmp_path / "run"), "--cases", "7", "--minutes", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert asked == [(tmp_path / "run", DemoOptions(cases=7, minutes=0.5))]
    assert lines[0].split()[:3] == ["case", "label", "Dice"]
    place = lines.index("To look at a case in ITK-SNAP:")
    assert shlex.split(lines[place + 1]) == ["itksnap", "-g", "a.nii.gz", "-s", "ma.nii.gz", "-l", "labels.txt"]
    assert lines[place + 2 :] == ["Pictures:", "  a.png", "  b.png"]
