"""Runs the commands of an attack, watched from outside: time, memory, and what was opened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.scene import Command, Scene

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SYSTEM_CALLS = (
    "open,openat,openat2,creat,execve,connect,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,symlink,"
    "symlinkat,link,linkat,truncate,rmdir"
)
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    command: Command
    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int
    hung: str = ""
    opened: tuple[str, ...] = ()
    """Lines of what Python opened (its audit events)."""
    calls: tuple[str, ...] = ()
    """Lines of strace, where that is installed."""


def environment_of(scene: Scene, command: Command) -> dict[str, str]:
    return {
        "HOME": str(scene.home),
        "XDG_CONFIG_HOME": str(scene.home / ".config"),
        "XDG_CACHE_HOME": str(scene.home / ".cache"),
        "VOLSEG_CONFIG_DIR": str(scene.home / "volseg"),
        "MPLCONFIGDIR": str(scene.home / "matplotlib"),
        "TMPDIR": str(scene.root / "tmp"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "CAMPAIGN_SECRET": scene.secret,
        **dict(command.environment),
    }


def strace(log: Path) -> list[str]:
    """The words that put a command under strace; none where it is not installed or may not trace."""
    program = shutil.which("strace")
    if program is None:
        return []
    words = [program, "-f", "--seccomp-bpf", "-y", "-qq", "-s", "400", "-e", f"trace={SYSTEM_CALLS}", "-o", str(log)]
    works = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    return words if works else []


class Runner:
    """One warm process for the commands that need none of their own."""

    def __init__(self, folder: Path, *, traced: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "warm.strace"
        self._traced = traced
        self._warm: subprocess.Popen[str] | None = None

    def _start(self) -> subprocess.Popen[str]:
        if self._warm is None or self._warm.poll() is not None:
            words = strace(self._log) if self._traced else []
            environment = {
                name: value
                for name, value in os.environ.items()
                # What counts the lines that tests run would write into the scenes.
                if name not in ("VOLSEG_CONFIG_DIR", "PYTHONPATH") and not name.startswith("COV")
            }
            environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
            self._warm = subprocess.Popen(
                [*words, sys.executable, "-P", str(HERE / "warm.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=PROJECT,
                start_new_session=True,
            )
            if self._warm.stdout is None or self._warm.stdout.readline() != "ready\n":
                raise RuntimeError("the warm process did not start")
        return self._warm

    def close(self) -> None:
        if self._warm is not None:
            for pipe in (self._warm.stdin, self._warm.stdout):
                if pipe is not None:
                    pipe.close()
            self._warm.wait(20)
            self._warm = None

    def run(self, scene: Scene, command: Command, number: int) -> Ran:
        """Run a command to its end, or until it takes too long or too much."""
        place = scene.root.with_name(f"{scene.root.name}.{number}")
        stdout, stderr, opened = (place.with_suffix(f".{what}") for what in ("stdout", "stderr", "opened"))
        if command.meanwhile is not None:
            threading.Thread(target=command.meanwhile, daemon=True).start()
        run = self._run_fork if command.program is None else self._run_fresh
        began = time.monotonic()
        code, peak_bytes, hung, calls = run(scene, command, stdout, stderr, opened)
        seconds = time.monotonic() - began
        texts = [path.read_text(errors="replace") if path.exists() else "" for path in (stdout, stderr, opened)]
        return Ran(
            command, code, texts[0], texts[1], seconds, peak_bytes, hung, tuple(texts[2].splitlines()), tuple(calls)
        )  # fmt: skip

    def _run_fork(
        self, scene: Scene, command: Command, stdout: Path, stderr: Path, opened: Path
    ) -> tuple[int, int, str, list[str]]:
        warm = self._start()
        assert warm.stdin is not None
        assert warm.stdout is not None
        before = self._log.stat().st_size if self._log.exists() else 0
        order = {
            "arguments": command.arguments,
            "code": command.code,
            "folder": str(command.folder),
            "environment": environment_of(scene, command),
            "stdout": str(stdout),
            "stderr": str(stderr),
            "opened": str(opened),
        }
        print(json.dumps(order), file=warm.stdin, flush=True)
        child = int(warm.stdout.readline())
        watch = Watch(child, command)
        answer = json.loads(warm.stdout.readline())
        hung = watch.end()
        calls = []
        if self._log.exists():
            with self._log.open(errors="replace") as log:
                log.seek(before)
                calls = log.read().splitlines()
        return answer[0], max(answer[1] if not watch.peak_bytes else 0, watch.peak_bytes), hung, calls

    def _run_fresh(
        self, scene: Scene, command: Command, stdout: Path, stderr: Path, _: Path
    ) -> tuple[int, int, str, list[str]]:
        log = stdout.with_suffix(".strace")
        words = strace(log) if self._traced else []
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | environment_of(scene, command)
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                [*words, *(command.program or ()), *command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=command.folder,
                env=environment,
                start_new_session=True,
            )
            watch = Watch(process.pid, command)
            code = process.wait()
        hung = watch.end()
        calls = log.read_text(errors="replace").splitlines() if log.exists() else []
        return code, watch.peak_bytes, hung, calls


class Watch:
    """Ends a process and its children when they take too long or too much."""

    def __init__(self, process: int, command: Command) -> None:
        self.peak_bytes = 0
        self._process, self._command = process, command
        self._hung = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> str:
        self._over.set()
        self._thread.join()
        kill(self._process)
        return self._hung

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._over.wait(0.1):
            seconds = time.monotonic() - began
            bytes_, cpu_seconds = used_by(self._process)
            self.peak_bytes = max(self.peak_bytes, bytes_)
            if seconds > self._command.seconds:
                self._hung = f"still running after {seconds:.0f} s"
            elif cpu_seconds > self._command.cpu_seconds:
                self._hung = f"{cpu_seconds:.0f} s of a core"
            elif bytes_ > self._command.memory_bytes:
                self._hung = f"{bytes_ / 1e9:.1f} GB of memory"
            if self._hung:
                kill(self._process)
                return


def kill(leader: int) -> None:
    """End all processes of a session that was started here."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def used_by(leader: int) -> tuple[int, float]:
    """Memory in bytes and seconds of cores of the session that this process leads (Linux)."""
    bytes_, ticks = 0, 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            bytes_ += int(fields[21]) * PAGE
            ticks += sum(map(int, fields[11:15]))
    return bytes_, ticks / TICKS
