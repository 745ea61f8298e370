"""Options with several values before the folders and after them, for every verb that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from volseg.cli.arguments import set_paths_apart
from volseg.cli.main import VERBS, build_app, main
from volseg.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def list_options() -> list[tuple[str, str, str]]:
    """Each verb, each of its options that take several values, and a value for it."""
    found = []
    for verb in VERBS:
        for argument in build_app(verb)[verb].assemble_argument_collection():
            if argument.token_count()[1]:
                number = any(str(kind) in str(argument.hint) for kind in ("int", "float"))
                found.append((verb, argument.names[0], "2" if number else "text"))
    return found


def rewritten(line: str) -> str:
    verb, *words = line.split()
    return " ".join(set_paths_apart(verb, words, build_app(verb)[verb].assemble_argument_collection()))


def bound(verb: str, words: list[str]) -> object:
    """What the verb's function would be called with."""
    app = build_app(verb)
    ordered = set_paths_apart(verb, words, app[verb].assemble_argument_collection())
    _, arguments, _ = app.parse_args([verb, *ordered], exit_on_error=False, print_error=False)
    return arguments.args, arguments.kwargs


def test_the_verbs_have_lists() -> None:
    assert {verb for verb, _, _ in list_options()} >= {"convert", "plan", "postprocess", "evaluate"}


@pytest.mark.parametrize(("verb", "option", "value"), list_options())
@pytest.mark.parametrize("count", [1, 3])
def test_both_orders_mean_the_same(verb: str, option: str, value: str, count: int) -> None:
    collection = build_app(verb)[verb].assemble_argument_collection()
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
