"""What an attack came to, seen from outside: files, bytes, system calls, exit codes; never volseg's own word."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.attacks.attack import Attack
from tests.attacks.running import PROJECT, Ran, Runner
from tests.attacks.scene import Base, Scene, edit, write_nifti

LARGEST_READ = 64 * 2**20
FORGED = re.compile(r"^\W*FORGED", re.MULTILINE)
"""A line that a stranger's text began: names in the attacks hold a line break and this word behind it."""
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
OPENED = re.compile(r"\bopen(?:at|at2)?\((.*)\)\s+= \d+<(.*)>$|\bcreat\((.*)\)\s+= \d+<(.*)>$")
CHANGED = re.compile(r"\b(?:rename|unlink|mkdir|symlink|link|truncate|rmdir)\w*\((.*)\)\s+= 0$")
CALLED = re.compile(r'\bexecve\("([^"]*)".*\)\s+= 0$')
CONNECTED = re.compile(r"\bconnect\(.*AF_INET6?,")


@dataclass
class Verdict:
    """What happened that must not; each a sentence, or empty."""

    attack: Attack
    executed: str = ""
    read: str = ""
    written: str = ""
    hung: str = ""
    crashed: str = ""
    wrong: str = ""
    """An answer that lies: a forged line, or success where there can be none."""
    seconds: float = 0.0
    ran: list[Ran] = field(default_factory=list)

    @property
    def hits(self) -> dict[str, str]:
        kinds = ("executed", "read", "written", "hung", "crashed", "wrong")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def try_attack(attack: Attack, runner: Runner, base: Base, folder: Path, *, keep: bool = False) -> Verdict:
    """Stage an attack in a folder of its own, run its commands, and judge."""
    root = folder / attack.name.replace("/", ".")
    scene = Scene(root, base)
    verdict = Verdict(attack)
    began = time.monotonic()
    try:
        commands = attack.stage(scene)
    except Exception as error:  # noqa: BLE001  an attack that can't be made has shown nothing
        verdict.wrong = f"it can't be staged: {type(error).__name__}: {error}"
        return verdict
    for number, command in enumerate(commands):
        before = snapshot(scene.root)
        ran = runner.run(scene, command, number)
        verdict.ran.append(ran)
        judge(verdict, scene, ran, before, snapshot(scene.root))
    verdict.seconds = time.monotonic() - began
    if not keep:
        shutil.rmtree(root, ignore_errors=True)
        for path in folder.glob(f"{root.name}.*"):
            path.unlink()
    return verdict


def judge(verdict: Verdict, scene: Scene, ran: Ran, before: dict[str, str], after: dict[str, str]) -> None:
    """Add to the verdict what one command did."""
    if scene.canary.exists():
        verdict.executed = f"the canary: {scene.canary.read_text(errors='replace')[:80]}"
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    allowed = [
        scene.home, scene.root / "tmp", scene.canary, *ran.command.writes,
    ]  # fmt: skip
    strayed = sorted(path for path in changed if not is_under(scene.root / path, allowed))
    if strayed:
        verdict.written = ", ".join(strayed[:3])
    if ran.hung:
        verdict.hung = ran.hung
    _judge_end(verdict, ran)
    _judge_calls(verdict, scene, ran, allowed)
    texts = {"stdout": ran.stdout.encode(), "stderr": ran.stderr.encode()}
    texts |= {path: content for path in changed for content in [content_of(scene.root / path)] if content is not None}
    found = [name for name, content in texts.items() if not name.startswith("outside/") and holds(scene, content)]
    if found:
        verdict.read = f"the secret stands in {', '.join(sorted(found)[:3])}"
    _judge_lines(verdict, texts)


def _judge_end(verdict: Verdict, ran: Ran) -> None:
    said = ran.stdout + ran.stderr
    if not ran.hung and ran.code not in ran.command.codes:
        if ran.code in (0, 1, 2, 3):
            verdict.wrong = f"exit code {ran.code}: {last_line(ran)}"
        else:
            verdict.crashed = f"exit code {ran.code}: {last_line(ran)}"
    if "Traceback (most recent call last)" in said:
        verdict.crashed = f"a traceback: {last_line(ran)}"
    elif found := re.search(r"(?i)unexpected \w*(error|exception|warning)\b.*", said):
        verdict.crashed = found[0][:160]
    if ran.command.said and not re.search(ran.command.said, said):
        verdict.wrong = f"does not say {ran.command.said!r}: {last_line(ran)}"
    if ran.command.never_said and (told := re.search(ran.command.never_said, said)):
        verdict.wrong = f"says {told[0]!r}"


