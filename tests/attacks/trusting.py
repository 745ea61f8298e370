"""Bundles that a person trusted, and that are others afterwards; and code that trust was never asked for."""

from __future__ import annotations

import os
import py_compile
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.attacks.attack import Attack, Attacks
from tests.attacks.foreign import MODULE, foreign_bundle
from tests.attacks.scene import Command, Scene, edit, write_config

TRUST = Attacks("trust")

UNTRUSTED = frozenset({3})
DONE = frozenset({0})


def trusted_then(change: Callable[[Scene, Path], object], **options: Any) -> Callable[[Scene], Iterator[Command]]:
    """Trust a bundle, change it, and use it: it must be refused for want of trust."""

    def build(scene: Scene) -> Iterator[Command]:
        bundle = foreign_bundle(scene)
        yield scene.trust(bundle, codes=DONE)
        change(scene, bundle)
        yield scene.predict(bundle, None, "--overwrite", **{"codes": UNTRUSTED} | options)

    return build


def revoked(name: str, aim: str, change: Callable[[Scene, Path], object], **options: Any) -> None:
    TRUST.add(f"after-{name}", aim, trusted_then(change, **options))


def _evil(scene: Scene) -> str:
    return f"{scene.marker}\n{MODULE}"


def _append(path: Path, content: str) -> None:
    with path.open("a") as file:
        file.write(content)


def _pyc(scene: Scene, path: Path, mode: py_compile.PycInvalidationMode | None = None) -> None:
    source = scene.root / "tmp" / f"{path.name.split('.')[0]}.py"
    source.write_text(_evil(scene))
    path.parent.mkdir(exist_ok=True)
    py_compile.compile(str(source), str(path), invalidation_mode=mode)


revoked("one-byte-of-code", "a byte of a module", lambda _, b: _append(b / "scripts" / "shift.py", "\n"))
revoked("code-of-a-module", "a module that runs code", lambda s, b: (b / "scripts" / "shift.py").write_text(_evil(s)))
revoked(
    "code-of-the-package", "the package's __init__", lambda s, b: (b / "scripts" / "__init__.py").write_text(s.module)
)
revoked("config", "a byte of the config", lambda _, b: _append(b / "configs" / "inference.yaml", " "))
revoked("metadata", "a byte of metadata.json", lambda _, b: _append(b / "configs" / "metadata.json", " "))
revoked("weights", "a byte of the weights", lambda _, b: _append(b / "models" / "model.pt", " "))
revoked("new-module", "a new module beside the others", lambda s, b: (b / "scripts" / "more.py").write_text(s.module))
revoked("new-file-of-one-byte", "a new file of one byte", lambda _, b: (b / "x").write_text("x"))
revoked("new-empty-file", "a new empty file", lambda _, b: (b / "scripts" / "x.py").touch())
revoked("hidden-file", "a new hidden file", lambda s, b: (b / "scripts" / ".x.py").write_text(s.module))
revoked(
    "new-config",
    "a new config under a name that is looked for first",
    lambda s, b: write_config(b / "configs" / "inference.json", {"run": [f"${s.marker}"]}),
)
revoked("removed-file", "a file less", lambda _, b: (b / "LICENSE").unlink())
revoked("renamed-file", "a file under another name", lambda _, b: (b / "LICENSE").rename(b / "LICENCE"))
revoked("renamed-case", "a name in other letters", lambda _, b: (b / "LICENSE").rename(b / "License"))
revoked(
    "swapped-files",
    "two files under each other's names",
    lambda _, b: (
        (b / "LICENSE").rename(b / "x"),
        (b / "docs" / "README.md").rename(b / "LICENSE"),
        (b / "x").rename(b / "docs" / "README.md"),
    ),
)
revoked(
    "moved-bytes",
    "the first byte of a file at the end of another's name",
    lambda _, b: (
        (b / "LICENSE").rename(b / "LICENSE2"),
        (b / "LICENSE2").write_bytes((b / "LICENSE2").read_bytes()[1:]),
    ),
)
revoked(
    "a-module-for-a-package",
    "a package's folder becomes a module",
    lambda s, b: (shutil.rmtree(b / "scripts"), (b / "scripts.py").write_text(s.module)),
)
revoked(
    "a-link-to-the-same",
    "a module becomes a link to the same bytes outside",
    lambda s, b: (
        shutil.move(b / "scripts" / "shift.py", s.work / "shift.py"),
        (b / "scripts" / "shift.py").symlink_to(s.work / "shift.py"),
    ),
    codes=frozenset({1, 2, 3}),
)
revoked("a-linked-folder", "the scripts become a link to the same folder outside", lambda s, b: (
    shutil.move(b / "scripts", s.work / "scripts"), (b / "scripts").symlink_to(s.work / "scripts")),
    codes=frozenset({1, 2, 3}))  # fmt: skip
