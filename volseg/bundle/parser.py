"""The door to ``monai.bundle``: build what a config describes, once it may run."""

from __future__ import annotations

import codecs
import re
import sys
import threading
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from volseg.atomic import is_disk_full
from volseg.bundle.checkpoints import damaged_checkpoint
from volseg.bundle.modules import open_modules, own_sources, stand_ins
from volseg.bundle.trust import Verdict, require_trust
from volseg.causes import cause_of, root_of
from volseg.device import choose_device, memory_short
from volseg.errors import BundleError, FileError, VolsegError
from volseg.files import open_plain
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch.nn import Module

    from volseg.bundle.folder import Bundle
    from volseg.bundle.shims import Used
    from volseg.planning.component import ConfigValue

TRAINER = "train#trainer"
SHOWN_CHARACTERS = 200
"""Of what a library says when it can't build a part."""
NAMES_A_FILE = re.compile(r"[/\\]|\.(nii|gz|dcm|nrrd|mha|mhd|img|hdr|npy|npz|pt|csv|json|yaml)\b", re.IGNORECASE)
"""Such a text may quote a patient's file or a place of this machine."""
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./:\\ +,()-]+")


class BundleParser:
    """A bundle's config, ready to build its parts by name.

    The config is read once, judged, and the very same data is built, so that nobody can swap it in between.

    Args:
        bundle: the bundle.
        name: ``train`` or ``inference``.
        overrides: values for keys at the top of the config, put in before anything is built. Texts are taken as they
            are: none is an expression.

    Raises:
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the config is missing or malformed, or names a module that something installed has, too.
    """

    def __init__(self, bundle: Bundle, name: str, overrides: Mapping[str, object]) -> None:
        self.bundle = bundle
        self.name = name
        self.verdict: Verdict = require_trust(bundle)
        if name not in self.verdict.configs:
            bundle.config_path(name)  # says that it is missing
            raise BundleError(
                f"{bundle.root} changed while it was read. Run the command again.", code="changed", path=bundle.root
            )
        self.path = self.verdict.configs[name].path
        if self.verdict.findings:
            _open_scripts(bundle, self.verdict)
        content = deepcopy(self.verdict.configs[name].content)
        self.bridged: tuple[Used, ...] = ()
        if self.verdict.findings:  # our own bundles are of these versions
            from volseg.bundle.shims import SHIMS, bridge, bundled_of, mended_modules

            device = overrides.get("device")
            kind = choose_device(None) if device is None else str(device).partition(":")[0]
            sources = own_sources(self.verdict.files)
            content, self.bridged = bridge(content, name, bundled_of(bundle, content, sources, kind), SHIMS)
            self.bridged += mended_modules(sources, name)
            if name == "train":
                _name_by_convention(content)
        content["bundle_root"] = _literal(str(bundle.root.resolve()))
        for key, value in overrides.items():
            # Whatever a caller passes stands beside what ConfigValue allows: devices, for one.
            content[key] = _literal(value) if isinstance(value, str) else value  # type: ignore[assignment]
        self.device = overrides.get("device", "cpu")
        self._parser = self._parser_of(content)
        self._judged: set[bool] = set()

    def has(self, key: str) -> bool:
        """Whether the config has a part of that id, such as ``train#trainer``."""
        return key in self._parser

    def plain(self, key: str) -> ConfigValue:
        """The part as plain data, not built; None where it is missing."""
        return self._parser.get(key)  # type: ignore[no-any-return]

    def whole(self) -> ConfigValue:
        """The whole config as plain data."""
        return self._parser.get()  # type: ignore[no-any-return]

    def put(self, key: str, value: list[dict[str, Any]] | None) -> None:
        """Replace a part; texts in it are taken as they are. What was built before is built anew."""
        self._parser[key] = value and [{name: _literals(one) for name, one in item.items()} for item in value]

    def build(self, key: str) -> Any:
        """Build a part; what it refers to is built once and shared.

        Raises:
            BundleError: the part is missing or can't be built; its cause is what the library raised.
            VolsegError: volseg's own objects refused, such as the data set that the part reads.
        """
        if not self.has(key):
            raise BundleError(
                f"{self.path} has no {key!r}, which MONAI bundles have by convention. Name the part so in the config.",
                code="missing-part",
                path=self.path,
            )
        self._require_affordable(key)
        if self.verdict.findings:  # another bundle may have been opened since
            open_modules(self.bundle.root.resolve(), own_sources(self.verdict.files))
        try:
            with searched_arrays():
                return self._parser.get_parsed_content(key)
        except Exception as error:
            raise self._refusal(key, error) from error

    def sketch(self, key: str, changes: Mapping[str, ConfigValue] | None = None) -> Module | None:
        """A network without memory for its weights, on torch's meta device; None where the part is no network.

        Args:
            key: the part.
            changes: arguments to describe it with in the place of its own.

        Raises:
            BundleError: it can't be built.
        """
        import torch

        from volseg.networks.cost import on_meta

        try:
            with on_meta():
                config = self._parser_of(deepcopy(self._parser.get()))
                for name, value in (changes or {}).items():
                    config[f"{key}#{name}"] = value
                network = config.get_parsed_content(key)
        except Exception as error:
            raise self._refusal(key, error) from error
        return network if isinstance(network, torch.nn.Module) else None

    def _parser_of(self, content: ConfigValue) -> Any:
        from monai.bundle import ConfigParser

        parser = ConfigParser(content)
        if not self.verdict.findings:  # else modules of the bundle's own may count
            parser.locator = _components(frozenset(name for name in sys.modules if name.startswith("monai")))
        return parser

    def _require_affordable(self, key: str) -> None:
        """Judge the network's size once, and once more before it is trained."""
        training = key == TRAINER
        if self.verdict.findings or training in self._judged or not isinstance(self.plain("network_def"), dict):
            return
        self._judged.add(training)
        from volseg.bundle.cost import require_affordable

        require_affordable(
            lambda: self.sketch("network_def"), self._parser.get(), self.path, str(self.device), training=training
        )

    def _refusal(self, key: str, error: Exception) -> BaseException:
        """The volseg error for an exception raised while a part is built; a third-party config may raise any."""
        cause = root_of(error)
        if isinstance(cause, VolsegError):
            return cause.reworded(cause.message)
        short = memory_short(cause)
        if short is not None:
            return short
        if is_disk_full(cause):
            return cause
        found, place = cause_of(error), _place_of(error, key)
        if found.module:
            from volseg.bundle.packages import how_to_install, package_of

            package = package_of(found.module) or _shown(found.module)
            return BundleError(
                f"{self.path}: {place!r} needs the Python package {package}, which is not installed. "
                f"{how_to_install(found.module)}",
                code="missing-package",
                path=self.path,
            )
        lacking = self._lacking(cause)
        if lacking:
            return BundleError(f"{self.path}: {place!r} reads {lacking}", code="missing-file", path=self.path)
        damaged = damaged_checkpoint(error, self.bundle.root)
        if damaged is not None:
            return damaged
        said = found.clause
        if not found.known:
            text = "" if isinstance(cause, OSError) else _shown(str(cause)).rstrip(".")
            said = f"{type(cause).__name__}: {text}" if text else found.clause
        return BundleError(
            f"{self.path}: {place!r} can't be built: {said}. Repair the config; --debug shows where it fails.",
            code="cannot-build",
            path=self.path,
        )

    def _lacking(self, cause: BaseException) -> str:
        """What a missing file is: one of the bundle by its place in it, any other without its name."""
        if not isinstance(cause, FileNotFoundError):
            return ""
        root = self.bundle.root.resolve()
        named = Path(cause.filename) if isinstance(cause.filename, str) else None
        if named is None or not named.is_relative_to(root):
            return "a file outside of the bundle that doesn't exist. Name a data set with --data."
        return f"{printable(named.relative_to(root).as_posix())[:SHOWN_CHARACTERS]}, which the bundle lacks. Get it whole, with its large files."


