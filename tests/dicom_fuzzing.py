"""Damaged files through ``volseg.dicom`` in worker processes whose time and memory are watched.

A worker gets a recipe, makes the damaged file from it beside some sound slices of the same series, scans the folder,
loads what it finds and decodes the damaged file by itself. What it may end with is a result or a ``VolsegError``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.dicom_mutations import mutate

MAX_SECONDS = 10.0
MAX_BYTES = 10**9
KILL_SECONDS = 60.0
"""A worker that is silent for this long hangs; by then it has failed long since."""
ADDRESS_BYTES = 6 * 2**30
"""Of a worker: so that a failure doesn't take the machine along."""
NEIGHBOURS = 3
"""Sound slices beside the damaged one, so that there is a volume to load."""


@dataclass(frozen=True)
class Recipe:
    """How to make one damaged file: its source relative to the folder of sources, seed and number."""

    source: str
    neighbours: tuple[str, ...]
    seed: int
    number: int


@dataclass(frozen=True)
class Result:
    """How one file ended: what came of it, time by the clock, and the peak memory of worker and decoder together."""

    recipe: Recipe
    mutation: str
    end: str
    seconds: float
    peak_bytes: int
    fault: str = ""

    @property
    def failed(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        if self.fault:
            return self.fault
        if self.seconds > MAX_SECONDS:
            return f"took {self.seconds:.1f} s"
        return f"took {self.peak_bytes / 1e6:.0f} MB" if self.peak_bytes > MAX_BYTES else ""


@dataclass
class Summary:
    """All results, counted."""

    files: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0

    def add(self, result: Result) -> None:
        """Count one."""
        self.files += 1
        self.ends[result.end] += 1
        self.mutations.update(filter(None, result.mutation.split(", ")))
        self.seconds, self.peak_bytes = max(self.seconds, result.seconds), max(self.peak_bytes, result.peak_bytes)
        if result.failed:
            self.failures.append(result)


Trial = Callable[[Path, Path], str]
"""What is done with a folder and the damaged file in it; says what came of it."""


def convert_damaged(folder: Path, damaged: Path) -> str:
    """Scan, load what is found, and decode the damaged file by itself."""
    from volseg.dicom import load_values, scan
    from volseg.dicom.file.files import skipped_kind
    from volseg.dicom.file.header import read_header
    from volseg.dicom.pixels import layout_of, read_frames
    from volseg.errors import VolsegError

    end = ""
    try:
        found = scan(folder)
        end = "series" if found.series else "rejected" if found.rejected else "nothing"
        if found.bad_files:
            end = f"{end}, {found.bad_files[0].error.code}"
        for series in found.series:
            load_values(series, jobs=1)
        if found.series:
            end = end.replace("series", "loaded")
    except VolsegError as error:
        end = f"{end} {error.code}".strip()
    with contextlib.suppress(VolsegError):
        header = read_header(damaged)
        if skipped_kind(header) is None:
            read_frames(layout_of(header))
    return end


def recipes(folder: Path, sources: Sequence[str], seed: int, count: int) -> Iterator[Recipe]:
    """Recipes for ``count`` damaged files, spread evenly over the sources; those of one source follow each other."""
    beside = _neighbours(folder, sources)
    number = 0
    for place, source in enumerate(sources):
        for _ in range(count * (place + 1) // len(sources) - count * place // len(sources)):
            yield Recipe(source, beside[source], seed, number)
            number += 1


def _neighbours(folder: Path, sources: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each file, the sound slices nearest to it in its series, each at a place of its own."""
    from volseg.dicom.file import tags
    from volseg.dicom.file.header import read_header
    from volseg.errors import VolsegError

    series: dict[tuple[Path, str], dict[tuple[float, ...], str]] = {}
    own: dict[str, tuple[tuple[Path, str], tuple[float, ...]]] = {}
    for source in sources:
        try:
            header = read_header(folder / source)
        except VolsegError:
            continue
        position = header.numbers(tags.IMAGE_POSITION_PATIENT)
        if len(position) == 3:
            key = (Path(source).parent, header.uid(tags.SERIES_INSTANCE_UID))
            series.setdefault(key, {}).setdefault(position, source)
            own[source] = key, position

    def near(source: str) -> tuple[str, ...]:
        if source not in own:
            return ()
        key, position = own[source]
        others = [
            (sum((a - b) ** 2 for a, b in zip(place, position, strict=True)), name)
            for place, name in series[key].items()
            if place != position
        ]
        return tuple(name for _, name in sorted(others)[:NEIGHBOURS])

    return {source: near(source) for source in sources}


def fuzz(folder: Path, work: Sequence[Recipe], *, jobs: int = 1, trial: Trial = convert_damaged) -> Iterator[Result]:
    """Do the recipes in worker processes, and give each one's result as it comes."""
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(work))
    workers: dict[Connection, _Worker] = {}
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                worker = _Worker(context, folder, trial)
                workers[worker.pipe] = worker
                worker.give(waiting.pop())
            for pipe in wait(list(workers), timeout=1.0):
                assert isinstance(pipe, Connection)
                worker = workers[pipe]
                result = worker.take()
                yield result
                if worker.is_gone:
                    del workers[pipe]
                elif waiting:
                    worker.give(waiting.pop())
                else:
                    worker.end()
                    del workers[pipe]
            for pipe, worker in list(workers.items()):
                if time.monotonic() - worker.began > KILL_SECONDS:
                    worker.end()
                    del workers[pipe]
                    yield worker.fault(f"hung for {KILL_SECONDS:.0f} s and was stopped")
    finally:
        for worker in workers.values():
            worker.end()


class _Worker:
    """One process that makes damaged files and tries them."""

    def __init__(self, context: multiprocessing.context.SpawnContext, folder: Path, trial: Trial) -> None:
        self.pipe, other = context.Pipe()
        self.room = Path(tempfile.mkdtemp(prefix="volseg-fuzz-"))
        self._process = context.Process(target=_serve, args=(other, folder, self.room, trial))
        self._process.start()
        other.close()
        assert self.pipe.recv() == "ready"
        self.is_gone = False
        self.began = time.monotonic()

    def give(self, recipe: Recipe) -> None:
        self.recipe, self.began = recipe, time.monotonic()
        self.pipe.send(recipe)

    def take(self) -> Result:
        try:
            result = self.pipe.recv()
        except (EOFError, OSError):
            self.end()
            self.is_gone = True
            return self.fault(f"the process ended with {self._process.exitcode}")
        assert isinstance(result, Result)
        return result

    def fault(self, words: str) -> Result:
        return Result(self.recipe, "", "crashed", time.monotonic() - self.began, 0, words)

    def end(self) -> None:
        self.pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        shutil.rmtree(self.room, ignore_errors=True)


def _serve(pipe: Connection, folder: Path, room: Path, trial: Trial) -> None:
    import numpy as np  # noqa: F401

    import volseg.dicom  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    pipe.send("ready")
    content: tuple[Recipe | None, bytes] = (None, b"")
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            recipe = pipe.recv()
            if content[0] is None or content[0].source != recipe.source:
                shutil.rmtree(room)
                room.mkdir()
                for place, name in enumerate(recipe.neighbours):
                    shutil.copyfile(folder / name, room / f"sound-{place}")
                content = recipe, (folder / recipe.source).read_bytes()
            pipe.send(_try(recipe, content[1], room, trial))


def _try(recipe: Recipe, data: bytes, room: Path, trial: Trial) -> Result:
    damaged, mutation = mutate(data, recipe.seed, recipe.number)
    (room / "damaged").write_bytes(damaged)
    del damaged
    _forget_peaks()
    began = time.monotonic()
    end, fault = "crashed", ""
    try:
        end = trial(room, room / "damaged")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        fault = f"{type(error).__name__}: {error}"
    return Result(recipe, mutation, end, time.monotonic() - began, _peak_bytes(), fault)


def _family() -> list[str]:
    """The numbers of this process and its children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [str(os.getpid()), *children]


def _forget_peaks() -> None:
    for process in _family():
        with contextlib.suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text("5")


def _peak_bytes() -> int:
    total = 0
    for process in _family():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total
