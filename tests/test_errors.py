"""Errors keep their sentence and code, also across processes."""

from __future__ import annotations

import inspect
import pickle
import re

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
    for error in (kind("one sentence"), kind("another", code="missing-slice")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (again.message, again.code, str(again)) == (error.message, error.code, error.message)


@pytest.mark.parametrize("kind", ALL)
def test_codes_are_stable_words(kind: type[VolsegError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind("x").code)
    assert kind("x", code="other").code == "other"


def test_every_kind_has_its_own_code() -> None:
    codes = [kind("x").code for kind in ALL]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not VolsegError])
def test_callers_may_catch_the_errors_of_the_language(kind: type[VolsegError]) -> None:
    assert issubclass(kind, ValueError) != issubclass(kind, OSError)


def test_the_families() -> None:
    assert issubclass(GeometryError, InputError)
    assert issubclass(DiskFullError, FileError)
    assert issubclass(OutputExistsError, FileError)
    assert issubclass(FileError, OSError)
    assert issubclass(UsageError, ValueError)


def test_a_file_errors_text_is_its_sentence() -> None:
    """``OSError`` makes a text of its own of two arguments."""
    assert str(FileError("a.nii does not exist.", code="missing-file")) == "a.nii does not exist."