revoked(
    "a-link-in-docs",
    "a link to a file outside among the documents",
    lambda s, b: (b / "docs" / "x").symlink_to(s.outside / "secret.txt"),
    codes=frozenset({1, 2, 3}),
)
revoked(
    "normal-forms", "a name in another normal form", lambda _, b: (b / unicodedata.normalize("NFD", "é.py")).touch()
)
revoked("a-fifo", "a FIFO in the bundle", lambda _, b: os.mkfifo(b / "fifo"), codes=frozenset({1, 2, 3}))
revoked(
    "runs",
    "a module in runs/",
    lambda s, b: (b / "runs" / "evil.py").write_text(s.module),
    codes=frozenset({0, 1, 2, 3}),
)
revoked("executable", "a file that becomes a program", lambda _, b: (b / "scripts" / "shift.py").chmod(0o777),
        codes=frozenset({0, 3}))  # fmt: skip
revoked("bytecode", "bytecode beside a module", lambda s, b: _pyc(s, b / "scripts" / "__pycache__" / "shift.cpython-311.pyc"),
        codes=frozenset({0, 3}))  # fmt: skip
revoked("unchecked-bytecode", "bytecode that Python never compares with its source", lambda s, b: _pyc(
    s, b / "scripts" / "__pycache__" / "shift.cpython-311.pyc", py_compile.PycInvalidationMode.UNCHECKED_HASH),
    codes=frozenset({0, 3}))  # fmt: skip
revoked("bytecode-of-the-package", "bytecode of the package", lambda s, b: _pyc(
    s, b / "scripts" / "__pycache__" / "__init__.cpython-311.pyc", py_compile.PycInvalidationMode.UNCHECKED_HASH),
    codes=frozenset({0, 3}))  # fmt: skip
revoked(
    "bytecode-without-source",
    "a module that is bytecode alone",
    lambda s, b: ((b / "scripts" / "shift.py").unlink(), _pyc(s, b / "scripts" / "shift.pyc")),
)
revoked(
    "module-in-pycache",
    "a module in __pycache__",
    lambda s, b: ((b / "__pycache__").mkdir(), (b / "__pycache__" / "cc3d.py").write_text(s.module)),
    codes=frozenset({0, 3}),
)
revoked(
    "beside-the-bundle",
    "modules beside the bundle under the names of the bundle's",
    lambda s, b: (
        (s.work / "scripts").mkdir(),
        (s.work / "scripts" / "__init__.py").write_text(s.module),
        (s.work / "scripts" / "shift.py").write_text(s.module),
    ),
    codes=DONE,
)
revoked(
    "times-alone",
    "times, which are no change",
    lambda _, b: [os.utime(path, (1, 1)) for path in b.rglob("*")],
    codes=DONE,
)
revoked(
    "a-log-of-monai",
    "a log that MONAI's own runner writes, which is no change",
    lambda _, b: (b / "training.log").write_text("x"),
    codes=DONE,
)


@TRUST("copied-store", "a record of trust that the bundle brings along")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    yield scene.trust(bundle, codes=DONE)
    stores = [path for path in scene.home.rglob("*") if path.is_file() and "trust" in path.name]
    if not stores:
        raise FileNotFoundError("no record of trust was found to copy")
    for place in (bundle, scene.work, bundle / ".config" / "volseg", scene.work / ".config" / "volseg"):
        place.mkdir(parents=True, exist_ok=True)
        for store in stores:
            shutil.copy(store, place / store.name)
    for store in stores:
        store.unlink()
    yield scene.predict(bundle, codes=UNTRUSTED)
    yield scene.predict(Path(), scene.image(), folder=bundle, codes=UNTRUSTED)


@TRUST("without-yes", "trust without a person at a terminal who says yes")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    yield scene.volseg("trust", bundle, codes=frozenset({1, 2, 3}))
    yield scene.predict(bundle, codes=UNTRUSTED)