def _judge_calls(verdict: Verdict, scene: Scene, ran: Ran, allowed: list[Path]) -> None:
    ours = [*allowed, Path("/dev"), Path("/proc/self"), scene.root.parent]
    # Bytecode of the project and of installed packages, which a fresh process may write.
    ours += [PROJECT, Path(sys.prefix), Path(sys.base_prefix)]
    for line in ran.calls:
        if opened := OPENED.search(line):
            flags, path = (opened[1], opened[2]) if opened[2] else ("O_CREAT", opened[4])
            if is_under(Path(path), [scene.outside]):
                kind = "written" if WRITING.search(flags) else "read"
                setattr(verdict, kind, f"opened {Path(path).relative_to(scene.root)}")
            elif WRITING.search(flags) and path.startswith("/") and not is_under(Path(path), ours):
                verdict.written = f"opened {path}"
        elif called := CALLED.search(line):
            if is_under(Path(called[1]), [scene.root]):
                verdict.executed = f"a program: {called[1]}"
        elif CONNECTED.search(line):
            verdict.read = f"a connection: {line[-100:]}"
        elif changed := CHANGED.search(line):
            for path in re.findall(r'"(/[^"]*)"', changed[1]):
                if not is_under(Path(path), ours):
                    verdict.written = f"changed {path}"
    for line in ran.opened:
        event, path, _, _, folder = json.loads(line)
        if event == "open" and is_under(Path(folder) / path, [scene.outside]) and not verdict.read:
            verdict.read = f"Python opened {os.path.relpath(Path(folder) / path, scene.root)}"
        elif event == "socket.connect":
            verdict.read = "a connection"


def _judge_lines(verdict: Verdict, texts: dict[str, bytes]) -> None:
    for name, content in texts.items():
        if name.startswith(("home/", "outside/")) or b"\0" in content[:4096]:
            continue
        text = content.decode(errors="replace")
        # JSON may hold an escape; a line of its own may not come of it. Progress ends with a carriage return.
        if FORGED.search(re.sub(r"[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", "\n", text)):
            verdict.wrong = f"a forged line in {name}"
        elif name in ("stdout", "stderr") and (control := CONTROLS.search(text)):
            verdict.wrong = f"the control character {control[0]!r} in {name}"


def last_line(ran: Ran) -> str:
    lines = (ran.stderr.strip() or ran.stdout.strip()).splitlines()
    return lines[-1][:160] if lines else "says nothing"


def is_under(path: Path, folders: list[Path]) -> bool:
    """Whether a path as it was spelled, links in its folder followed, lies in one of these."""
    place = Path(os.path.realpath(path.parent), path.name)
    return any(place.is_relative_to(Path(os.path.realpath(folder.parent), folder.name)) for folder in folders)


def snapshot(root: Path) -> dict[str, str]:
    """Every file, link and folder under a folder, by what it is and holds."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = Path(folder, name)
            status = path.lstat()
            what = f"{stat.S_IFMT(status.st_mode):o} {stat.S_IMODE(status.st_mode):o}"
            if stat.S_ISREG(status.st_mode):
                digest = hashlib.blake2b(path.read_bytes() if status.st_size <= LARGEST_READ else b"").hexdigest()
                what += f" {status.st_size} {status.st_mtime_ns} {digest}"
            elif stat.S_ISLNK(status.st_mode):
                what += f" {path.readlink()}"
            found[str(path.relative_to(root))] = what
    return found


def content_of(path: Path) -> bytes | None:
    """What a file holds, uncompressed where it is compressed."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_READ:
        return None
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return content
    if content[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                small = [entry for entry in archive.infolist() if entry.file_size < LARGEST_READ]
                return b"".join(archive.read(entry) for entry in small[:1000])
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error):
            return content
    return content


def holds(scene: Scene, content: bytes) -> bool:
    """Whether bytes hold the secret text, or its voxels as whatever numbers, forwards or backwards."""
    if scene.secret.encode() in content:
        return True
    for voxels in (scene.voxels.ravel(), scene.voxels.ravel(order="F")):
        for run in (voxels[100:106], voxels[700:706]):
            for kind in (np.int16, np.int32, np.float32, np.float64):
                if run.astype(kind).tobytes() in content or run[::-1].astype(kind).tobytes() in content:
                    return True
    return False


def make_base(folder: Path) -> Base:
    """A small sound data set, and the bundle that volseg plans and trains on it."""
    data, bundle = folder / "data", folder / "bundle"
    if (bundle / "models" / "model.pt").exists():
        return Base(data, bundle)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for case in range(3):
        mask = np.zeros((14, 12, 10), np.uint8)
        mask[3:9, 3:9, 3:8] = 1
        mask[5:8, 5:8, 4:7] = 2
        voxels = (np.array([100, 200, 320])[mask] + random.normal(0, 10, mask.shape)).astype(np.int16)
        write_nifti(data / "imagesTr" / f"case_{case}.nii.gz", voxels)
        write_nifti(data / "labelsTr" / f"case_{case}.nii.gz", mask)
    content = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "file_ending": ".nii.gz",
    }
    (data / "dataset.json").write_text(json.dumps(content))
    run("plan", data, bundle)
    # Two small steps, since many attacks train.
    edit(bundle / "configs" / "train.yaml", {"steps_per_epoch": 2, "batch_size": 2})
    run("train", bundle, "--data", data, "--epochs", 1, "--device", "cpu")
    return Base(data, bundle)


def run(*arguments: object) -> None:
    """Run volseg in this process, quietly."""
    from volseg.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(argument) for argument in arguments])
    if code != 0:
        raise RuntimeError(said.getvalue())
