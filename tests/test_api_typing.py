"""The Python API is typed: mypy finds each misuse in ``tests/typing_api.py``, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import uncounted

ROOT = Path(__file__).parent.parent


def test_a_type_checker_knows_every_option() -> None:
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "tests/typing_api.py"]
    done = subprocess.run(command, cwd=ROOT, env=uncounted(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