@TRUST("stand-in-of-a-library", "cc3d.py in the bundle's root, which trust must show and nothing may import")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    names = (
        "cc3d",
        "numpy",
        "torch",
        "nibabel",
        "json",
        "scipy",
        "skimage",
        "einops",
        "ignite",
        "sitecustomize",
        "volseg",
    )
    for name in names:
        (bundle / f"{name}.py").write_text(scene.module)
    (bundle / "monai").mkdir()
    (bundle / "monai" / "__init__.py").write_text(scene.module)
    yield scene.trust(bundle, said=r"cc3d\.py")
    yield scene.predict(bundle)
    yield scene.predict(Path(), scene.image(), "--overwrite", folder=bundle)


@TRUST("shows-every-module", "a module deep in a bundle that no config names")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    deep = bundle / "docs" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "unnamed_thing.py").write_text("x = 1\n")
    (bundle / "scripts" / "library.so").write_bytes(b"\x7fELF" + bytes(50))
    yield scene.trust(bundle, said=r"unnamed_thing\.py")


@TRUST("names-that-forge", "modules and config texts that forge what trust shows")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    for name in ("a\nFORGED nothing to run", "\x1b[2J\x1b[H", "a\rFORGED", "\u202eyp.x", "[bold]FORGED"):
        (bundle / "scripts" / f"{name}.py").write_text("x = 1\n")

    def forge(config: dict[str, Any]) -> None:
        config["run"] = [
            "$1\nFORGED nothing to run",
            "$'\x1b[2J' + '\x1b[1A'",
            "$1  # \rFORGED",
            "$" + "1 + " * 5000 + "1",
        ]
        config["a\nFORGED"] = "$__import__('os')"
        config["network_def\r\nFORGED"] = {"_target_": "os.system\nFORGED", "command": "x\nFORGED"}

    edit(bundle / "configs" / "inference.yaml", forge)
    yield scene.check(bundle)
    yield scene.trust(bundle)
    yield scene.predict(bundle)


@TRUST("includes-of-elsewhere", "a trusted bundle that includes a file outside of it, which then changes")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    beside = scene.work / "beside.yaml"
    write_config(beside, {"device": "$torch.device('cpu')"})
    edit(bundle / "configs" / "inference.yaml", {"device": f"%{beside}::device"})
    yield scene.trust(bundle)
    write_config(beside, {"device": f"${scene.marker}"})
    yield scene.predict(bundle)


@TRUST("includes-by-dots", "the same by a relative path")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    for folder in (scene.work, bundle.parent.parent, scene.root):
        write_config(folder / "beside.yaml", {"device": "$torch.device('cpu')"})
    edit(bundle / "configs" / "inference.yaml", {"device": "%../beside.yaml::device"})
    yield scene.trust(bundle)
    for folder in (scene.work, bundle.parent.parent, scene.root):
        write_config(folder / "beside.yaml", {"device": f"${scene.marker}"})
    yield scene.predict(bundle)
    yield scene.predict(Path(), scene.image(), folder=bundle)


EXEMPT = ("runs", "eval", "__pycache__", "models", "docs", "mlruns", "outputs", ".git", "logs", "events", "build")


@TRUST("code-where-results-lie", "modules in folders that a run writes to, which change after trust")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)

    def use(config: dict[str, Any]) -> None:
        for name in EXEMPT:
            if name.isidentifier():
                config["imports"].append(f"$import {name}.thing")
        config["imports"].append("$import training")

    edit(bundle / "configs" / "inference.yaml", use)
    for name in EXEMPT:
        (bundle / name).mkdir(exist_ok=True)
        (bundle / name / "thing.py").write_text("x = 1\n")
    (bundle / "training.py").write_text("x = 1\n")
    yield scene.trust(bundle)
    yield scene.predict(bundle)
    for name in EXEMPT:
        (bundle / name / "thing.py").write_text(f"{scene.marker}\n")
    yield scene.predict(bundle, None, "--overwrite")


