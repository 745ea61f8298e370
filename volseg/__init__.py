"""volseg: from a folder of DICOM to a trained 3D segmentation model, and masks that open on the right voxels.

Each verb of the command line is one function here. They are imported at first use, so that ``import volseg`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volseg.verbs.check import check
    from volseg.verbs.convert import convert
    from volseg.verbs.evaluate import evaluate
    from volseg.verbs.plan import plan
    from volseg.verbs.postprocess import postprocess
    from volseg.verbs.predict import predict
    from volseg.verbs.train import train
    from volseg.verbs.trust import trust
    from volseg.workflows.demo import demo

__version__ = "0.1.0"

__all__ = ["check", "convert", "demo", "evaluate", "plan", "postprocess", "predict", "train", "trust"]


def __getattr__(name: str) -> object:
    if name in __all__:
        room = "workflows" if name == "demo" else "verbs"
        return getattr(importlib.import_module(f"volseg.{room}.{name}"), name)
    raise AttributeError(f"module 'volseg' has no attribute {name!r}")
