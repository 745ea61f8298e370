"""Results on stdout: ledgers and tables; private names on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from volseg.outcomes import Ledger, Outcome, Status, tally
from volseg.words import listed, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMED_CASES = 3
"""A warning about several cases names this many and counts the others."""


def print_ledger(ledger: Ledger) -> None:
    """Show what became of the cases: a line for each that was not simply done, each warning once, then the tally.

    The public sentence goes to stdout. The private name, which may be a patient's file, goes to stderr alone.
    """
    for outcome in ledger.outcomes:
        if outcome.status is not Status.DONE:
            print(printable(f"{outcome.case}: {outcome.status} [{outcome.code}] {outcome.message}".rstrip()))
            _print_private(outcome)
    _print_warnings(ledger)
    for kind, count in sorted(ledger.skipped_kinds.items()):
        print(printable(f"passed over: {count} x {kind}"))
    print(tally(ledger.outcomes))


def _print_warnings(ledger: Ledger) -> None:
    """Each warning once, with the cases that it is about."""
    about: dict[str, list[Outcome]] = {}
    for outcome in ledger.outcomes:
        for warning in dict.fromkeys(outcome.warnings):
            about.setdefault(warning, []).append(outcome)
    told = {outcome.case for outcome in ledger.outcomes if outcome.status is not Status.DONE}
    for warning, outcomes in about.items():
        names = listed([outcome.case for outcome in outcomes], NAMED_CASES)
        who = names if len(outcomes) == 1 else f"{len(outcomes)} cases ({names})"
        print(printable(f"{who}: warning: {warning}"))
        for outcome in outcomes[:NAMED_CASES]:
            if outcome.case not in told:
                told.add(outcome.case)
                _print_private(outcome)


def _print_private(outcome: Outcome) -> None:
    if outcome.private:
        sys.stdout.flush()  # keeps both streams in step where they end in one place
        print(printable(f"{outcome.case} is {outcome.private}"), file=sys.stderr)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, the first to the left and the others to the right; nothing is ever cut."""
    lines = [[printable(cell).replace("\n", " ") for cell in row] for row in (header, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join((first, *others)).rstrip())
