"""The place that an attack is staged in: a stranger's files, a person's own beside them, and a canary."""

from __future__ import annotations

import base64
import gzip
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import yaml

SECONDS = 60.0
"""How long a command may take on a machine that does other work as well."""
CPU_SECONDS = 25.0
MEMORY_BYTES = 2_500_000_000
"""A process with torch and MONAI holds half a gigabyte before it does anything."""
TOLD = frozenset({0, 1, 2, 3})
REFUSED = frozenset({1, 2, 3})


@dataclass(frozen=True)
class Command:
    """One run of volseg, and what it may do."""

    arguments: tuple[str, ...]
    folder: Path
    writes: tuple[Path, ...] = ()
    """Folders and files that it may write to."""
    codes: frozenset[int] = TOLD
    """Exit codes that are an answer."""
    program: tuple[str, ...] | None = None
    """A process of its own instead of a fork of a warm one: what the arguments are given to."""
    code: str | None = None
    """Python to run instead of the command line."""
    environment: tuple[tuple[str, str], ...] = ()
    seconds: float = SECONDS
    cpu_seconds: float = CPU_SECONDS
    memory_bytes: int = MEMORY_BYTES
    said: str | None = None
    """What must be in its output."""
    never_said: str | None = None
    meanwhile: Callable[[], None] | None = None
    """What the attacker does while it runs."""


@dataclass(frozen=True)
class Base:
    """A sound data set and a trained bundle as ``volseg plan`` writes them, for attacks to spoil copies of."""

    data: Path
    bundle: Path


@dataclass
class Scene:
    """Folders: ``work`` is what the stranger sent, ``outside`` what is the person's own."""

    root: Path
    base: Base
    secret: str = field(default_factory=lambda: secrets.token_hex(24))

    def __post_init__(self) -> None:
        for folder in (self.work, self.outside, self.home, self.root / "tmp", self.victim):
            folder.mkdir(parents=True)
        self.voxels = np.frombuffer(os.urandom(2 * 14 * 12 * 10), np.int16).reshape(14, 12, 10)
        (self.outside / "secret.txt").write_text(self.secret + "\n")
        (self.outside / "secret.json").write_text(json.dumps({"secret": self.secret}))
        (self.outside / "secret.yaml").write_text(f"secret: {self.secret}\n")
        (self.outside / "secret.raw").write_bytes(self.voxels.tobytes())
        write_nifti(self.outside / "secret.nii.gz", self.voxels)
        write_nifti(self.outside / "secret.nii", self.voxels)
        (self.victim / "keep.txt").write_text("precious")
        shutil.copy(self.outside / "secret.nii.gz", self.victim / "keep.nii.gz")
        shutil.copy(self.outside / "secret.nii.gz", self.victim / "case_0.nii.gz")

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def victim(self) -> Path:
        return self.outside / "victim"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def canary(self) -> Path:
        """Exists if anything of the stranger's was executed."""
        return self.root / "canary"

    @property
    def out(self) -> Path:
        return self.work / "out"

    @property
    def marker(self) -> str:
        """A Python expression that wakes the canary."""
        return f"open({str(self.canary)!r}, 'a').write('x')"

    @property
    def module(self) -> str:
        """A module that wakes the canary, and then lets the import fail."""
        return f"open({str(self.canary)!r}, 'a').write(__name__ + ' ')\nraise ImportError(__name__)\n"

    @property
    def shell(self) -> str:
        """The same for a shell."""
        return f"echo x >>'{self.canary}'"

    # What the stranger sent.

    def bundle(self, name: str = "bundle", **configs: Any) -> Path:
        """A sound bundle; ``inference`` and so on are functions that spoil its configs."""
        target = self.work / name
        shutil.copytree(self.base.bundle, target)
        for config, spoil in configs.items():
            suffix = "json" if config == "metadata" else "yaml"
            edit(target / "configs" / f"{config}.{suffix}", spoil)
        return target

    def data(self, name: str = "data") -> Path:
        shutil.copytree(self.base.data, self.work / name)
        return self.work / name

    def image(self, name: str = "scan.nii.gz") -> Path:
        """A sound image."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.base.data / "imagesTr" / "case_0.nii.gz", path)
        return path

    # What the person types.

    def volseg(self, *arguments: object, writes: tuple[Path, ...] = (), **options: Any) -> Command:
        options.setdefault("folder", self.work)
        return Command(tuple(map(str, arguments)), writes=writes, **options)

    def check(self, path: Path, **options: Any) -> Command:
        return self.volseg("check", path, **options)

    def predict(
        self, bundle: Path, source: Path | None = None, *more: str, also: tuple[Path, ...] = (), **options: Any
    ) -> Command:
        source = source or self.image()
        return self.volseg(
            "predict", bundle, source, self.out, "--device", "cpu", *more, writes=(self.out, *also), **options
        )

    def train(self, bundle: Path, *more: object, **options: Any) -> Command:
        if "--epochs" not in more:
            more = ("--epochs", 1, *more)
        return self.volseg(
            "train", bundle, "--device", "cpu", *more, writes=(bundle / "runs", bundle / "models"), **options
        )  # fmt: skip

    def plan(self, data: Path, **options: Any) -> Command:
        planned = self.work / "planned"
        return self.volseg("plan", data, planned, writes=(planned,), **options)

    def convert(self, source: Path, *more: object, **options: Any) -> Command:
        return self.volseg("convert", source, self.out, *more, writes=(self.out,), **options)

    def evaluate(self, predicted: Path, reference: Path, *more: object, **options: Any) -> Command:
        return self.volseg(
            "evaluate", predicted, reference, "--out", self.out, *more, writes=(self.out,), **options
        )  # fmt: skip

    def postprocess(self, masks: Path, *more: object, **options: Any) -> Command:
        more = more or ("--fill-holes", "all")
        return self.volseg("postprocess", masks, self.out, *more, writes=(self.out,), **options)

    def trust(self, bundle: Path, **options: Any) -> Command:
        return self.volseg("trust", bundle, "--yes", **options)

    def python(self, code: str, **options: Any) -> Command:
        return self.volseg(code=code, writes=(self.out,), **options)

    def fresh(self, command: Command, *program: str) -> Command:
        """The same command in a process of its own, as a shell starts it."""
        from dataclasses import replace

        script = Path(sys.executable).with_name("volseg")
        return replace(command, program=program or (str(script),), seconds=150, cpu_seconds=60)


def edit(path: Path, spoil: Callable[[dict[str, Any]], object] | dict[str, Any]) -> None:
    """Change a config by a function of its content, or by keys to put in."""
    text = path.read_text()
    content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if callable(spoil):
        spoil(content)
    else:
        content.update(spoil)
    write_config(path, content)


def write_config(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(content, indent=1))
    else:
        path.write_text(yaml.safe_dump(content, sort_keys=False, width=100_000))


def write_nifti(path: Path, voxels: np.ndarray[Any, Any]) -> Path:
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.eye(4), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(image.to_bytes(), 1))
    else:
        path.write_bytes(image.to_bytes())
    return path


def encoded(code: str) -> str:
    """Code as an expression without quotes, dots or spaces to look for."""
    return f"exec(__import__('base64').b64decode('{base64.b64encode(code.encode()).decode()}'))"
