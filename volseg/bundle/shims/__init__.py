"""Named shims that bridge what MONAI, NumPy and torch have changed since a bundle was written.

A shim changes plain config data before anything is built: it says the same to today's libraries that the text said to
those of the bundle's day. It never changes what a network computes; where that can't be had, there is no shim and the
config is refused with its cause. Whoever builds a config tells each shim that was used.
"""

from volseg.bundle.shims.about import bundled_of, mended_modules
from volseg.bundle.shims.components import COMPONENT_SHIMS
from volseg.bundle.shims.devices import GpuByName
from volseg.bundle.shims.numpy_names import NumpyNames, mend_module
from volseg.bundle.shims.shim import Bundled, Shim, Used, bridge

SHIMS: tuple[Shim, ...] = (*COMPONENT_SHIMS, NumpyNames(), GpuByName())
"""All of them; each is asked about every node of a config."""

__all__ = ["SHIMS", "Bundled", "Shim", "Used", "bridge", "bundled_of", "mend_module", "mended_modules"]
