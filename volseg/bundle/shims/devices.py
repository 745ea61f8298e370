"""The shim for a GPU that a config names although the machine has none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volseg.bundle.shims.shim import Bundled
    from volseg.planning.component import ConfigValue

NAMED = re.compile(r"""torch\.device\(\s*(["'])cuda(?::\d+)?\1\s*\)""")
PLAIN = re.compile(r"cuda(:\d+)?")


@dataclass(frozen=True)
class GpuByName:
    """``torch.device('cuda')`` in an expression that doesn't ask whether there is one, on a machine without."""

    name: str = "gpu-by-name"
    sentence: str = "the config names a GPU and the work is done on the processor, which takes its place"

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a text names a GPU unconditionally."""
        if bundled.device != "cpu" or not isinstance(node, str):
            return False
        if node.startswith("$"):
            return "is_available" not in node and NAMED.search(node) is not None
        return PLAIN.fullmatch(node) is not None

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The text with the processor in the GPU's place."""
        assert isinstance(node, str)
        return NAMED.sub("torch.device('cpu')", node) if node.startswith("$") else "cpu"
