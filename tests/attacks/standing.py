"""Code in the folder that one stands in. Each runs a process of its own, as a shell starts it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.attacks.attack import Attacks
from tests.attacks.dicom import write_series
from tests.attacks.scene import Command, Scene

STANDING = Attacks("standing")

MODULES = (
    "multiprocessing", "volseg", "numpy", "torch", "monai", "nibabel", "pydicom", "SimpleITK", "scipy", "skimage", "yaml",
    "pandas", "matplotlib", "sitecustomize", "usercustomize", "pickle", "json", "gzip", "isal", "xxhash", "cc3d", "rich",
    "cyclopts", "pydantic", "ignite", "einops", "gdcm", "openjpeg", "jpeg_ls", "pylibjpeg", "tempfile", "concurrent",
    "importlib_metadata", "ssl", "secrets", "hashlib", "logging", "signal", "zipfile", "lzma", "bz2", "ctypes", "itk",
    "tensorboard", "fire", "encodings", "highdicom", "_bootlocale", "readline", "antigravity", "apport_python_hook", "mlflow",
)  # fmt: skip
# With an empty entry in PYTHONPATH, Python finds even its own start-up modules in the current folder before volseg can
# do anything about it; what volseg imports afterwards may not come from there.
LATER = tuple(name for name in MODULES if name not in (
    "volseg", "sitecustomize", "usercustomize", "_bootlocale", "apport_python_hook", "encodings"))  # fmt: skip


def plant(folder: Path, scene: Scene, names: tuple[str, ...] = MODULES) -> None:
    """Put modules into a folder that wake the canary when they are imported."""
    for name in names:
        (folder / f"{name}.py").write_text(scene.module)
    for name in ("numpy", "encodings", "multiprocessing", "concurrent", "scripts"):
        if name in (*names, "scripts"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "__init__.py").write_text(scene.module)


def _in_data(
    verb: str, *program: str, names: tuple[str, ...] = MODULES, **environment: str
) -> Callable[[Scene], Command]:
    def build(scene: Scene) -> Command:
        data = scene.data()
        (data / "masks").mkdir()
        for path in (data / "labelsTr").iterdir():
            shutil.copy(path, data / "masks")
        bundle = scene.bundle()
        write_series(data / "dicom", "rle" if verb == "convert-compressed" else "plain")
        plant(data, scene, names)
        here = Path()
        commands: dict[str, Callable[[], Command]] = {
            "convert": lambda: scene.convert(here),
            "convert-compressed": lambda: scene.convert(here, "--jobs", "2"),
            "check": lambda: scene.check(here, folder=data),
            "check-jobs": lambda: scene.volseg("check", here, "--jobs", "2"),
            "check-bundle": lambda: scene.check(bundle),
            "evaluate": lambda: scene.evaluate(Path("masks"), here, "--jobs", "2"),
            "postprocess": lambda: scene.postprocess(Path("masks"), "--fill-holes", "all", "--jobs", "2"),
            "plan": lambda: scene.plan(here),
            "predict": lambda: scene.predict(bundle, Path("imagesTr")),
            "predict-dicom": lambda: scene.predict(bundle, Path("dicom")),
            "train": lambda: scene.train(bundle, "--data", here),
            "trust": lambda: scene.trust(bundle),
            "help": lambda: scene.volseg("--help"),
            "bare": lambda: scene.volseg(),
        }
        command = commands[verb]()
        return scene.fresh(
            Command(command.arguments, data, command.writes, environment=tuple(environment.items())), *program
        )

    return build


for _verb in ("convert", "convert-compressed", "check", "check-jobs", "check-bundle", "evaluate", "postprocess", "plan",
              "predict", "predict-dicom", "train", "trust", "help"):  # fmt: skip
    STANDING.add(
        _verb, f"modules under the names of libraries in the folder where {_verb} is called", _in_data(_verb), slow=True
    )

for _verb in ("convert", "check-jobs", "evaluate", "predict"):
    STANDING.add(
        f"empty-pythonpath-{_verb}", "the same with an empty entry in PYTHONPATH, but for what Python imports by itself",
        _in_data(_verb, sys.executable, str(Path(sys.executable).with_name("volseg")), names=LATER,
                 PYTHONPATH=f":{os.sep}nowhere"), slow=True,
    )  # fmt: skip
    # As ``python -m`` finds the package itself by the same path, volseg.py is left out.
    STANDING.add(
        f"python-m-{_verb}", "the same as python -m volseg, but for what Python imports by itself",
        _in_data(_verb, sys.executable, "-m", "volseg", names=LATER), slow=True,
    )  # fmt: skip


@STANDING("in-the-bundle", "modules in the bundle, where the person stands", slow=True)
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    plant(bundle, scene)
    scene.data()
    return [
        scene.fresh(scene.predict(Path(), scene.image(), folder=bundle)),
        scene.fresh(scene.check(Path(), folder=bundle)),
    ]


@STANDING("workers-of-the-loader", "modules where a bundle asks for worker processes that load its data", slow=True)
def _(scene: Scene) -> list[Command]:
    data = scene.data()
    bundle = scene.bundle(train={"num_workers": 2})
    plant(data, scene)
    return [scene.fresh(scene.train(bundle, "--data", data, folder=data))]


@STANDING("settings", "settings of other programs in the folder one stands in", slow=True)
def _(scene: Scene) -> list[Command]:
    data = scene.data()
    bundle = scene.bundle()
    (data / "matplotlibrc").write_text("backend: module://evil\nagg.path.chunksize: 0\nfont.family: evil\n")
    (data / "evil.py").write_text(scene.module)
    (data / "dask.yaml").write_text(f"a: !!python/object/apply:os.system [{scene.shell!r}]\n")
    (data / "evil.pth").write_text(f"import os; {scene.marker}\n")
    (data / "python311._pth").write_text(".\nimport site\n")
    (data / "pyvenv.cfg").write_text("home = .\ninclude-system-site-packages = true\n")
    (data / "setup.cfg").write_text("[options]\n")
    (data / "conftest.py").write_text(scene.module)
    for library in ("libgomp.so.1", "libtorch.so", "libc10.so", "libjpeg.so", "libgdcmMSFF.so"):
        (data / library).write_bytes(b"\x7fELF" + bytes(60))
    return [
        scene.fresh(scene.train(bundle, "--data", data, folder=data)),
        scene.fresh(scene.convert(data, folder=data)),
    ]


@STANDING("git", "a repository whose settings name programs that git runs", slow=True)
def _(scene: Scene) -> list[Command]:
    data = scene.data()
    bundle = scene.bundle()
    for folder in (data, bundle, scene.work):
        git = folder / ".git"
        (git / "hooks").mkdir(parents=True)
        (git / "objects").mkdir()
        (git / "refs").mkdir()
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        (git / "config").write_text(
            f"[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {scene.shell}; false\n\tpager = {scene.shell}\n"
        )
        for hook in ("post-checkout", "pre-commit", "post-index-change"):
            (git / "hooks" / hook).write_text(f"#!/bin/sh\n{scene.shell}\n")
            (git / "hooks" / hook).chmod(0o755)
    return [scene.fresh(scene.train(bundle, "--data", data, folder=data))]


@STANDING("programs", "programs in the folder one stands in", slow=True)
def _(scene: Scene) -> list[Command]:
    data = scene.data()
    bundle = scene.bundle()
    for name in ("git", "nvidia-smi", "lscpu", "uname", "gcc", "cc", "c++", "ldconfig", "python", "python3", "dcm2niix",
                 "fc-list", "sh", "ninja", "which", "dot"):  # fmt: skip
        (data / name).write_text(f"#!/bin/sh\n{scene.shell}\n")
        (data / name).chmod(0o755)
    return [
        scene.fresh(scene.train(bundle, "--data", data, folder=data)),
        scene.fresh(scene.predict(bundle, data / "imagesTr", folder=data)),
    ]
