"""The words for parts of a config: each exists, takes its arguments, and stands where it may."""

from __future__ import annotations

import inspect
from pydoc import locate
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.grammar import Exactly
from volseg.bundle.vocabulary import COMPONENT_KEYS, KEYS, KINDS, MODEL_KEY, TARGETS

if TYPE_CHECKING:
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


def test_an_argument_is_needed_only_where_its_absence_would_leave_a_choice_to_a_library() -> None:
    """A reader that is not named is one of many, of which some unpickle; a place that is not named is the current one."""
    needed = {(target, name) for target, known in PARTS.items() for name, (_, must) in known.items() if must}
    assert needed >= {
        ("monai.transforms.LoadImaged", "reader"),
        ("monai.transforms.SaveImaged", "writer"),
        ("monai.transforms.SaveImaged", "output_dir"),
        ("monai.handlers.CheckpointLoader", "load_path"),
        ("volseg.training.Standalone", "path"),
        ("volseg.training.fold_cases", "record"),
        ("monai.data.Dataset", "data"),
    }
    assert PARTS["monai.inferers.SimpleInferer"] == {}
    assert PARTS["torch.optim.SGD"]["lr"] == ("rate", False)


def test_the_keys_of_a_config_are_its_own() -> None:
    assert KEYS.keys() == {"inference", "train", "inference_folds"}
    assert {name for name, keys in KEYS.items() if MODEL_KEY in keys} == {"train"}
    assert KEYS["inference_folds"].items() - KEYS["inference"].items() == {("networks", "folds")}
    assert not [key for name in ("inference", "inference_folds") for key in KEYS[name] if "#" in key]
    assert {key.partition("#")[0] for key in KEYS["train"] if "#" in key} == {"train", "validate"}
