"""Counts the lines of volseg that tests run: a plugin of pytest, ``-p tests.counting``, which writes coverage's files.

SlipCover puts the counting into volseg's own code. Coverage's way, a trace function, costs a third of the whole suite's
time, since before Python 3.12 it slows the code of libraries as well. What tests start (commands, workers) counts by
coverage, but only in the modules below: it makes imports a third slower, and others run the same lines in their process.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import ModuleType

    from slipcover import Slipcover

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "COVERAGE_PROCESS_START": str(PROJECT / "pyproject.toml"),
    "COVERAGE_FILE": str(PROJECT / ".coverage"),
}
STARTERS = frozenset({
    "test_api_reporting.py", "test_batch.py", "test_batch_executors.py", "test_batch_jobs.py", "test_cli_check.py",
    "test_cli_main.py", "test_localsettings.py",
})  # fmt: skip
"""Modules whose children run lines that no test runs in its own process."""


class Finder:
    """Finds volseg's modules alone; SlipCover's own asks all other finders, of which a bundle's asks it in turn."""

    def __init__(self, counter: Slipcover) -> None:
        self._counter = counter

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module with its lines counted, or nothing for those of others."""
        from slipcover.importer import SlipcoverLoader

        if name.partition(".")[0] != "volseg":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None and spec.origin is not None:
            spec.loader = SlipcoverLoader(self._counter, spec.loader, spec.origin)
        return spec


class Counting:
    """From the start of a process that runs tests to its end."""

    def __init__(self) -> None:
        import slipcover  # not before pytest has looked at it, since it brings a plugin of its own

        # It never takes the counting out again: for that it looks at the locals of all frames, which then live longer,
        # and tests count the memory of tensors by when they go.
        self._counter = slipcover.Slipcover(source=[str(PROJECT / "volseg")], d_miss_threshold=10**9)
        sys.meta_path.insert(0, Finder(self._counter))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Have what a test starts counted, where that is of use."""
        with pytest.MonkeyPatch.context() as environment:
            for name, value in ENVIRONMENT.items() if item.path.name in STARTERS else ():
                environment.setenv(name, value)
            return (yield)

    def pytest_sessionfinish(self) -> None:
        """Write what was run."""
        from coverage import CoverageData

        data = CoverageData(ENVIRONMENT["COVERAGE_FILE"], suffix=True)
        files = self._counter.get_coverage()["files"]
        data.add_lines({str(PROJECT / name): found["executed_lines"] for name, found in files.items()})
        data.write()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count, but not in the process that only hands tests to others."""
    if "PYTEST_XDIST_WORKER" in os.environ or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Counting())
