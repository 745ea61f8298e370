"""What plain values of a config need no trust."""

from __future__ import annotations

import re
from typing import Any

import pytest

from volseg.bundle.grammar import Exactly, Expression, Flag, Form, Kind, Real, Size, Text, Whole

WORD = Text(re.compile("[a-z]+"), "a word")


@pytest.mark.parametrize(
    ("form", "taken"),
    [
        (Exactly("$import torch"), ["$import torch"]),
        (Exactly(None), [None]),
        (Exactly(True), [True]),
        (Flag(), [True, False]),
        (Whole(0, 2), [0, 1, 2]),
        (Real(0, 2), [0, 1, 2, 0.5]),
        (Text(), ["", "word", "1", "two\nlines"]),
        (WORD, ["word"]),
        (Expression(re.compile(r"@networks#[0-9]"), "a network"), ["@networks#1"]),
        (Size(8), [[2, 2, 2], [8, 1, 1]]),
    ],
)
def test_a_form_takes_its_values_and_no_others(form: Form, taken: list[Any]) -> None:
    others: list[Any] = [
        None, True, False, 0, 1, 2, 3, -1, 0.5, 2.5, float("nan"), float("inf"), "", "word", "1", "two\nlines", "X" * 5000,
        "$import torch", " $import os", "\t@network", "%file", "@networks#1", "@networks#1\n", "@networks#12", [], [2, 2, 2],
        [8, 1, 1], [2, 2, 3], [2, 2], [2, 2, 2, 1], [-2, -2, 2], [True, 2, 2], [2.0, 2, 2], ["2", 2, 2], {}, {"a": 1},
    ]  # fmt: skip
    found = [value for value in others if form.takes(value)]
    assert list(map(repr, found)) == list(map(repr, taken))  # 1 is neither true nor 1.0
    assert form.words


def test_a_kind_says_what_it_takes() -> None:
    assert Kind((Whole(1, 3), Exactly(None))).words == "a whole number from 1 to 3 or nothing"
