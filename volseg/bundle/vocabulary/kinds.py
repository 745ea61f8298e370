"""The kinds of values that a config may use without being trusted, and the expressions among them.

Numbers have bounds, far beyond what anybody trains and far below what stops a machine.
"""

from __future__ import annotations

import re

from volseg.bundle.grammar import Exactly, Expression, Flag, Form, Kind, Real, Size, Text, Whole

ONE_FILE = "$[{'image': i} for i in @datalist]"
"""The expression that makes a case of each image."""

_CHANNEL_FILES = "$[{'image': [f[:-12] + '_%04d.nii.gz' % c for c in range(COUNT)]} for f in @datalist if f.endswith('_0000.nii.gz')]"
CHANNEL_FILES = re.compile(re.escape(_CHANNEL_FILES).replace("COUNT", "[1-9][0-9]?"))
"""The expression that gathers the channel files of each case; only the count of channels varies."""


def channel_files(count: int) -> str:
    """The expression for so many channels, each a file of its own."""
    return _CHANNEL_FILES.replace("COUNT", str(count))


IMPORTS = frozenset({"$import copy", "$import glob", "$import torch"})

COPIED_NETWORK = "$copy.deepcopy(@network_def).to(@device)"
"""The expression for each network of an ensemble."""

_FOLD_WEIGHTS = "$@bundle_root + '/models/folds/fold_FOLD.pt'"
FOLD_WEIGHTS = re.compile(re.escape(_FOLD_WEIGHTS).replace("FOLD", "[0-9]{1,2}"))
"""The expression for the weights of a network of an ensemble; only the fold varies."""


def fold_weights(fold: int) -> str:
    """The expression for the weights of that fold in an ensemble."""
    return _FOLD_WEIGHTS.replace("FOLD", str(fold))


CLASSES = 65536
"""Labels are of 16 bits, and 0 is the background."""
WINDOW_VOXELS = 2**27
"""Of a patch or window: 512 in each direction."""


def _values(*forms: Form | str | bool | None) -> Kind:
    return Kind(tuple(Exactly(form) if form is None or isinstance(form, (str, bool)) else form for form in forms))


def _one_or_more(kind: str, most: int, *forms: Form | str | bool | None) -> Kind:
    """Such values alone, or in a list, or in lists of lists."""
    return Kind(_values(*forms).values, items=kind, most=most)


def _word(pattern: str, words: str) -> Text:
    return Text(re.compile(pattern), words)