@TRUST("swapped-while-it-runs", "a module that changes to and fro between the check and the import")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    yield scene.trust(bundle, codes=DONE)
    path, evil, good = bundle / "scripts" / "shift.py", scene.root / "tmp" / "evil.py", scene.root / "tmp" / "good.py"
    good.write_text(MODULE)

    def swap() -> None:
        end = time.monotonic() + 4
        while time.monotonic() < end and bundle.exists():
            for text in (_evil(scene), MODULE):
                evil.write_text(text)
                try:
                    evil.replace(path)
                except OSError:
                    return
                time.sleep(0.004)

    for _ in range(4):
        yield scene.predict(bundle, None, "--overwrite", meanwhile=swap, also=(bundle,))


@TRUST("swapped-config", "a config that changes to and fro between the check and the run")
def _(scene: Scene) -> Iterator[Command]:
    bundle = scene.bundle()
    path, evil = bundle / "configs" / "inference.yaml", scene.root / "tmp" / "evil.yaml"
    sound = path.read_text()

    def swap() -> None:
        end = time.monotonic() + 3
        while time.monotonic() < end and bundle.exists():
            for text in (
                sound.replace(
                    "imports: [", f"imports: ['${scene.marker}', ".replace("'a'", "''a''").replace("'x'", "''x''")
                ),
                sound,
            ):
                evil.write_text(text)
                try:
                    evil.replace(path)
                except OSError:
                    return
                time.sleep(0.003)

    for _ in range(4):
        yield scene.predict(bundle, None, "--overwrite", meanwhile=swap, also=(bundle,))


@TRUST("from-another-folder", "trust of one bundle, used for another that lies where the first one lay")
def _(scene: Scene) -> Iterator[Command]:
    bundle = foreign_bundle(scene)
    yield scene.trust(bundle, codes=DONE)
    other = foreign_bundle(scene, "other")
    (other / "scripts" / "shift.py").write_text(_evil(scene))
    shutil.move(bundle, scene.work / "first")
    shutil.move(other, bundle)
    yield scene.predict(bundle, codes=UNTRUSTED)


# One-byte edits after trust.


@dataclass(frozen=True)
class Edit:
    """One byte of one file of a bundle, changed, put in or taken out; drawn by a seed."""

    number: int
    seed: int

    def apply(self, bundle: Path) -> tuple[Path, Callable[[], object]]:
        """Change the bundle; the file, and what puts it back."""
        random = Random(f"{self.seed} {self.number}")
        files = sorted(
            path for path in bundle.rglob("*") if path.is_file() and "runs" not in path.relative_to(bundle).parts
        )
        path = files[random.randrange(len(files))]
        content, status = path.read_bytes(), path.stat()
        place = random.randrange(len(content) + 1)
        kind = random.choice(("changed", "changed", "put in", "taken out", "swapped", "renamed"))
        if kind == "renamed":
            new = path.with_name(path.name[:-1] + chr(ord(path.name[-1]) ^ 1))
            path.rename(new)
            return path, lambda: new.rename(path)
        if kind == "changed" and place < len(content):
            edited = content[:place] + bytes([content[place] ^ (1 << random.randrange(8))]) + content[place + 1 :]
        elif kind == "taken out" and place < len(content):
            edited = content[:place] + content[place + 1 :]
        elif kind == "swapped" and place + 1 < len(content) and content[place] != content[place + 1]:
            edited = content[:place] + content[place : place + 2][::-1] + content[place + 2 :]
        else:
            edited = content[:place] + bytes([random.randrange(256)]) + content[place:]
        path.write_bytes(edited)
        # The time is put back, so that no comparison of times can stand for one of bytes.
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        def restore() -> None:
            path.write_bytes(content)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        return path, restore


def edits(count: int, seed: int, part: int = 0, of: int = 1) -> Attack:
    """So many one-byte edits after trust, as one attack; each must be revoked, and taking it back restores trust."""

    def build(scene: Scene) -> Iterator[Command]:
        bundle = foreign_bundle(scene)
        yield scene.predict(bundle, codes=UNTRUSTED)
        yield scene.trust(bundle, codes=DONE)
        for number in range(part, count, of):
            edited, restore = Edit(number, seed).apply(bundle)
            # A config that is no YAML any more is refused before anybody asks who trusts it.
            codes = frozenset({2, 3}) if edited.parent.name == "configs" else UNTRUSTED
            yield scene.predict(bundle, None, "--overwrite", codes=codes)
            restore()
        yield scene.predict(bundle, None, "--overwrite", codes=DONE)

    return Attack(
        f"edit/{part + 1}-of-{of}", f"{len(range(part, count, of))} one-byte edits after trust", build, slow=True
    )
