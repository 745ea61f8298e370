from __future__ import annotations

import pytest

from volseg.spreadsheet import harmless


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "＝1", "\r=1", "\n=1"])
def test_a_formula_becomes_text(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["liver", "case_1", "a=b", ""])
def test_other_text_stays(cell: str) -> None:
    assert harmless(cell) == cell
