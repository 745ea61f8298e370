"""The table of what was measured."""

from __future__ import annotations

from tests.plans import LABELS, fingerprint
from volseg.planning.table import measured_rows


def test_litres_are_shown_as_whole_millilitres() -> None:
    measured = fingerprint([(8, 8, 8)], [(1.0, 1.0, 1.0)], volumes_mm3={1: 1153.4e3, 2: 36.84e3})
    rows = {row[0]: row[1:] for row in measured_rows(measured, LABELS)}
    assert rows["organ, ml, in 1 of 1 case"] == ("1153",) * 3
    assert rows["lesion, ml, in 1 of 1 case"] == ("36.8",) * 3
