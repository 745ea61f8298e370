"""Errors keep their sentence and code, also across processes."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

from volseg import errors
from volseg.errors import (
    DiskFullError,
    FileError,
    GeometryError,
    InputError,
    OutputExistsError,
    UsageError,
    VolsegError,
)

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, VolsegError)]


@pytest.mark.parametrize("kind", ALL)
def test_message_and_code_survive_a_process_border(kind: type[VolsegError]) -> None:
    for error in (kind("one sentence"), kind("another", code="missing-slice", path=Path("a/b"))):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (again.message, again.code, str(again)) == (error.message, error.code, error.message)
        assert again.path == error.path


@pytest.mark.parametrize("kind", ALL)
def test_codes_are_stable_words(kind: type[VolsegError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind("x").code)
    assert kind("x", code="other").code == "other"


def test_every_kind_has_its_own_code() -> None:
    codes = [kind("x").code for kind in ALL]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not VolsegError])
def test_callers_may_catch_the_errors_of_the_language(kind: type[VolsegError]) -> None:
    assert sum(issubclass(kind, parent) for parent in (ValueError, OSError, MemoryError)) == 1


def test_the_families() -> None:
    assert issubclass(GeometryError, InputError)
    assert issubclass(DiskFullError, FileError)
    assert issubclass(OutputExistsError, FileError)
    assert issubclass(FileError, OSError)
    assert issubclass(UsageError, ValueError)


def test_a_file_errors_text_is_its_sentence() -> None:
    """``OSError`` makes a text of its own of two arguments."""
    assert str(FileError("a.nii does not exist.", code="missing-file")) == "a.nii does not exist."


def test_a_message_may_name_its_file_within_a_folder_or_alone() -> None:
    path = Path("/scans of J. Doe/set/a.nii.gz")
    error = InputError(f"{path} is damaged. Copy {path} again.", code="damaged-file", path=path)
    assert str(error).startswith("/scans of J. Doe/set/a.nii.gz is")
    assert error.within(Path("/scans of J. Doe")) == "set/a.nii.gz is damaged. Copy set/a.nii.gz again."
    for elsewhere in (None, path, Path("/scans"), Path("set")):
        assert error.within(elsewhere) == "a.nii.gz is damaged. Copy a.nii.gz again."
    again = error.reworded(f"The reference: {error.message}")
    assert again.within() == "The reference: a.nii.gz is damaged. Copy a.nii.gz again."
    assert (type(again), again.code, again.path) == (InputError, "damaged-file", path)


def test_a_message_without_a_file_stays() -> None:
    assert InputError("Two. Sentences.").within(Path()) == "Two. Sentences."
    assert InputError(". is a folder.", path=Path()).within(Path()) == ". is a folder."
