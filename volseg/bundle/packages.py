"""The packages that a bundle needs: found in its texts, without running any of it."""

from __future__ import annotations

import ast
import importlib.util
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from volseg.bundle.folder import walk
from volseg.errors import VolsegError
from volseg.files import read_bounded
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from pathlib import Path

    from volseg.bundle.folder import Bundle
    from volseg.planning.component import ConfigValue

ZOO_EXTRA = frozenset({"einops", "itk", "pandas", "pynrrd", "scikit-image", "scikit-learn", "tensorboard"})
"""What ``pip install 'volseg[zoo]'`` brings, as pyproject.toml has it."""
TIED_TO_TORCH = frozenset({"lpips", "timm", "torchvision"})
"""Each version of torchvision wants torch of one or few versions: unbound, pip puts another torch in place."""
PACKAGE_OF = {
    "cc3d": "connected-components-3d", "cv2": "opencv-python-headless", "einops": "einops", "fire": "fire",
    "h5py": "h5py", "ignite": "pytorch-ignite", "itk": "itk", "lmdb": "lmdb", "lpips": "lpips",
    "matplotlib": "matplotlib", "mlflow": "mlflow", "monai": "monai", "nibabel": "nibabel", "nrrd": "pynrrd",
    "numpy": "numpy", "onnx": "onnx", "onnxruntime": "onnxruntime", "openslide": "openslide-python",
    "pandas": "pandas", "PIL": "pillow", "psutil": "psutil", "pydicom": "pydicom", "requests": "requests",
    "scipy": "scipy", "SimpleITK": "SimpleITK", "skimage": "scikit-image", "sklearn": "scikit-learn",
    "tensorboard": "tensorboard", "tensorboardX": "tensorboardX", "tifffile": "tifffile", "timm": "timm",
    "torch": "torch", "torchio": "torchio", "torchvision": "torchvision", "tqdm": "tqdm",
    "transformers": "transformers", "yaml": "PyYAML", "zarr": "zarr",
}  # fmt: skip
"""The package that a module comes from. An unknown name is never turned into a command: somebody else may own it."""
NO_COMMAND = frozenset({"apex", "cucim", "cupy", "tensorrt", "torch_tensorrt", "polygraphy"})
"""Modules of NVIDIA's that depend on the GPU's driver, or whose name on PyPI is another's."""
TARGET_MODULE = {
    "TensorBoardStatsHandler": "tensorboard", "TensorBoardImageHandler": "tensorboard", "MLFlowHandler": "mlflow",
    "ITKReader": "itk", "ITKWriter": "itk", "NrrdReader": "nrrd", "PILReader": "PIL", "PILWriter": "PIL",
    "PerceptualLoss": "lpips", "LMDBDataset": "lmdb", "ZarrAvgMerger": "zarr", 
    "KeepLargestConnectedComponent": "skimage", "KeepLargestConnectedComponentd": "skimage", "SwinUNETR": "einops",
    "TrtHandler": "tensorrt", "trt_compile": "tensorrt",
}  # fmt: skip
"""What MONAI's own classes import only when they are used."""
SCRIPT_BYTES = 2**21
SCRIPTS = 200
"""The Zoo's largest bundle has some twenty."""
MODULE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
LOADED_BY_MONAI = frozenset({"monai", "torch", "numpy", "np"})


Stopped = Literal["predicting", "training", ""]
USES: dict[str, Stopped] = {"inference": "predicting", "train": "training"}
"""What each config is built for."""
ORDER: tuple[Stopped, ...] = ("predicting", "training", "")


@dataclass(frozen=True)
class Need:
    """A package that a bundle needs and that is not installed.

    Args:
        module: the name that is imported, or in the metadata the package's.
        package: its name for pip; None where that is not known for certain.
        place: what needs it, relative to the bundle.
        stops: what can't be done without it; nothing where only the metadata lists it, or a module that no config uses.
    """

    module: str
    package: str | None
    place: str
    stops: Stopped

    def __str__(self) -> str:
        """A sentence: what is missing and how to get it."""
        stopped = f", so {self.stops} can't begin" if self.stops else ""
        name = self.package or self.module
        return f"the Python package {name} is not installed{stopped}. {how_to_install(self.module)}"


def how_to_install(module: str) -> str:
    """A sentence with the command that brings a module, and whether the extra ``zoo`` holds it."""
    package = package_of(module)
    if package is None:
        return "volseg doesn't know where to get it; see the bundle's README."
    if package in TIED_TO_TORCH:
        return f"Install it: pip install {package} torch=={version('torch').partition('+')[0]}, which keeps your torch."
    held = " The extra zoo holds it: pip install 'volseg[zoo]'." if package.lower() in ZOO_EXTRA else ""
    return f"Install it: pip install {package}.{held}"


def package_of(module: str) -> str | None:
    """The package of a module for pip, by its name or the module's; None where it is not known."""
    if module in NO_COMMAND:
        return None
    known = {package.lower(): package for package in PACKAGE_OF.values()}
    return PACKAGE_OF.get(module) or known.get(module.lower().replace("_", "-"))


