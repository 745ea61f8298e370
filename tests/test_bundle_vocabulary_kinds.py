"""The kinds of values that need no trust: their bounds, and expressions that can't be turned into other code."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.grammar import SPECIAL, Exactly
from volseg.bundle.lint import lint_config
from volseg.bundle.vocabulary import (
    CHANNEL_FILES,
    FOLD_WEIGHTS,
    IMPORTS,
    KEYS,
    KINDS,
    ONE_FILE,
    channel_files,
    fold_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS: dict[str, tuple[list[Any], list[Any]]] = {
    "batch": ([1, 512], [0, 513, 1.0, True, "2"]),
    "steps": ([1, 10**6], [0, 10**6 + 1]),
    "draws": ([1, 10**8, "$@batch_size * @steps_per_epoch"], [0, 10**8 + 1, "$@batch_size * 10**9"]),
    "epochs": ([1, 10**9], [0, 10**9 + 1, 1.5]),
    "minutes": ([0, 0.5, 10**7, None], [-1, 1e8, float("inf"), float("nan")]),
    "workers": ([0, 32], [-1, 33]),
    "seed": ([0, 2**32 - 1], [-1, 2**32]),
    "rate": ([0, 0.01, 100], [-0.1, 101]),
    "fold": ([None, 0, 999], [-1, 1000]),
    "label": ([0, 65535], [-1, 65536, None]),
    "labels": ([None, 3, [1, 2], [[1], 2]], [-1, 65536, [1, "a"]]),
    "classes": ([1, 65536], [0, 65537]),
    "patches": ([1, 64], [0, 65]),
    "windows": ([1, 64], [0, 65]),
    "inputs": ([1, 256], [0, 257]),
    "features": ([4, [8] * 12], [0, 10**4 + 1, [8] * 13]),
    "strides": ([2, [[1, 2, 2], [2, 2, 2]]], [0, 17, [[2, 2, 17]]]),
    "rates": ([1, [1, 512]], [0, 513, [1] * 9]),
    "size": ([[512, 512, 512], [2**27, 1, 1]], [[512, 512, 513], [0, 1, 1], [8, 8], 8]),
    "overlap": ([0, 0.9, [0.5, 0.5, 0.25]], [0.91, -0.1, [0.5] * 4]),
    "margin": ([0, 512, [1, 2, 3]], [-1, 513, [1] * 4]),
    "spacing": ([0.5, [1e-6, 1, 1e4]], [0, 1e5, [1] * 4]),
    "device": (["cpu", "cuda", "cuda:12"], ["cpu:0", "cuda:123", "meta", "$torch.device('cpu')"]),
    "reader": (["NibabelReader"], ["NumpyReader", "scripts.evil.Reader", None, ["NibabelReader"]]),
    "writer": (["NibabelWriter"], ["ITKWriter", None]),
    "output_dir": (["$@bundle_root + '/eval'"], ["/etc", "$@bundle_root + '/../x'", "."]),
    "model_path": (["$@bundle_root + '/models/model.pt'"], ["model.pt", "$@bundle_root + '/models/../x.pt'"]),
    "load_path": (
        ["$@bundle_root + '/models/folds/fold_12.pt'"],
        ["$@bundle_root + '/models/folds/fold_x.pt'", "x.pt"],
    ),
    "dtype": (["uint8", "uint16"], ["float32", "object", None]),
    "name": (["image", "pred_0"], ["", "0image", "image#0", "a" * 62]),
    "false": ([False], [True, 0, None]),
}
"""Values at the bounds of a kind, and what lies just beyond or is of another type."""


@pytest.mark.parametrize("kind", BOUNDS)
def test_what_lies_beyond_the_bounds_needs_trust(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEYS, "probe", {"it": kind, "network_def": "network_def"})
    taken, others = BOUNDS[kind]
    for value in taken:
        assert lint_config("probe", {"it": value}) == (), value
    for value in others:
        # Nothing at all is no value: a key without one is as if it wasn't there.
        assert value is None or lint_config("probe", {"it": value}) != (), value
        assert not any(form.takes(value) for form in KINDS[kind].values), value


EXPRESSIONS = sorted(
    {
        form.value
        for kind in KINDS.values()
        for form in kind.values
        if isinstance(form, Exactly) and isinstance(form.value, str) and form.value.startswith("$")
    }
    - IMPORTS
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_one_python_expression_of_few_words(expression: str) -> None:
    tree = ast.parse(expression[1:].replace("@", "").replace("#", "_"), mode="eval")
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called <= {
        "torch.device", "torch.cuda.is_available", "network_def.to", "network_def.parameters", "sorted", "glob.glob",
        "evaluator.run", "train_trainer.run", "validate_evaluator.run", "copy.deepcopy", "copy.deepcopy(network_def).to",
    }  # fmt: skip
    assert "__" not in expression


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_speaks_of_keys_that_have_a_kind(expression: str) -> None:
    for key in re.findall(r"@([A-Za-z0-9_#]+)", expression):
        assert any(key in keys for keys in KEYS.values()), key


def test_texts_never_begin_with_what_monai_reads() -> None:
    for kind in KINDS.values():
        for form in kind.values:
            if not isinstance(form, Exactly) and not form.words.startswith(("the files of", "weights of", "a network")):
                assert not any(form.takes(f"{blank}{sign}x") for sign in SPECIAL for blank in ("", " ", "\n"))


def test_imports_are_modules_under_their_own_names() -> None:
    assert {"$import copy", "$import glob", "$import torch"} == IMPORTS


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("range(3)", "range(__import__('os').system('x'))"),
        lambda text: text.replace("range(3)", "range(0)"),
        lambda text: text.replace("range(3)", "range(100)"),
        lambda text: text + " ",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("@datalist", "@other"),
    ],
)
def test_in_the_expression_of_channel_files_only_the_count_varies(change: Callable[[str], str]) -> None:
    text = "$[{'image': [f[:-12] + '_%04d.nii.gz' % c for c in range(3)]} for f in @datalist if f.endswith('_0000.nii.gz')]"
    assert CHANNEL_FILES.fullmatch(text)
    assert CHANNEL_FILES.fullmatch(text.replace("3", "12"))
    assert not CHANNEL_FILES.fullmatch(change(text))


@pytest.mark.parametrize("count", [1, 2, 99])
def test_channel_files_are_gathered_for_each_case(count: int) -> None:
    text = channel_files(count)
    assert CHANNEL_FILES.fullmatch(text)
    names = {"datalist": ["/d/a_0000.nii.gz", "/d/a_0001.nii.gz", "/d/b_0000.nii.gz"]}
    cases = eval(text[1:].replace("@", ""), {}, names)
    assert cases == [{"image": [f"/d/{case}_{channel:04d}.nii.gz" for channel in range(count)]} for case in "ab"]


def test_more_channels_than_anybody_has_need_trust() -> None:
    assert not CHANNEL_FILES.fullmatch(channel_files(100))
    assert not CHANNEL_FILES.fullmatch(channel_files(0))


def test_an_image_of_its_own_is_a_case_each() -> None:
    assert eval(ONE_FILE[1:].replace("@", ""), {}, {"datalist": ["a", "b"]}) == [{"image": "a"}, {"image": "b"}]


@pytest.mark.parametrize("fold", [0, 7, 99])
def test_weights_of_a_fold_lie_in_the_bundle(fold: int) -> None:
    assert FOLD_WEIGHTS.fullmatch(fold_weights(fold))
    assert eval(fold_weights(fold)[1:].replace("@", ""), {}, {"bundle_root": "b"}) == f"b/models/folds/fold_{fold}.pt"


@pytest.mark.parametrize("fold", ["0/../../x", "", "100", "1'+x+'", "1\n"])
def test_other_weights_than_a_fold_s_need_trust(fold: str) -> None:
    assert not FOLD_WEIGHTS.fullmatch(fold_weights(0).replace("_0", f"_{fold}"))