@lru_cache(maxsize=1)
def _components(_modules: frozenset[str]) -> Any:
    """MONAI's table of what its modules hold; it takes MONAI longer to make than a small network."""
    from monai.bundle.config_item import ComponentLocator

    return ComponentLocator()


def _name_by_convention(content: dict[str, ConfigValue]) -> None:
    """Give trainer and evaluator at the top of a train config the names that they have by MONAI's convention."""
    for section, part in (("train", "trainer"), ("validate", "evaluator")):
        found = content.setdefault(section, {})
        if isinstance(found, dict) and part not in found and isinstance(content.get(part), dict):
            found[part] = f"@{part}"


def require_weights(path: Path) -> None:
    """Refuse a bundle that was never trained.

    Raises:
        BundleError: its weights are not there, with the code ``no-weights``.
    """
    if not path.exists():
        raise BundleError(
            f"{path} does not exist: the bundle has no weights yet. Train it with volseg train, or get its weights.",
            code="no-weights",
            path=path,
        )


def load_weights(path: Path) -> Any:
    """Load a checkpoint as plain tensors; nothing in the file can run.

    Raises:
        BundleError: there are no weights, or the file is damaged or holds more than tensors.
        FileError: no plain file is in its place, or it can't be opened.
    """
    import torch

    require_weights(path)
    try:
        with open_plain(path) as file:
            if _is_compressed(file):
                raise ValueError("torch.save never compresses")
            file.seek(0)
            with _bounded_unpickling():
                return torch.load(file, map_location="cpu", weights_only=True)
    except (FileError, MemoryError):
        raise
    except Exception as error:
        # The file is a stranger's: bytes that are no checkpoint trip the unpickler in every way that there is.
        raise BundleError(
            f"{path} is damaged or holds more than tensors. Train the bundle or get its weights anew.",
            code="bad-weights",
            path=path,
        ) from error


