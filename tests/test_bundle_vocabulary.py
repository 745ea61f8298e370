"""The vocabulary: every word exists, takes its arguments, and can't be turned into code."""

from __future__ import annotations

import ast
import inspect
import re
from pydoc import locate
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.grammar import SPECIAL, Exactly
from volseg.bundle.vocabulary import CHANNEL_FILES, COMPONENT_KEYS, IMPORTS, KEYS, KINDS, TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from volseg.bundle.vocabulary import Arguments

NAMES_OF_CLASSES = {
    "reader", "writer", "backbone", "collate_fn", "func", "transform_func", "worker_init_fn", "pickle_module",
    "event_filter", "prepare_batch", "iteration_update", "metric_cmp_fn", "kwargs", "args", "map_items", "dtype",
}  # fmt: skip
"""Arguments of MONAI and torch that name a class, or take a callable."""
PARTS: dict[str, Arguments] = {target: known for found in TARGETS.values() for target, known in found.items()}


@pytest.mark.parametrize("target", PARTS)
def test_a_target_exists_and_takes_its_arguments(target: str) -> None:
    found: Any = locate(target)
    assert callable(found)
    parameters = inspect.signature(found).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    missing = set(PARTS[target]) - set(parameters)
    # LoadImaged and the like hand further words on; for these the tests that build bundles speak.
    assert not missing or open_ended or target.startswith("monai.engines."), missing


def test_no_argument_names_a_class_unless_its_value_is_fixed() -> None:
    for target, known in PARTS.items():
        for name in set(known) & NAMES_OF_CLASSES:
            kind, needed = known[name]
            assert needed, (target, name)
            assert all(isinstance(form, Exactly) for form in KINDS[kind].values), (target, name)


def test_every_kind_is_known_and_used() -> None:
    used = {kind for found in TARGETS.values() for known in found.values() for kind, _ in known.values()}
    used |= {kind for keys in KEYS.values() for kind in keys.values()}
    for kind in KINDS.values():
        used |= {kind.items} if kind.items else set()
        used |= set((kind.entries or {}).values())
        assert set(kind.also) <= set(KINDS)
    assert used == set(KINDS)
    assert set(TARGETS) <= set(KINDS)
    for name, kind in KINDS.items():
        assert kind.values or kind.items or kind.entries or name in TARGETS, name
    assert not COMPONENT_KEYS & {"_mode_", "_requires_", "_disabled_"}


def test_what_saves_or_loads_stands_in_one_place_each() -> None:
    kinds = {target: {kind for kind, found in TARGETS.items() if target in found} for target in PARTS}
    assert kinds["monai.transforms.SaveImaged"] == {"saving_transform"}
    assert kinds["monai.handlers.CheckpointLoader"] == {"inference_handler"}
    assert kinds["volseg.training.fold_cases"] == {"items"}
    assert [kind for kind, known in KINDS.items() if known.items == "saving_transform"] == ["saving_transforms"]
    holders = {
        kind
        for kind, found in TARGETS.items()
        for known in found.values()
        if ("saving_transforms", False) in known.values()
    }
    assert holders == {"saving_postprocessing"}
    keys = [
        (name, key) for name, known in KEYS.items() for key, kind in known.items() if kind == "saving_postprocessing"
    ]
    assert keys == [("inference", "postprocessing"), ("inference_folds", "postprocessing")]


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
