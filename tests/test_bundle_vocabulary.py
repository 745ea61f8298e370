"""The vocabulary: every word exists, takes its arguments, and can't be turned into code."""

from __future__ import annotations

import ast
import inspect
from pydoc import locate
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.vocabulary import (
    CHANNEL_FILES,
    COMPONENT_KEYS,
    DATA_EXPRESSIONS,
    DATA_SETS,
    DATA_SOURCE,
    EXPRESSIONS,
    FIXED_ARGUMENTS,
    IMPORTS,
    PLACES,
    TARGETS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES_OF_CLASSES = {
    "reader", "writer", "backbone", "collate_fn", "func", "transform_func", "worker_init_fn", "pickle_module",
    "event_filter", "prepare_batch", "iteration_update", "metric_cmp_fn", "kwargs", "args", "map_items", "dtype",
}  # fmt: skip
"""Arguments of MONAI and torch that name a class, or take a callable."""


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_exists_and_takes_its_arguments(target: str) -> None:
    found: Any = locate(target)
    assert callable(found)
    parameters = inspect.signature(found).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    missing = TARGETS[target] - set(parameters)
    # LoadImaged and the like hand further words on; for these the tests that build bundles speak.
    assert not missing or open_ended or target.startswith("monai.engines."), missing


def test_no_argument_names_a_class_unless_its_value_is_fixed() -> None:
    for target, arguments in TARGETS.items():
        assert arguments & NAMES_OF_CLASSES <= set(FIXED_ARGUMENTS.get(target, {})), target


def test_the_special_rules_are_about_known_targets() -> None:
    for target in (*FIXED_ARGUMENTS, *PLACES, *DATA_SETS, DATA_SOURCE):
        assert target in TARGETS
    for target, fixed in FIXED_ARGUMENTS.items():
        assert set(fixed) <= TARGETS[target]
    assert not COMPONENT_KEYS & {"_mode_", "_requires_", "_disabled_"}


@pytest.mark.parametrize("expression", sorted({*EXPRESSIONS, *DATA_EXPRESSIONS}))
def test_an_expression_is_one_python_expression_of_few_words(expression: str) -> None:
    tree = ast.parse(expression[1:].replace("@", "").replace("#", "_"), mode="eval")
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called <= {
        "torch.device", "torch.cuda.is_available", "network_def.to", "network_def.parameters", "sorted", "glob.glob",
        "evaluator.run", "train_trainer.run", "validate_evaluator.run",
    }  # fmt: skip
    assert "__" not in expression


def test_imports_are_two_modules_under_their_own_names() -> None:
    assert {"$import glob", "$import torch"} == IMPORTS


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
