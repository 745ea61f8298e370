"""The door to ``monai.bundle``: build what a config describes, once it may run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from volseg.bundle.trust import Verdict, require_trust
from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from volseg.bundle.folder import Bundle, ConfigValue


class BundleParser:
    """A bundle's config, ready to build its parts by name.

    The config is read once, judged, and the very same data is built, so that nobody can swap it in between.

    Args:
        bundle: the bundle.
        name: ``train`` or ``inference``.
        overrides: values for keys at the top of the config, put in before anything is built.

    Raises:
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the config is missing or malformed.
    """

    def __init__(self, bundle: Bundle, name: str, overrides: Mapping[str, object]) -> None:
        self.bundle = bundle
        self.name = name
        self.verdict: Verdict = require_trust(bundle)
        content = bundle.read_config(name)
        if self.verdict.findings:
            _open_scripts(bundle)
        elif _judge_again(name, content):
            raise BundleError(f"{bundle.root} changed while it was read. Run the command again.")
        from monai.bundle import ConfigParser

        content["bundle_root"] = str(bundle.root.resolve())
        self._parser = ConfigParser(content)
        self.config = content
        for key, value in overrides.items():
            self._parser[key] = value

    def has(self, key: str) -> bool:
        """Whether the config has a part of that id, such as ``train#trainer``."""
        return key in self._parser

    def plain(self, key: str) -> ConfigValue:
        """The part as plain data, not built; None where it is missing."""
        return self._parser.get(key)  # type: ignore[no-any-return]

    def build(self, key: str) -> Any:
        """Build a part; what it refers to is built once and shared.

        Raises:
            BundleError: the part is missing or can't be built.
        """
        if not self.has(key):
            raise BundleError(
                f"{self.bundle.config_path(self.name)} has no {key!r}, which MONAI bundles have by convention. "
                "Name the part so in the config.",
                code="missing-part",
            )
        try:
            return self._parser.get_parsed_content(key)
        except (BundleError, KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:
            cause = _root_cause(error)
            if isinstance(cause, BundleError):
                raise cause from error
            raise BundleError(
                f"{self.bundle.config_path(self.name)}: {key!r} can't be built: {type(cause).__name__}: {cause}",
                code="cannot-build",
            ) from error


def load_weights(path: Path) -> Any:
    """Load a checkpoint as plain tensors; nothing in the file can run.

    Raises:
        BundleError: there are no weights, or the file is damaged or holds more than tensors.
    """
    import pickle

    import torch

    if not path.is_file():
        raise BundleError(
            f"{path} does not exist: the bundle has no weights yet. Train it with volseg train, or get its weights.",
            code="no-weights",
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        raise BundleError(
            f"{path} is damaged or holds more than tensors. Train the bundle or get its weights anew.",
            code="bad-weights",
        ) from error


def _judge_again(name: str, content: ConfigValue) -> bool:
    from volseg.bundle.lint import lint_config

    return bool(lint_config(name, content))


def _open_scripts(bundle: Bundle) -> None:
    """Let a trusted bundle import its own modules, without leaving byte code that would change its tree."""
    sys.dont_write_bytecode = True
    if str(bundle.root) not in sys.path:
        sys.path.insert(0, str(bundle.root))


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
