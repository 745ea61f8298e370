"""scripts/setup: when it makes .venv anew, when it brings it up to date, and when it does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAND_IN = """#!/bin/sh
# Stands in for Python: makes a virtual environment of itself, and notes what pip would install.
case "$*" in
    "-m venv .venv") echo venv >>log; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip install"*) echo "pip $*" >>log; exit "${PIP_FAILS:-0}" ;;
    --version) echo "Python 3.99" ;;
    -c*) exit "${TOO_OLD:-0}" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup"):
        shutil.copy(ROOT / name, folder / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(STAND_IN)
    (tmp_path / "bin" / "python3").chmod(0o755)
    return folder


def setup(project: Path, **environment: str) -> tuple[int, list[str], str]:
    """The exit code, what was called, and what was said."""
    (project / "log").write_text("")
    done = subprocess.run(
        ["bash", "scripts/setup"],
        cwd=project,
        env={"PATH": f"{project.parent / 'bin'}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [line.split()[0] for line in (project / "log").read_text().splitlines()], done.stderr


def test_the_first_run_makes_it_and_the_second_does_nothing(project: Path) -> None:
    assert setup(project)[:2] == (0, ["venv", "pip"])
    assert "--constraint constraints.txt --editable .[dev]" in (project / "log").read_text()
    assert setup(project)[:2] == (0, [])


def test_it_works_from_anywhere(project: Path) -> None:
    done = subprocess.run(
        ["bash", str(project / "scripts" / "setup")],
        cwd="/",
        env={"PATH": f"{project.parent / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert (project / ".venv" / "volseg-stamp").is_file()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_brings_it_up_to_date(project: Path, name: str) -> None:
    setup(project)
    with (project / name).open("a") as file:
        file.write("# changed\n")
    assert setup(project)[:2] == (0, ["pip"])
    assert setup(project)[:2] == (0, [])


def test_a_moved_project_gets_a_new_one(project: Path) -> None:
    setup(project)
    moved = project.rename(project.with_name("a new place"))
    assert setup(moved)[:2] == (0, ["venv", "pip"])


def test_a_failed_set_up_is_never_taken_for_done(project: Path) -> None:
    assert setup(project, PIP_FAILS="1")[0] != 0
    assert setup(project)[:2] == (0, ["venv", "pip"])
    with (project / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert setup(project, PIP_FAILS="1")[0] != 0
    assert setup(project)[:2] == (0, ["venv", "pip"])


def test_an_old_python_is_named(project: Path) -> None:
    for version in ("3.11", "3.12", "3.13"):
        shutil.copy(project.parent / "bin" / "python3", project.parent / "bin" / f"python{version}")
    code, called, said = setup(project, TOO_OLD="1")
    assert code == 1
    assert called == []
    assert "Python 3.11 or newer was not found" in said
    assert not (project / ".venv").exists()


def test_constraints_pin_one_set_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(line.count("==") == 1 and "/" not in line and "+" not in line for line in pins)


@pytest.mark.parametrize("name", ["scripts/setup", "scripts/demo", "scripts/test", ".ci/run"])
def test_scripts_can_be_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / name], check=False, timeout=60).returncode == 0
