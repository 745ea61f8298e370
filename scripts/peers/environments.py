"""Environments for programs that can't be installed beside volseg: they see the project's packages, and come before them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

VERSIONS = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"


def make_environment(
    folder: Path, requirements: tuple[str, ...], alone: tuple[str, ...] = (), anew: tuple[str, ...] = ()
) -> Path:
    """The Python of an environment in ``folder``, which is made where it isn't there yet.

    Args:
        folder: the environment's.
        requirements: what pip installs with all that it needs.
        alone: what it installs before that without, since its needs contradict others'.
        anew: what it installs first with all that it needs, whatever the project has.
    """
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.is_file():
        return python
    print(f"Making {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    project = sysconfig.get_paths()["purelib"]
    (packages / "project.pth").write_text(f"import site; site.addsitedir({project!r})\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if anew:
        subprocess.run([*pip, "--ignore-installed", *anew], check=True)
    if alone:
        subprocess.run([*pip, "--no-deps", "--ignore-installed", *alone], check=True)
    subprocess.run([*pip, *requirements], check=True)
    done.touch()
    return python


def versions_of(python: Path, *packages: str) -> str:
    """The versions that the environment's programs see."""
    done = subprocess.run([python, "-c", VERSIONS, *packages], capture_output=True, text=True, check=True)
    return done.stdout.strip()
