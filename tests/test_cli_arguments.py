"""Options with several values before the folders and after them, for every verb that has one."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, get_args

import pytest

from volseg.cli.arguments import set_paths_apart
from volseg.cli.main import VERBS, build_app, main
from volseg.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from cyclopts import App, ArgumentCollection


@cache
def app_of(verb: str) -> App:
    return build_app(verb)


@cache
def arguments_of(verb: str) -> ArgumentCollection:
    return app_of(verb)[verb].assemble_argument_collection()


def list_options() -> list[tuple[str, str, str]]:
    """Each verb, each of its options that take several values, and a value for it."""
    found = []
    for verb in VERBS:
        for argument in arguments_of(verb):
            if argument.token_count()[1]:
                number = any(str(kind) in str(argument.hint) for kind in ("int", "float"))
                found.append((verb, argument.names[0], "2" if number else "text"))
    return found


def rewritten(line: str) -> str:
    verb, *words = line.split()
    return " ".join(set_paths_apart(verb, words, arguments_of(verb)))


def bound(verb: str, words: list[str]) -> object:
    """What the verb's function would be called with."""
    return parsed(verb, *set_paths_apart(verb, words, arguments_of(verb)))


@cache
def parsed(verb: str, *ordered: str) -> object:
    """What the parser, which takes its time, makes of words in their order."""
    _, arguments, _ = app_of(verb).parse_args([verb, *ordered], exit_on_error=False, print_error=False)
    return arguments.args, arguments.kwargs


def test_the_verbs_have_lists() -> None:
    assert {verb for verb, _, _ in list_options()} >= {"convert", "plan", "postprocess", "evaluate"}


RULES = [
    "--threshold 1:0.5",
    "--keep-largest 1 liver",
    "--minimum-size-mm3 2.5",
    "--remove-small all:2ml",
    "--keep-inside 1:2",
    "--remove-touching-border 1",
    "--opening 1:2",
    "--closing 1:2",
    "--smooth 1:2",
    "--fill-between-labels 1+2:2",
    "--fill-holes all",
    "--instances 1",
    "--connectivity 6",
    "--order opening closing",
]

ALL_OPTIONS = {
    "check": ["--jobs 2"],
    "plan": [
        "--preset full",
        "--spacing 1 1 3",
        "--network unet",
        "--loss dice+0.5*ce",
        "--optimizer sgd",
        "--schedule cosine",
        "--augment none",
        "--mirror RA",
        "--regions a=1;b=1,2",
        "--memory 10GB",
    ],
    "train": [
        "--data d",
        "--fold 1",
        "--folds f.json",
        "--cv",
        "--at-once 2",
        "--keep-rules",
        "--adopt-runs",
        "--all-cases",
        "--minutes 1.5",
        "--epochs 3",
        "--patience 2",
        "--device cpu",
        "--fresh",
        "--publish",
        "--seed -3",
        "--memory-for-data 4GB",
        "--cache c",
        "--track tensorboard",
        "--deterministic",
        "--init-from b",
        "--freeze encoder:5",
        "--taken-rate 0.5",
    ],
    "tune": [
        "--data d",
        "--minutes 1.5",
        "--trials 3",
        "--trial-minutes 0.5",
        "--trial-epochs 2",
        "--fold 1",
        "--device cpu",
        "--seed -3",
        "--fresh",
        "--memory-for-data 4GB",
        "--cache c",
    ],
    "predict": [
        *RULES,
        "--fold 0",
        "--folds all",
        "--device cpu",
        "--overwrite",
        "--accept-edited",
        "--formats nifti slicer",
        "--series 1 ct_02",
        "--modality CT MR",
        "--channels A=*;B=x,y",
        "--name {PatientID}",
        "--linkage l.csv",
        "--dry-run",
        "--statistics",
        "--workspace",
        "--preview",
        "--surface stl obj",
        "--dicom-seg",
        "--dicom-labelmap",
        "--dicom-fractional",
        "--probabilities liver spleen",
        "--rtstruct",
        "--memory 3GB",
        "--tta",
        "--overlap 0.25",
        "--labels liver spleen",
        "--roi -80:60,-40:90,-1100:-900mm",
        "--roi-margin 5",
        "--roi-labels liver spleen",
        "--roi-whole-box",
        "--raw",
        "--regions",
        "--precision float32",
    ],
    "postprocess": [
        *RULES,
        "--overwrite",
        "--jobs 0",
    ],
    "evaluate": ["--out o", "--labels 1 2", "--regions a=1;b=1,2", "--require-all", "--overwrite", "--jobs 1"],
    "trust": ["--yes"],
    "export": ["--onnx", "--torchscript", "--tensorrt", "--image a.nii.gz b.nii.gz", "--overwrite"],
    "bundles": [],
    "demo": ["--cases 5", "--new-cases 2", "--minutes 0.5", "--matrix 32", "--seed 1", "--device cpu"],
    "convert": [
        "--spacing 1 1 3",
        "--orientation RAS",
        "--interpolation nearest",
        "--series 1 ct_02",
        "--modality CT MR",
        "--localizers",
        "--refuse-tilt",
        "--fill-gaps",
        "--suv",
        "--labels Liver=a,b;c",
        "--channels A=*;B=x,y",
        "--masks-from *mask*",
        "--regions",
        "--name {PatientID}",
        "--linkage l.csv",
        "--jobs 2",
        "--overwrite",
        "--dry-run",
    ],
}
"""Every option of every verb, with values."""