@contextmanager
def searched_arrays() -> Iterator[None]:
    """Let ``torch.load`` read arrays and numbers of numpy: the file of an architecture search holds some.

    Nothing in such a file can run all the same: they are numbers in a shape.
    """
    import numpy as np
    import torch

    numbers = np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64
    makers = sys.modules[np.empty(0).__reduce__()[0].__module__]  # numpy has moved it, and files name both places
    allowed: list[Any] = [np.ndarray, np.dtype, codecs.encode, *(type(np.dtype(one)) for one in numbers)]
    for place in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(getattr(makers, name), f"{place}.{name}") for name in ("_reconstruct", "scalar")]
    with torch.serialization.safe_globals(allowed):
        yield


@contextmanager
def _bounded_unpickling() -> Iterator[None]:
    """Keep what torch lets a checkpoint call from taking memory that the file has no bytes for.

    ``bytearray`` of a number makes so many zeros, and ``encode`` in hexadecimal doubles at every call.
    """
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = _get_allowed_globals()
    with _unpickling:
        before = {name: allowed[name] for name in _BOUNDED}
        allowed.update(_BOUNDED)
        try:
            yield
        finally:
            allowed.update(before)


def _plain_bytes(text: str, encoding: str) -> bytes:
    """Bytes as older pickles write them."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("no bytes")
    return text.encode("latin1")


def _no_bytes(*_: object) -> None:
    raise ValueError("weights hold no bytes")


_BOUNDED = {"_codecs.encode": _plain_bytes, "builtins.bytearray": _no_bytes}
_unpickling = threading.Lock()


def _is_compressed(file: BinaryIO) -> bool:
    """Whether a zip holds what would unfold to more than the file's own size."""
    import zipfile

    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())


def _open_scripts(bundle: Bundle, verdict: Verdict) -> None:
    """Let a trusted bundle import its own modules, as they were hashed.

    Raises:
        BundleError: its configs name a module that is not the bundle's alone.
    """
    names = stand_ins(verdict.files)
    for name in names:
        named = re.compile(rf"(^|[^\w./@#'\"]){re.escape(name)}(?=$|[\s.,;)])")
        if any(named.search(finding.text) for finding in verdict.findings):
            raise BundleError(
                f"{bundle.root}: its configs name {name}, a module of the bundle, and a package that is installed here "
                "has the same name. Nobody can tell which is meant: rename the one, or uninstall the other.",
                code="stand-in",
                path=bundle.root,
            )
    open_modules(bundle.root.resolve(), own_sources(verdict.files))


def _literal(text: str) -> str:
    """A text that MONAI takes as it is; it would read ``#`` as a path in the config, and ``$@%`` in front."""
    if PLAIN_PATH.fullmatch(text):
        return text
    safe = "".join(c if PLAIN_PATH.fullmatch(c) and c != "\\" else f"\\U{ord(c):08x}" for c in text)
    return f"$'{safe}'"


def _literals(value: Any) -> Any:
    return [_literal(one) for one in value] if isinstance(value, list) else _literal(value)


def _shown(text: str) -> str:
    """The first line of an error message of another library, made printable; empty where it may name a file."""
    line = text.strip().split("\n")[0]
    if NAMES_A_FILE.search(line):
        return ""
    line = printable(line)
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} [...]"


def _place_of(error: BaseException, key: str) -> str:
    """The innermost part of the config that was being built, parts joined by ``#``; ``key`` where nobody knows.

    MONAI resolves parts within each other, each in a call that knows the part's name.
    """
    trace, place = error.__traceback__, key
    while trace is not None:
        name = trace.tb_frame.f_locals.get("id")
        if trace.tb_frame.f_code.co_name == "_resolve_one_item" and isinstance(name, str) and name:
            place = name.replace("::", "#")
        trace = trace.tb_next
    return _shown(place) or key
