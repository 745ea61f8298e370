"""volseg: from a folder of DICOM to a trained 3D segmentation model, and masks that open on the right voxels.

Each verb of the command line is one function here, with the same options as keywords::

    volseg.convert("dicom", "dataset", spacing="native")
    volseg.train("bundle", minutes=10)

All names are imported at first use, so that ``import volseg`` is fast.
"""

# Before any other import, even of __future__: it might come from the folder that one stands in.
from volseg import safepath

if safepath.is_command():
    safepath.leave_current_folder()

import importlib
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volseg.api.memory import read, read_mask, resample, write
    from volseg.api.predictor import Predictor, load
    from volseg.api.verbs import (
        bundles,
        check,
        convert,
        demo,
        evaluate,
        export,
        plan,
        postprocess,
        predict,
        train,
        trust,
        tune,
    )
    from volseg.errors import (
        BundleError,
        DataSetError,
        DiskFullError,
        FileError,
        GeometryError,
        InputError,
        OutputExistsError,
        TrustError,
        UsageError,
        VolsegError,
    )
    from volseg.evaluation import Evaluation
    from volseg.grid import Grid
    from volseg.labels import Label, LabelTable
    from volseg.metrics import LabelScore
    from volseg.outcomes import Ledger, Outcome, Status
    from volseg.planning.plan import Plan
    from volseg.progress import Progress
    from volseg.verbs.check import CheckOptions, CheckReport
    from volseg.verbs.convert import ConvertOptions
    from volseg.verbs.evaluate import EvaluateOptions
    from volseg.verbs.export import Exported, ExportOptions
    from volseg.verbs.plan import PlanOptions
    from volseg.verbs.postprocess import PostprocessOptions
    from volseg.verbs.predict import PredictOptions
    from volseg.verbs.train import FoldResult, TrainOptions
    from volseg.volume import Mask, Volume
    from volseg.workflows.demo import DemoOptions
    from volseg.workflows.tune import Tuned, TuneOptions, TuneTrial

__version__ = "0.1.0"


def _silence_monai() -> None:
    """Pass over what MONAI tells in every process, workers too, of a decoder for GPUs that nothing here asks for."""
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader", UserWarning)


_silence_monai()
if safepath.is_command():
    from volseg.localsettings import pass_over_local_settings

    pass_over_local_settings()

__all__ = [
    "BundleError",
    "CheckOptions",
    "CheckReport",
    "ConvertOptions",
    "DataSetError",
    "DemoOptions",
    "DiskFullError",
    "EvaluateOptions",
    "Evaluation",
    "ExportOptions",
    "Exported",
    "FileError",
    "FoldResult",
    "GeometryError",
    "Grid",
    "InputError",
    "Label",
    "LabelScore",
    "LabelTable",
    "Ledger",
    "Mask",
    "Outcome",
    "OutputExistsError",
    "Plan",
    "PlanOptions",
    "PostprocessOptions",
    "PredictOptions",
    "Predictor",
    "Progress",
    "Status",
    "TrainOptions",
    "TrustError",
    "TuneOptions",
    "TuneTrial",
    "Tuned",
    "UsageError",
    "VolsegError",
    "Volume",
    "bundles",
    "check",
    "convert",
    "demo",
    "evaluate",
    "export",
    "load",
    "plan",
    "postprocess",
    "predict",
    "read",
    "read_mask",
    "resample",
    "train",
    "trust",
    "tune",
    "write",
]

_ROOMS = {
    "api.memory": "read read_mask resample write",
    "api.predictor": "Predictor load",
    "errors": "BundleError DataSetError DiskFullError FileError GeometryError InputError OutputExistsError TrustError "
    "UsageError VolsegError",
    "evaluation": "Evaluation",
    "grid": "Grid",
    "labels": "Label LabelTable",
    "metrics": "LabelScore",
    "outcomes": "Ledger Outcome Status",
    "planning.plan": "Plan",
    "progress": "Progress",
    "verbs.check": "CheckOptions CheckReport",
    "verbs.convert": "ConvertOptions",
    "verbs.evaluate": "EvaluateOptions",
    "verbs.export": "Exported ExportOptions",
    "verbs.plan": "PlanOptions",
    "verbs.postprocess": "PostprocessOptions",
    "verbs.predict": "PredictOptions",
    "verbs.train": "FoldResult TrainOptions",
    "volume": "Mask Volume",
    "workflows.demo": "DemoOptions",
    "workflows.tune": "TuneOptions TuneTrial Tuned",
}
"""Where a name comes from; what stands nowhere here is a verb."""


if not TYPE_CHECKING:  # or a slip in a name would pass for an attribute

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'volseg' has no attribute {name!r}")
        room = next((room for room, names in _ROOMS.items() if name in names.split()), "api.verbs")
        found: object = getattr(importlib.import_module(f"volseg.{room}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