def paths_of(verb: str) -> list[str]:
    collection = arguments_of(verb)
    return [f"folder_{a.index}" for a in collection if a.index is not None]


def test_every_option_of_every_verb_is_tried() -> None:
    for verb in VERBS:
        names = {
            argument.names[0] for argument in arguments_of(verb) if argument.index is None and argument.names[0] != "*"
        }
        assert names == {option.split()[0] for option in ALL_OPTIONS[verb]}, verb


@pytest.mark.parametrize("verb", VERBS)
def test_options_go_before_between_and_after_the_folders(verb: str) -> None:
    paths = paths_of(verb)
    for option in ALL_OPTIONS[verb]:
        words = option.split()
        meant = bound(verb, [*paths, *words])
        assert bound(verb, [*words, *paths]) == meant, option
        if len(words) == 2:
            assert bound(verb, [f"{words[0]}={words[1]}", *paths]) == meant, option
            assert bound(verb, [*paths[:1], f"{words[0]}={words[1]}", *paths[1:]]) == meant, option
    everything = [word for option in ALL_OPTIONS[verb] for word in option.split()]
    assert bound(verb, [*everything, *paths]) == bound(verb, [*paths, *everything])


@pytest.mark.parametrize(("verb", "option", "value"), list_options())
@pytest.mark.parametrize("joint", [" ", "="])
def test_several_values_go_into_one_word_anywhere(verb: str, option: str, value: str, joint: str) -> None:
    paths = paths_of(verb)
    separators = ",x" if option == "--spacing" else ","  # a label's name may have an x, and a comma
    for separator in separators:
        word = separator.join([value] * 3)
        given = f"{option}{joint}{word}".split()
        meant = bound(verb, [*paths, *given])
        for place in range(len(paths)):
            assert bound(verb, [*paths[:place], *given, *paths[place:]]) == meant
        if len(separators) > 1:
            assert meant == bound(verb, [*paths, option, *[value] * 3])


@pytest.mark.parametrize(("verb", "option", "value"), list_options())
@pytest.mark.parametrize("count", [1, 3])
def test_both_orders_mean_the_same(verb: str, option: str, value: str, count: int) -> None:
    collection = arguments_of(verb)
    paths = [f"folder_{a.index}" for a in collection if a.index is not None and a.required]
    values = [value] * count
    after = bound(verb, [*paths, option, *values])
    assert get_args(type(after)) == ()
    assert bound(verb, [option, *values, *paths]) == after
    assert bound(verb, [option, *values, "--", *paths]) == after
    assert bound(verb, [f"{option}={value}", *values[1:], *paths]) == after


