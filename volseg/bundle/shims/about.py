"""What shims have to know of a bundle, found in its texts."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from volseg.bundle.folder import walk
from volseg.bundle.packages import parsed
from volseg.bundle.shims.components import class_of
from volseg.bundle.shims.numpy_names import NumpyNames, mend_module
from volseg.bundle.shims.shim import Bundled, Used, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volseg.bundle.folder import Bundle
    from volseg.planning.component import ConfigValue

META_DICT = "_meta_dict"


def bundled_of(bundle: Bundle, config: dict[str, ConfigValue], sources: Mapping[str, bytes], device: str) -> Bundled:
    """What is known of a bundle beside one of its configs; its modules are parsed, not run.

    Args:
        bundle: the bundle.
        config: the config that is to be built.
        sources: the bundle's own modules by their path relative to it.
        device: ``cpu`` or ``cuda``.
    """
    nodes = [node for _, node in walk(config)]
    expressions = (node for node in nodes if isinstance(node, str) and node.startswith("$"))
    return Bundled(
        monai=version_of(bundle.metadata.get("monai_version")) if bundle.find_config("metadata") else None,
        device=device,
        reads_meta_dicts=any(META_DICT in text for text in expressions) or _read_meta_dicts(sources),
        reads_lps=any(
            isinstance(node, dict) and class_of(node).startswith("LoadImage") and node.get("affine_lps_to_ras") is False
            for node in nodes
        ),
    )


def mended_modules(sources: Mapping[str, bytes], config: str) -> tuple[Used, ...]:
    """What is told of a bundle's own modules that are read with present names of NumPy.

    Args:
        sources: the modules by their path relative to the bundle.
        config: that may import them.
    """
    mended = tuple(path for path, tree in parsed(sources).items() if mend_module(tree))
    return (Used(NumpyNames().name, config, mended, NumpyNames().sentence),) if mended else ()


def _read_meta_dicts(sources: Mapping[str, bytes]) -> bool:
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and META_DICT in node.value
        for tree in parsed(sources).values()
        for node in ast.walk(tree)
    )
