"""Results on stdout: ledgers and tables; private names on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from volseg.outcomes import Ledger, Outcome, Status, tally
from volseg.words import listed, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), width: int | None = None
) -> None:
    """Print aligned columns, one line a row.

    Args:
        header: of the columns.
        rows: the cells.
        left: the columns of text, which are aligned to the left; the others are to the right.
        width: what a longer line is cut to, ending in an ellipsis; None cuts nothing.
    """
    lines = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.ljust(room) if place in left else cell.rjust(room)
            for place, (cell, room) in enumerate(zip(line, widths, strict=True))
        )
        text = "  ".join(cells).rstrip()
        print(text if width is None else _within(text, width))


def _within(text: str, width: int) -> str:
    """A line that takes no more than this many columns of a terminal, where some characters take two."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"
