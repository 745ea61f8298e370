"""The command takes no settings of libraries from the folder that one stands in."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr + done.stdout


def test_a_pipe_for_settings_of_matplotlib_does_not_hold_it(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("the system has no named pipes")
    os.mkfifo(tmp_path / "matplotlibrc")
    code = "import volseg, matplotlib\nprint('read', len(matplotlib.rcParams) > 100)\n"
    (tmp_path / "volseg").write_text(code)
    assert run(tmp_path, sys.executable, "-P", "volseg") == "read True\n"


def test_a_program_has_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7\n")
    code = "import volseg, matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    assert run(tmp_path, sys.executable, "-c", code) == "7.0\n"
