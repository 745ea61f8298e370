"""The verbs, each with the keywords of its options."""

from __future__ import annotations

from dataclasses import dataclass

from volseg.api.calling import Keywords, one_path, path_of, two_paths, worded
from volseg.api.forms import evaluate_forms, postprocess_forms, predict_forms
from volseg.bundle.shipped import Shipped, shipped_bundles
from volseg.options import StrPath
from volseg.verbs import check as checking
from volseg.verbs import convert as converting
from volseg.verbs import evaluate as evaluating
from volseg.verbs import export as exporting
from volseg.verbs import plan as planning
from volseg.verbs import postprocess as postprocessing
from volseg.verbs import predict as predicting
from volseg.verbs import train as training
from volseg.verbs import trust as trusting
from volseg.workflows import demo as showing
from volseg.workflows import training as training_workflow
from volseg.workflows import tune as tuning


@dataclass(frozen=True, kw_only=True)
class _Convert(Keywords[converting.ConvertOptions], converting.ConvertOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Check(Keywords[checking.CheckOptions], checking.CheckOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Plan(Keywords[planning.PlanOptions], planning.PlanOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Train(Keywords[training.TrainOptions], training.TrainOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Tune(Keywords[tuning.TuneOptions], tuning.TuneOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Predict(Keywords[predicting.PredictOptions], predicting.PredictOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Postprocess(Keywords[postprocessing.PostprocessOptions], postprocessing.PostprocessOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Evaluate(Keywords[evaluating.EvaluateOptions], evaluating.EvaluateOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Export(Keywords[exporting.ExportOptions], exporting.ExportOptions): ...


@dataclass(frozen=True, kw_only=True)
class _Demo(Keywords[showing.DemoOptions], showing.DemoOptions): ...


convert = two_paths(converting.convert, _Convert)
"""Convert every series under a folder of DICOM to NIfTI."""

check = one_path(checking.check, _Check)
"""Find every fault of a data set or a bundle."""

plan = two_paths(planning.plan, _Plan)
"""Measure a data set, choose how to train on it, and write a complete MONAI bundle."""

train = one_path(training_workflow.train, _Train)
"""Train a bundle's network, or go on where it stopped."""

tune = one_path(tuning.tune, _Tune)
"""Search for settings that train better than a bundle's plan, and write the best."""

predict = predict_forms(predicting.predict, _Predict)
"""Segment images with a trained bundle, which is loaded once."""

postprocess = postprocess_forms(postprocessing.postprocess, _Postprocess)
"""Clean masks: largest component, small pieces, holes."""

evaluate = evaluate_forms(evaluating.evaluate, _Evaluate)
"""Compare masks with reference masks, per case and label."""

export = one_path(exporting.export, _Export)
"""Write a bundle's network as ONNX, TorchScript or TensorRT, each compared with the network."""

demo = one_path(showing.demo, _Demo)
"""Run the whole chain on phantoms that are made as DICOM."""


@worded
def trust(bundle_dir: StrPath, /) -> trusting.Trusted:
    """See what code of its own a bundle would run, and record that it may; see ``volseg.verbs.trust``."""
    return trusting.trust(path_of(bundle_dir, "bundle_dir"))


@worded
def bundles() -> tuple[Shipped, ...]:
    """The bundles that come with volseg, which ``predict`` and ``load`` find by their bare names."""
    return shipped_bundles()