@pytest.mark.parametrize(
    ("line", "same_as"),
    [
        (
            "postprocess --keep-largest 1 2 masks out --overwrite",
            "postprocess masks out --keep-largest 1 2 --overwrite",
        ),
        ("postprocess --keep-largest 1 2 --fill-holes 1 a b", "postprocess a b --keep-largest 1 2 --fill-holes 1"),
        ("postprocess --keep-largest 1 a b --fill-holes 1 2", "postprocess a b --keep-largest 1 --fill-holes 1 2"),
        ("postprocess --keep-largest spleen liver out", "postprocess liver out --keep-largest spleen"),  # folder liver
        ("postprocess --keep-largest liver -- liver 1", "postprocess --keep-largest=liver -- liver 1"),
        ("postprocess --jobs 2 --keep-largest 1 a b", "postprocess a b --keep-largest 1 --jobs 2"),
        ("postprocess --keep-largest 1 -- -a 2", "postprocess --keep-largest 1 -- -a 2"),
        ("convert --spacing native dicom nifti", "convert dicom nifti --spacing native"),
        ("convert dicom --spacing 1 1 3 nifti", "convert dicom nifti --spacing 1 1 3"),
        ("convert --spacing 1 1 3 dicom --dry-run nifti", "convert dicom nifti --spacing 1 1 3 --dry-run"),
        ("convert --spacing 1 1 1 -- 1 2", "convert --spacing=1 1 1 -- 1 2"),
        ("convert --series 3 4 dicom nifti", "convert dicom nifti --series 3 4"),
        ("convert --modality CT dicom nifti", "convert dicom nifti --modality CT"),
        ("convert --modality CT MR dicom nifti", "convert dicom nifti --modality CT MR"),
        ("convert --modality CT --spacing 1 dicom nifti", "convert dicom nifti --modality CT --spacing 1"),
        ("convert dicom --modality=CT nifti", "convert dicom nifti --modality CT"),
        ("convert --spacing 1x1x3 1 2", "convert 1 2 --spacing 1 1 3"),  # folders called 1 and 2
        ("convert --spacing 0.8,.8,3 dicom nifti", "convert dicom nifti --spacing 0.8 0.8 3"),
        ("convert dicom --series 3,4 nifti --modality CT", "convert dicom nifti --series 3,4 --modality CT"),
        ("convert --series a,b c --modality CT,MR d", "convert c d --series a,b --modality CT,MR"),
        (
            "postprocess --keep-largest 1,2 a --fill-holes all,3 b",
            "postprocess a b --keep-largest 1,2 --fill-holes all,3",
        ),
        ("plan --spacing=1x1x3 data bundle", "plan data bundle --spacing 1 1 3"),
    ],
)
def test_lines_that_are_plain(line: str, same_as: str) -> None:
    verb, *words = line.split()
    assert bound(verb, words) == bound(verb, same_as.split()[1:])


@pytest.mark.parametrize(
    "line",
    [
        "convert --spacing 1 1 3 1 2",  # folders called 1 and 2
        "convert --spacing 1 1 3 nifti",  # a folder called 3, or one too few
        "postprocess masks --keep-largest 1 2",  # a folder called 2, or a second label
        "postprocess --keep-largest 1 masks --fill-holes 2 out",
        "convert --series one two three --modality CT MR PT",
        "convert dicom --series one two",
    ],
)
def test_what_may_be_either_is_not_guessed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb, *words = line.split()
    with pytest.raises(UsageError, match="can't be told from the values of --"):
        rewritten(line)
    assert main([verb, *words]) == 2
    said = capsys.readouterr().err
    assert f"volseg {verb} --" in said
    assert "... -- " in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("convert --spacing nativ a b", "--spacing takes a number or native, not 'nativ'."),
        ("convert a b --spacing 1x1", "A spacing is one number for all axes or three numbers, in mm, not 2 numbers."),
        ("convert a b --jobs 1.5", "--jobs takes a whole number, not '1.5'."),
        ("train b --fold=0x1", "--fold takes a whole number, not '0x1'."),
        ("train b --minutes ten", "--minutes takes a number, not 'ten'."),
        ("predict a b c --device gpu", "--device takes cpu or cuda, not 'gpu'."),
        ("convert a b --spacing 1x1x3 c", "too many arguments: c."),
    ],
)
def test_a_value_that_an_option_does_not_take_is_told(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    assert capsys.readouterr().err.startswith(f"volseg: {said}")


def test_help_shows_defaults_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        shown[verb] = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert not re.search(r"default: (\(|\[|False|None|\"|')", shown[verb]), verb
    assert "[choices: native] [default: 1]" in shown["convert"]
    assert "[default: nifti]" in shown["predict"]


@pytest.mark.parametrize("line", ["postprocess masks --keep-largest 1", "convert --spacing 1 nifti", "plan"])
def test_a_path_too_few_is_told_by_its_name(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    assert "requires an argument" in capsys.readouterr().err


def test_help_is_shown_whatever_a_list_swallows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--spacing", "1", "1", "1", "2", "--help"]) == 0
    assert "DICOM_DIR" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["convert a b --spacing 1", "train --minutes 3 a", "evaluate a b c --labels 1"])
def test_what_needs_no_order_stays(line: str) -> None:
    assert rewritten(line) == line.partition(" ")[2]


@pytest.mark.parametrize("word", ["1_2", "0x1f", "1e3", "+1", "-1", "1.0", "\u0661"])
def test_a_word_that_is_no_plain_number_is_a_name(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.nii.gz").touch()
    assert main(["postprocess", str(tmp_path / "masks"), str(tmp_path / "out"), "--keep-largest", word]) == 2
    assert f"There is no label {word!r}" in capsys.readouterr().err


def test_a_near_option_is_asked_for_without_a_stray_stop(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--minuts", "3", "bundle"]) == 2
    assert "Did you mean --minutes? See" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["in out --modality", "in --series --overwrite out", "--series -- in out"])
def test_a_list_without_a_value_is_told(words: str) -> None:
    """An empty shell variable behind --series would choose everything."""
    with pytest.raises(UsageError, match="takes one value or more"):
        rewritten(f"convert {words}")
