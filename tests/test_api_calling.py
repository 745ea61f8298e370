"""The verbs as functions: texts for paths, options by name, and sentences for what makes no sense."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import volseg
from tests.conftest import uncounted
from volseg import UsageError
from volseg.api.calling import options_of
from volseg.api.verbs import _Predict

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CopyBundle, MakeDataset

VERBS_WITH_OPTIONS = {
    "convert": volseg.ConvertOptions,
    "check": volseg.CheckOptions,
    "plan": volseg.PlanOptions,
    "train": volseg.TrainOptions,
    "predict": volseg.PredictOptions,
    "postprocess": volseg.PostprocessOptions,
    "evaluate": volseg.EvaluateOptions,
    "demo": volseg.DemoOptions,
}


@pytest.mark.parametrize("verb", VERBS_WITH_OPTIONS)
def test_each_option_is_a_keyword_with_its_default_and_its_words(verb: str) -> None:
    function = getattr(volseg, verb)
    keywords = {
        name: one for name, one in inspect.signature(function).parameters.items() if one.kind is one.KEYWORD_ONLY
    }
    told = pydoc.render_doc(function, renderer=pydoc.plaintext)
    for option in fields(VERBS_WITH_OPTIONS[verb]):
        assert keywords.pop(option.name).default == option.default
        words = told.split(f"\n        {option.name}: ")[1]
        assert words[0].isalpha() or words[0] in '0"'
    assert set(keywords) == {"options", "progress"}


def test_texts_and_lists_serve_for_paths_and_tuples(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert volseg.check("data").summary == volseg.check("~/data", jobs=np.int64(1)).summary
    plan = volseg.plan("data", "bundle", spacing=np.array([1.0, 2.0, 3.0], np.float32))
    assert plan.spacing_mm == (1.0, 2.0, 3.0)
    assert volseg.plan("data", "~/other", spacing=2).spacing_mm == (2.0, 2.0, 2.0)
    one_word: Any = "1x2,3"  # as on the command line
    assert volseg.plan("data", "third", spacing=one_word).spacing_mm == (1.0, 2.0, 3.0)
    assert (tmp_path / "other" / "configs").is_dir()


def test_keywords_go_before_the_object(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle(steps_per_epoch=1)
    (result,) = volseg.train(bundle, options=volseg.TrainOptions(epochs=2, all_cases=True), epochs=np.uint8(1))
    assert (result.name, len(result.history)) == ("all_cases", 1)


@pytest.mark.parametrize(
    ("arguments", "keywords", "sentence"),
    [
        (("x",), {"minuts": 10}, "volseg.train has no option 'minuts'. Did you mean minutes?"),
        (("x",), {"xyzzy": 10}, "volseg.train has no option 'xyzzy'. It has data, "),
        (("x",), {"minutes": "ten"}, "minutes can't be 'ten': input should be a valid number"),
        (("x",), {"fold": 0.5}, "fold can't be 0.5: "),
        (("x",), {"device": "gpu"}, "device can't be 'gpu': input should be 'cpu' or 'cuda'."),
        (("x",), {"minutes": "x" * 10**6}, "minutes can't be 'xxx"),
        (("x",), {"options": 5}, "options takes TrainOptions, not 5."),
        (("x",), {"progress": "loud"}, "progress takes True, False or a listener, not 'loud'."),
        ((5,), {}, "bundle_dir takes a path, not 5."),
        ((), {}, "volseg.train takes bundle_dir, then options by name."),
        (("x", "y"), {}, "volseg.train takes bundle_dir, then options by name."),
        (("nowhere",), {"minutes": np.float32(1)}, "nowhere does not exist. Name a bundle's folder"),
    ],
)
def test_what_makes_no_sense_is_told(arguments: tuple[Any, ...], keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        volseg.train(*arguments, **keywords)
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 300


def test_an_error_names_options_as_python_spells_them(copy_bundle: CopyBundle) -> None:
    with pytest.raises(UsageError, match=r"^cv holds out every case once and all_cases none"):
        volseg.train(copy_bundle(), cv=True, all_cases=True)


def test_a_script_without_a_main_guard_may_ask_for_processes(make_dataset: MakeDataset, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import volseg\nprint('once')\nprint(volseg.check({str(make_dataset(3))!r}, jobs=2).summary)\n"
        f"print(volseg.check({str(tmp_path / 'data')!r}, jobs=2).exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env=uncounted(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines() == ["once", "3 cases with a mask, 0 without", "0"]
    assert done.stderr == ""


@pytest.mark.parametrize("verb", VERBS_WITH_OPTIONS)
def test_the_options_of_an_object_are_taken_as_they_are(verb: str, tmp_path: Path) -> None:
    """Each default passes for a value of its own option, so what is wrong is the path."""
    (tmp_path / "file").write_text("")
    count = {"predict": 3, "train": 1, "check": 1, "demo": 1}.get(verb, 2)
    options: Any = VERBS_WITH_OPTIONS[verb]()
    if verb == "postprocess":
        options = volseg.PostprocessOptions(keep_largest=1)
    with pytest.raises(volseg.VolsegError, match="file"):
        getattr(volseg, verb)(*[tmp_path / "file"] * count, options=options, progress=False)


@pytest.mark.parametrize("path", ["", "x" * 5000, b"x", None, 5])
def test_what_is_no_path_is_told(path: Any) -> None:
    with pytest.raises(UsageError, match=r"^path (takes|can't be)"):
        volseg.check(path)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("train", {"cv": "yes"}, "cv can't be 'yes': it takes True or False."),
    ("train", {"cv": 1}, "cv can't be 1: it takes True or False."),
    ("train", {"fold": True}, "fold can't be True: it takes a whole number."),
    ("train", {"minutes": True}, "minutes can't be True: it takes a number."),
    ("train", {"data": [1, 2]}, "data can't be [1, 2]"),
    ("train", {"adopt_runs": "no"}, "adopt_runs can't be 'no': it takes True or False."),
    ("train", {"freeze": True}, "freeze can't be True: it takes a text."),
    ("plan", {"spacing": [True, 1, 1]}, "spacing can't be [True, 1, 1]: it takes a number."),
    ("predict", {"folds": ["0", 1]}, "folds can't be ['0', 1]"),
    ("predict", {"folds": {0: 1}}, "folds can't be {0: 1}"),
    ("predict", {"folds": []}, "folds can't be []"),
    ("predict", {"raw": "x"}, "raw can't be 'x': it takes True or False."),
    ("export", {"onnx": "x.onnx"}, "onnx can't be 'x.onnx': it takes True or False."),
    ("load", {"fold": True}, "fold can't be True: it takes a whole number."),
    ("load", {"folds": (0, 1.5)}, "folds can't be (0, 1.5)"),
    ("load", {"device": 0}, "device can't be 0"),
]


@pytest.mark.parametrize(("verb", "keywords", "sentence"), WRONG)
def test_a_value_of_another_type_is_told(verb: str, keywords: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    paths = [str(tmp_path)] * {"plan": 2, "predict": 3}.get(verb, 1)
    with pytest.raises(UsageError) as told:
        getattr(volseg, verb)(*paths, **keywords)
    assert str(told.value).startswith(sentence)


@pytest.mark.parametrize("folds", [[0, 1], (0, 1), range(2), np.arange(2)])
def test_folds_may_be_a_list_of_numbers(folds: Any) -> None:
    options = options_of(_Predict, None, {"folds": folds}, "predict")
    assert options.folds == "0,1"


@pytest.mark.parametrize(
    ("verb", "given", "sentence"),
    [
        ("bundles", (1,), "volseg.bundles: too many positional arguments"),
        ("trust", (), "volseg.trust: missing a required argument"),
        ("load", ("a", "b"), "volseg.load: too many positional arguments"),
    ],
)
def test_arguments_that_a_function_does_not_take_are_told(verb: str, given: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(UsageError) as told:
        getattr(volseg, verb)(*given)
    assert str(told.value).startswith(sentence)