def missing_packages(bundle: Bundle, configs: Mapping[str, dict[str, ConfigValue]]) -> tuple[Need, ...]:
    """What a bundle needs that is not installed: each module once, what stops predicting first.

    Args:
        bundle: the bundle; its own modules are parsed, not run.
        configs: the configs that volseg builds, and ``metadata``.
    """
    own = parsed(_sources(bundle))
    needs: dict[str, Need] = {}
    reached: dict[str, Stopped] = {}
    for name, stops in USES.items():
        config = configs.get(name, {})
        path = bundle.find_config(name)
        place = path.relative_to(bundle.root).as_posix() if path is not None else name
        for module in _modules_of_config(config):
            if module.partition(".")[0] in _roots(own):
                reached |= dict.fromkeys(_reached(module, own, reached), stops)
            else:
                _add(needs, module, place, stops)
    for file, tree in own.items():
        for module in _imports(tree):
            if module.partition(".")[0] not in _roots(own):
                _add(needs, module, file, reached.get(file, ""))
    for package in _listed(configs.get("metadata", {})):
        if not _has_package(package) and not any(_same(package, need) for need in needs.values()):
            module = next((one for one, known in PACKAGE_OF.items() if known.lower() == package.lower()), package)
            needs[module] = Need(module, package_of(module), "configs/metadata.json", "")
    return tuple(sorted(needs.values(), key=lambda need: (ORDER.index(need.stops), need.module)))


def parsed(sources: Mapping[str, bytes]) -> dict[str, ast.Module]:
    """Python sources by their path, parsed; those that can't be are left out."""
    found: dict[str, ast.Module] = {}
    for path, source in sources.items():
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            found[path] = ast.parse(source)
    return found


def _sources(bundle: Bundle) -> dict[str, bytes]:
    """A bundle's own Python sources by their path relative to it, whether it is trusted or not."""
    found: dict[str, bytes] = {}
    for path in _python_files(bundle):
        with suppress(VolsegError):
            found[path.relative_to(bundle.root).as_posix()] = read_bounded(path, SCRIPT_BYTES, "module of a bundle")
    return found


def _python_files(bundle: Bundle) -> Iterator[Path]:
    folders, count = [bundle.root], 0
    while folders:
        try:
            entries = sorted(folders.pop().iterdir())
        except OSError:
            continue
        for path in entries:
            if path.is_symlink():
                continue
            if path.is_dir() and MODULE_NAME.fullmatch(path.name) and path.name not in ("models", "runs", "eval"):
                folders.append(path)
            elif path.suffix == ".py":
                count += 1
                if count > SCRIPTS:
                    return
                yield path


def _modules_of_config(config: dict[str, ConfigValue]) -> Iterator[str]:
    """The modules that building a config imports: in expressions, by targets, and by what these use."""
    for place, node in walk(config):
        if isinstance(node, dict):
            target = node.get("_target_")
            if isinstance(target, str):
                if DOTTED.fullmatch(target) and not target.startswith("monai."):
                    yield target.rpartition(".")[0]
                yield from _lazily(target.rpartition(".")[2])
        elif isinstance(node, str):
            if place[-1] in ("reader", "writer"):
                yield from _lazily(node)
            if node.startswith("$"):
                yield from _modules_of_expression(node[1:])


def _lazily(name: str) -> Iterator[str]:
    by_lower = {one.lower(): module for one, module in TARGET_MODULE.items()}
    if name.lower() in by_lower:
        yield by_lower[name.lower()]


def _modules_of_expression(text: str) -> Iterator[str]:
    try:
        tree = ast.parse(re.sub(r"[@%][A-Za-z_]\w*(?:(?:#|::)\w+)*", "None", text).strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    yield from _imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield from _lazily(name)


def _imports(tree: ast.Module) -> Iterator[str]:
    """The modules that a syntax tree imports from elsewhere, but for those whose absence it is made to bear."""
    borne = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and node.handlers
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in borne:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _reached(module: str, own: Mapping[str, ast.Module], known: Container[str]) -> set[str]:
    """The files of a bundle that importing one of its modules brings in, relative imports followed."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        parts = waiting.pop().split(".")
        for depth in range(1, len(parts) + 1):
            stem = "/".join(parts[:depth])
            for file in (f"{stem}.py", f"{stem}/__init__.py"):
                if file in own and file not in found and file not in known:
                    found.add(file)
                    waiting += _brought_in(file, own[file])
    return found


def _brought_in(file: str, tree: ast.Module) -> Iterator[str]:
    package = list(PurePosixPath(file).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *(node.module.split(".") if node.module else [])])
            if stem:
                yield stem
            yield from (f"{stem}.{alias.name}".lstrip(".") for alias in node.names)


def _roots(own: Mapping[str, ast.Module]) -> set[str]:
    return {file.partition("/")[0].removesuffix(".py") for file in own}


def _add(needs: dict[str, Need], module: str, place: str, stops: Stopped) -> None:
    top = module.partition(".")[0]
    if top in LOADED_BY_MONAI or not MODULE_NAME.fullmatch(top) or _has_module(top):
        return
    if top not in needs or ORDER.index(stops) < ORDER.index(needs[top].stops):
        needs[top] = Need(top, package_of(top), printable(place), stops)


def _listed(metadata: dict[str, ConfigValue]) -> Iterator[str]:
    """The packages that the metadata lists, required and optional."""
    for key in ("required_packages_version", "optional_packages_version"):
        found = metadata.get(key)
        for package in found if isinstance(found, dict) else ():
            if isinstance(package, str) and DISTRIBUTION.fullmatch(package):
                yield package


def _same(package: str, need: Need) -> bool:
    """Whether the metadata's name is of what something else was found to need; variants end in ``-cu12`` or the like."""
    plain = re.sub(r"-cu\d+x?$", "", package.lower())
    return plain in (need.module.lower(), (need.package or "").lower())


@cache
def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@cache
def _has_package(name: str) -> bool:
    try:
        version(name)
    except (PackageNotFoundError, ValueError):
        return any(known.lower() == name.lower() and _has_module(module) for module, known in PACKAGE_OF.items())
    return True
