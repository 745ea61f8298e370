"""Traps of runs that were cut short: fewer points in time than stated, the last one perhaps incomplete."""

from __future__ import annotations

from tests.dicom_traps.differing import Place
from tests.dicom_traps.kinds import POINTS_IN_TIME
from tests.dicom_traps.numbering import (
    POSITIONS,
    Order,
    downwards,
    odd_first,
    position_by_position,
    run,
    stating,
    upwards,
    volume_by_volume,
)
from tests.dicom_traps.trap import Action, Trap


def behind(volume: int, number: int, order: Order = upwards) -> set[Place]:
    """All that a run that stops before a slice of its fifth volume never takes, of ten."""
    return {
        (v, n) for v in range(10) for n in range(POSITIONS) if v > volume or (v == volume and order(n) >= order(number))
    }


ABORTED: tuple[Trap, ...] = (
    run("stated-five-found-four", (), set_tags=stating(5), refused=0, warned=True),
    run("stated-ten-found-four", behind(4, 0), count=10, set_tags=stating(10), refused=0, warned=True),
    run("stated-ten-found-four-and-a-part", behind(4, 3), count=10, set_tags=stating(10), warned=True),
    run("stated-ten-found-four-and-one-slice", behind(4, 1), count=10, set_tags=stating(10), warned=True),
    run("found-four-and-a-part", behind(4, 3), count=10, warned=True),
    run(
        "stated-ten-odd-slices-first",
        behind(4, 1, odd_first),
        count=10,
        numbering=volume_by_volume(odd_first),
        set_tags=stating(10),
        warned=True,
    ),
    run(
        "stated-ten-downwards",
        behind(4, 1, downwards),
        count=10,
        numbering=volume_by_volume(downwards),
        set_tags=stating(10),
        warned=True,
    ),
    run(
        "stated-ten-and-one-lost",
        behind(4, 3) | {(1, 2)},
        count=10,
        set_tags=stating(10),
        refused=2,
        cautious=True,
    ),
    run(
        "stated-ten-by-position",
        behind(4, 0),
        count=10,
        numbering=position_by_position(10),
        set_tags=stating(10),
        renumbered=True,
        cautious=True,
    ),
    run(
        "stated-ten-times-told",
        behind(4, 3),
        count=10,
        set_tags=stating(10, POINTS_IN_TIME.set_tags),
    ),
    run(
        "stated-three-first-cut-short",
        {(0, n) for n in range(POSITIONS)} | {(1, 0), (2, 4)},
        count=3,
        action=Action.REFUSE,
        set_tags=stating(3),
        renumbered=True,
    ),
)
