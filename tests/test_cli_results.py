"""Ledgers and tables on stdout."""

from __future__ import annotations

import pytest

from volseg.cli.results import print_ledger, print_table
from volseg.outcomes import Ledger, Outcome, Provenance, Status


def test_ledger_keeps_private_names_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = (
        Outcome("ct_1", Status.DONE, "done", private="doe/1.dcm"),
        Outcome("ct_2", Status.REFUSED, "missing-slice", "A slice is missing.", private="doe/2.dcm"),
        Outcome("ct_3", Status.DONE, "done", warnings=("Its slices vary.",), private="doe/3.dcm"),
    )
    print_ledger(Ledger(outcomes, Provenance("convert", {}, {}), {"report": 2}))
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "ct_2: refused [missing-slice] A slice is missing.",
        "ct_3: warning: Its slices vary.",
        "passed over: 2 x report",
        "2 done, 1 refused",
    ]
    assert shown.err.splitlines() == ["ct_2 is doe/2.dcm", "ct_3 is doe/3.dcm"]


def test_equal_warnings_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [
        Outcome(f"mr_{number:02d}", Status.DONE, "done", warnings=("A head.",), private=f"doe/{number}")
        for number in range(40)
    ]
    outcomes[7] = Outcome("mr_07", Status.DONE, "done", warnings=("A head.", "Burned in."), private="doe/7")
    outcomes.append(Outcome("mr_50", Status.REFUSED, "gone", "Gone.", warnings=("Burned in.",), private="doe/50"))
    print_ledger(Ledger(tuple(outcomes), Provenance("convert", {}, {})))
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "mr_50: refused [gone] Gone.",
        "40 cases (mr_00, mr_01, mr_02 and 37 more): warning: A head.",
        "2 cases (mr_07, mr_50): warning: Burned in.",
        "40 done, 1 refused",
    ]
    assert shown.err.splitlines() == [
        "mr_50 is doe/50",
        "mr_00 is doe/0",
        "mr_01 is doe/1",
        "mr_02 is doe/2",
        "mr_07 is doe/7",
    ]


def test_table_aligns_and_never_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("case", "Dice"), (("a" * 100, "0.9"), ("b\nb", "0.987")))
    assert capsys.readouterr().out.splitlines() == [
        "case" + " " * 96 + "   Dice",
        "a" * 100 + "    0.9",
        "b\\nb" + " " * 96 + "  0.987",
    ]


@pytest.mark.parametrize(
    ("width", "last"), [(None, "山田太郎 liver"), (19, "山田太郎 liver"), (13, "山田太郎…"), (12, "山田太…")]
)
def test_a_table_is_cut_to_the_columns_of_a_terminal(
    width: int | None, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(("no", "drawn"), (("1", "a"), ("12", "山田太郎 liver")), left=(1,), width=width)
    assert capsys.readouterr().out.splitlines() == ["no  drawn", " 1  a", f"12  {last}"]