KINDS: dict[str, Kind] = {
    # Plain values.
    "flag": _values(Flag()),
    "flag?": _values(Flag(), None),
    "null": _values(None),
    "path": _values(Text()),
    "name": _values(_word(r"[A-Za-z][A-Za-z0-9_]{0,60}", "a name")),
    "names": _one_or_more("name", 32, _word(r"[A-Za-z][A-Za-z0-9_]{0,60}", "a name")),
    "word": _values(_word(r"[A-Za-z_]{1,40}", "a word")),
    "words": _one_or_more("word", 8, _word(r"[A-Za-z_]{1,40}", "a word")),
    "word?": _values(_word(r"[A-Za-z_]{1,40}", "a word"), None),
    "axcodes": _values(_word(r"[RLAPSI]{3}", "three letters for the axes")),
    "dtype": _values("uint8", "uint16"),
    "share": _values(Real(0, 1)),
    "share?": _values(Real(0, 1), None),
    "real": _values(Real(-1e12, 1e12)),
    "reals": _one_or_more("reals", 1000, Real(-1e12, 1e12), None),
    "sigmas": _one_or_more("sigmas", 2, Real(0, 20)),
    "zooms": _one_or_more("zooms", 2, Real(0.1, 10)),
    "lowered": _one_or_more("lowered", 2, Real(0.1, 1)),
    "margin": _one_or_more("margin", 3, Whole(0, 512)),
    "sampling": _values("nearest", "nearest-exact", "trilinear"),
    "spacing": _one_or_more("spacing", 3, Real(1e-6, 1e4)),
    "axes": _one_or_more("axes", 3, Whole(0, 2), None),
    "labels": _one_or_more("labels", CLASSES, Whole(0, CLASSES - 1), None),
    "regions": Kind(items="labels", most=32),
    "label": _values(Whole(0, CLASSES - 1)),
    "label?": _values(Whole(0, CLASSES - 1), None),
    "connectivity": _values(Whole(1, 3), None),
    "size": _values(Size(WINDOW_VOXELS)),
    "classes": _values(Whole(1, CLASSES)),
    "classes?": _values(Whole(1, CLASSES), None),
    "class_samples": _values(Whole(1, 10**6), None),
    "patches": _values(Whole(1, 64)),
    "cached": _values(Whole(0, 10**6)),
    "part": _values("training", "validation"),
    # Of networks.
    "three": _values(Whole(3, 3)),
    "inputs": _values(Whole(1, 256)),
    "features": _one_or_more("features", 12, Whole(1, 10**4)),
    "kernels": _one_or_more("kernels", 12, Whole(1, 15)),
    "strides": _one_or_more("strides", 12, Whole(1, 16)),
    "units": _values(Whole(0, 8)),
    "heads": _values(Whole(1, 11)),
    "blocks": _one_or_more("blocks", 12, Whole(1, 32)),
    "width": _values(Whole(1, 10**4)),
    "rates": _one_or_more("rates", 8, Whole(1, 512)),
    "dropouts": _one_or_more("dropouts", 2, Real(0, 1), None),
    "norm": Kind(_values(_word(r"[A-Z]{1,20}", "a norm")).values, items="norm_part", most=2),
    "norm_part": Kind(_values(_word(r"[A-Z]{1,20}", "a norm")).values, entries={"num_groups": "width", "*": "null"}),
    "weight_names": _one_or_more("weight_names", 16, _word(r"[A-Za-z0-9_.]{1,60}", "a part of a weight's name")),
    # Of windows.
    "windows": _values(Whole(1, 64)),
    "overlap": _one_or_more("overlap", 3, Real(0, 0.9)),
    "sigma_scale": _values(Real(0.01, 1)),
    # Of training; keys at the top of a config are of these kinds, so that others can refer to them.
    "batch": _values(Whole(1, 512)),
    "steps": _values(Whole(1, 10**6)),
    "draws": _values(Whole(1, 10**8), "$@batch_size * @steps_per_epoch"),
    "epochs": _values(Whole(1, 10**9)),
    "minutes": _values(Real(0, 10**7), None),
    "workers": _values(Whole(0, 32)),
    "seed": _values(Whole(0, 2**32 - 1)),
    "rate": _values(Real(0, 100)),
    "power": _values(Real(0, 100)),
    "curve": _values("polynomial", "cosine", "one-cycle"),
    "weight": _values(Real(0, 10**4)),
    "weights": Kind(items="weight", most=8),
    "erosions": _values(Whole(0, 20)),
    "fold": _values(Whole(0, 999), None),
    "device": _values(
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')", _word(r"cpu|cuda(:[0-9]{1,2})?", "cpu or cuda")
    ),
    # A reader or writer is a class by its name; these are the ones that volseg plan writes.
    "reader": _values("NibabelReader"),
    "writer": _values("NibabelWriter"),
    # Where it writes and under which names, a stranger doesn't choose.
    "output_dir": _values("$@bundle_root + '/eval'"),
    "to_output_dir": _values("@output_dir"),
    "no_postfix": _values(""),
    "nifti": _values(".nii.gz"),
    "false": _values(False),
    "model_path": _values("$@bundle_root + '/models/model.pt'"),
    # The data set that volseg has checked is the one that is read.
    "to_dataset_dir": _values("@dataset_dir"),
    "to_record": _values("@cases_record"),
    "datalist": _values("$sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz'))"),
    "items": _values(ONE_FILE, Expression(CHANNEL_FILES, "the files of the channels")),
    "imports": Kind(items="import", most=8),
    "import": _values(*sorted(IMPORTS)),
    "run": Kind(items="call", most=8),
    "call": _values("$@evaluator.run()", "$@train#trainer.run()", "$@validate#evaluator.run()"),
    # Parts; their targets are in ``volseg.bundle.vocabulary.targets``.
    "network_def": Kind(),
    "network": _values("$@network_def.to(@device)"),
    "loaded": Kind(entries={"model": "loaded_network"}),
    "loaded_network": Kind(
        _values(Expression(re.compile(r"@networks#[0-9]{1,2}"), "a network")).values, also=("network",)
    ),
    # Of ensembles.
    "folds": Kind(items="fold_network", most=32),
    "fold_network": _values(COPIED_NETWORK),
    "load_path": _values("$@bundle_root + '/models/model.pt'", Expression(FOLD_WEIGHTS, "weights of a fold")),
    "fold_outputs": Kind(_values(_word(r"pred_[0-9]{1,2}", "an output")).values, items="fold_output", most=32),
    "fold_output": _values(_word(r"pred_[0-9]{1,2}", "an output")),
    "parameters": _values("$@network_def.parameters()"),
    "transform": Kind(),
    "transforms": Kind(items="transform", most=200),
    "all_transforms": Kind(
        _values("$@train#deterministic_transforms + @train#random_transforms").values,
        items="transform",
        most=200,
        also=("transforms",),
    ),
    "preprocessing": Kind(),
    "postprocessing": Kind(),
    # volseg leaves the step that saves out and writes masks itself; it may stand here alone.
    "saving_postprocessing": Kind(),
    "saving_transforms": Kind(items="saving_transform", most=200),
    "saving_transform": Kind(),
    "after": Kind(also=("postprocessing", "saving_postprocessing")),
    "dataset": Kind(),
    "sampler": Kind(),
    "loader": Kind(),
    "loss": Kind(),
    "losses": Kind(items="loss", most=8),
    "optimizer": Kind(),
    "inferer": Kind(),
    "budget": Kind(),
    "average": Kind(),
    "handler": Kind(),
    "handlers": Kind(items="handler", most=32),
    "inference_handler": Kind(),
    "inference_handlers": Kind(items="inference_handler", most=32),
    "any_handlers": Kind(items="handler", most=32, also=("handlers", "inference_handlers")),
    "metric": Kind(),
    "metrics": Kind(entries={"*": "metric"}),
    "from_engine": Kind(),
    "trainer": Kind(),
    "evaluator": Kind(),
}
