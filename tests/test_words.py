"""Words for people."""

from __future__ import annotations

import pytest

from volseg.words import counted, harmless, listed, printable


def test_printable_keeps_lines_and_letters() -> None:
    assert printable("Łódź\nb\x1b\r\x9b", keep="\n") == "Łódź\nb\\x1b\\r\\x9b"
    assert printable("a\nb \u202e\u2028 \udcff") == "a\\nb \\u202e\\u2028 \\udcff"
    assert printable("Łódź 肝 C:\\new") == "Łódź 肝 C:\\new"


def test_one_thing_has_no_plural() -> None:
    assert [counted(number, "case") for number in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]


def test_long_lists_end_in_a_count() -> None:
    assert listed([]) == ""
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(("a", "b", "c", "d"), 2) == "a, b and 2 more"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "＝1", "\r=1", "\n=1"])
def test_a_formula_becomes_text(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["liver", "case_1", "a=b", ""])
def test_other_text_stays(cell: str) -> None:
    assert harmless(cell) == cell
