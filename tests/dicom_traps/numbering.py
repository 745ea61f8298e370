"""Traps of volumes that InstanceNumbers alone tell apart."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from pydicom import Dataset

from tests.dicom_traps.differing import (
    CUT_SHORT,
    INCOMPLETE,
    Numbering,
    Place,
    telling_nothing,
    truths_of,
    volumes_of,
    write_left,
)
from tests.dicom_traps.kinds import POINTS_IN_TIME, SetTags
from tests.dicom_traps.stack import Truth
from tests.dicom_traps.trap import Action, Trap

POSITIONS = 5
Order = Callable[[int], int]
"""When a slice is taken, of those of its volume."""


def upwards(number: int) -> int:
    """From the first position to the last."""
    return number


def downwards(number: int) -> int:
    """From the last position to the first."""
    return POSITIONS - 1 - number


def odd_first(number: int) -> int:
    """Every other slice, then those between, as most scanners take them."""
    return number // 2 if number % 2 == 0 else (POSITIONS + 1) // 2 + number // 2


def volume_by_volume(order: Order = upwards, positions: int = POSITIONS) -> Numbering:
    """InstanceNumbers that run through each volume."""
    return lambda volume, number: 1 + volume * positions + order(number)


def position_by_position(count: int) -> Numbering:
    """InstanceNumbers that run through each position."""
    return lambda volume, number: 1 + number * count + volume


def _untold(_: Dataset, __: int) -> None:
    return


def stating(count: int, also: SetTags = _untold) -> SetTags:
    """How many points in time the scanner was to take."""

    def set_tags(data: Dataset, volume: int) -> None:
        data.NumberOfTemporalPositions = count
        also(data, volume)

    return set_tags


def _write(
    folder: Path,
    *,
    count: int,
    lost: Collection[Place],
    numbering: Numbering,
    set_tags: SetTags = _untold,
    renumbered: bool = False,
    positions: int = POSITIONS,
) -> tuple[Truth, ...]:
    stacks = volumes_of(count, positions)
    if renumbered:
        left = [(v, n) for v in range(count) for n in range(positions) if (v, n) not in lost]
        numbers = {place: rank for rank, place in enumerate(sorted(left, key=lambda place: numbering(*place)), start=1)}
        numbering = lambda volume, number: numbers[volume, number]
    left = write_left(folder, stacks, lost=lost, set_tags=set_tags, numbering=numbering)
    return truths_of(stacks, left)


def run(
    name: str,
    lost: Collection[Place],
    *,
    count: int = 4,
    action: Action = Action.SPLIT,
    refused: int = 1,
    numbering: Numbering | None = None,
    set_tags: SetTags = _untold,
    renumbered: bool = False,
    warned: bool = False,
    cautious: bool = False,
    positions: int = POSITIONS,
) -> Trap:
    """A trap of volumes that come out but for those that lack a slice."""
    write = partial(
        _write,
        count=count,
        lost=frozenset(lost),
        numbering=numbering or volume_by_volume(positions=positions),
        set_tags=set_tags,
        renumbered=renumbered,
        positions=positions,
    )
    if action is Action.REFUSE:
        return Trap(name, action, write)
    return Trap(
        name,
        action,
        write,
        refused=(INCOMPLETE,) * refused,
        warnings=(CUT_SHORT,) if warned else (),
        allowed=frozenset() if warned else frozenset({CUT_SHORT}),
        cautious=cautious,
    )


def _set_acquisition(data: Dataset, volume: int) -> None:
    data.AcquisitionNumber = volume + 1


def _set_trigger(data: Dataset, volume: int) -> None:
    data.TriggerTime = f"{33.5 * volume}"


def _set_moment(data: Dataset, volume: int) -> None:
    data.AcquisitionTime = data.ContentTime = f"1012{10 + volume}"


# These may vary within a good volume, so they tell volumes apart only where positions repeat.
WEAK = {"acquisition": _set_acquisition, "trigger-time": _set_trigger, "moment": _set_moment}


def _set_echo_and_type(data: Dataset, volume: int) -> None:
    data.EchoTime = ("2.3", "4.6")[volume // 2]
    data.ImageType = ["ORIGINAL", "PRIMARY", ("M", "P")[volume % 2]]


def _set_type_over_time(data: Dataset, volume: int) -> None:
    """Magnitude and phase in turn, at points in time that nothing but the numbers tells."""
    data.ImageType = ["ORIGINAL", "PRIMARY", ("M", "P")[volume % 2]]


def diagonal(count: int) -> set[Place]:
    """One slice of each volume, each at another position, so that all positions have as many images."""
    return {(number, number) for number in range(count)}


WHERE = {"first": 0, "middle": 2, "last": POSITIONS - 1}

TWO_ELEMENTS = (
    run("echoes-and-types", (), set_tags=_set_echo_and_type, numbering=telling_nothing(4, POSITIONS), refused=0),
    run("echoes-and-types-one-lost", {(2, 3)}, set_tags=_set_echo_and_type, numbering=telling_nothing(4, POSITIONS)),
    run(
        "echoes-and-types-two-lost",
        {(0, 0), (3, 3)},
        set_tags=_set_echo_and_type,
        numbering=telling_nothing(4, POSITIONS),
        refused=2,
    ),
    run(
        "echoes-and-types-all-lack",
        {(n % 4, n) for n in range(POSITIONS)},
        set_tags=_set_echo_and_type,
        numbering=telling_nothing(4, POSITIONS),
        action=Action.REFUSE,
    ),
    run("types-over-time", (), count=6, set_tags=_set_type_over_time, refused=0),
    run(
        "types-over-time-by-position",
        (),
        count=6,
        set_tags=_set_type_over_time,
        numbering=position_by_position(6),
        refused=0,
    ),
    run("types-over-time-one-lost", {(2, 3)}, count=6, set_tags=_set_type_over_time, cautious=True),
    run("types-over-time-cut-short", {(5, 3), (5, 4)}, count=6, set_tags=_set_type_over_time, cautious=True),
    run(
        "types-over-time-all-lack",
        {(n, n) for n in range(5)} | {(5, 0)},
        count=6,
        set_tags=_set_type_over_time,
        cautious=True,
    ),
)

LOST = (
    *(
        run(
            f"{name}-{order}-{what}",
            lost,
            set_tags=set_tags,
            numbering=numbering,
            cautious=True,
        )
        for name, set_tags in WEAK.items()
        for order, numbering in (
            ("by-position", position_by_position(4)),
            ("by-volume", volume_by_volume()),
            ("shuffled", telling_nothing(4, POSITIONS)),
        )
        for what, lost in (("one-lost", {(2, 3)}), ("all-lack", {(n % 4, n) for n in range(POSITIONS)}))
    ),
    *(
        run(f"numbers-alone-volume-{volume + 1}-lacks-{where}", {(volume, number)})
        for volume in (0, 1, 3)
        for where, number in WHERE.items()
    ),
    *(
        run(f"renumbered-volume-{volume + 1}-lacks-{where}", {(volume, number)}, renumbered=True, cautious=True)
        for volume, where in ((0, "middle"), (1, "first"), (1, "last"), (3, "middle"))
        for number in (WHERE[where],)
    ),
    run("numbers-alone-odd-slices-first", {(1, 2)}, numbering=volume_by_volume(odd_first)),
    run("numbers-alone-downwards", {(1, 0)}, numbering=volume_by_volume(downwards)),
    run("numbers-alone-two-volumes-lack", {(0, 1), (2, 3)}, refused=2),
    run("numbers-alone-one-volume-lacks-two", {(1, 1), (1, 3)}),
    run("numbers-alone-all-lack", diagonal(POSITIONS), count=POSITIONS, action=Action.REFUSE),
    run("numbers-alone-five-of-seven-lack", diagonal(POSITIONS), count=7, refused=POSITIONS),
    run("renumbered-all-lack", diagonal(POSITIONS), count=POSITIONS, action=Action.REFUSE, renumbered=True),
    run(
        "renumbered-five-of-seven-lack", diagonal(POSITIONS), count=7, refused=POSITIONS, renumbered=True, cautious=True
    ),
    # The ends that are lost make up for each other: each position has two images, and each five in a row have all.
    run("first-lost-and-cut-short", {(0, 0), (2, 1), (2, 2), (2, 3), (2, 4)}, count=3, refused=2, cautious=True),
    run(
        "first-lost-and-cut-short-renumbered",
        {(0, 0), (2, 1), (2, 2), (2, 3), (2, 4)},
        count=3,
        refused=2,
        renumbered=True,
        cautious=True,
    ),
    run(
        "half-lost-and-cut-short-renumbered",
        {(0, 0), (0, 1), (3, 2), (3, 3), (3, 4)},
        refused=2,
        renumbered=True,
        cautious=True,
    ),
    # Of three slices, every order is a rotation of upwards or of downwards: it doesn't tell where a volume begins.
    *(
        run(
            f"three-positions-{volume + 1}-of-{count}-lacks-{number}",
            {(volume, number)},
            count=count,
            numbering=lambda v, n: 1 + v * 3 + (0, 2, 1)[n],
            positions=3,
            cautious=True,
        )
        for count, volume, number in ((2, 0, 0), (2, 1, 1), (3, 1, 2), (3, 2, 1))
    ),
    run(
        "three-positions-first-volume-lost",
        {(0, 0), (0, 1), (0, 2), (1, 0), (3, 1)},
        numbering=lambda v, n: 1 + v * 3 + (0, 2, 1)[n],
        positions=3,
        cautious=True,
    ),
    run("by-position-one-lost", {(2, 3)}, numbering=position_by_position(4), cautious=True),
    run("by-position-first-lost", {(0, 0)}, numbering=position_by_position(4), cautious=True),
    run("by-position-last-lost", {(3, POSITIONS - 1)}, numbering=position_by_position(4), cautious=True),
    run(
        "by-position-all-lack",
        diagonal(POSITIONS),
        count=POSITIONS,
        action=Action.REFUSE,
        numbering=position_by_position(POSITIONS),
    ),
    run(
        "by-position-five-of-seven-lack",
        diagonal(POSITIONS),
        count=7,
        refused=POSITIONS,
        numbering=position_by_position(7),
        cautious=True,
    ),
    run(
        "by-position-thinned-stated-more",
        {(v, n) for v in range(4) for n in (1, 3, 5)},
        numbering=position_by_position(4),
        set_tags=stating(7),
        positions=7,
        cautious=True,
    ),
    run(
        "by-position-renumbered",
        {(2, 3)},
        action=Action.REFUSE,
        numbering=position_by_position(4),
        renumbered=True,
    ),
    run(
        "by-position-all-lack-with-count-stated",
        diagonal(POSITIONS),
        count=POSITIONS,
        action=Action.REFUSE,
        numbering=position_by_position(POSITIONS),
        set_tags=stating(POSITIONS),
        renumbered=True,
    ),
)


def even_first(number: int) -> int:
    """The second slice, every other one after it, then those between, as scanners take an even number of slices."""
    return number // 2 if number % 2 else POSITIONS // 2 + number // 2


def position_by_position_in(order: Order, count: int) -> Numbering:
    """InstanceNumbers that run through each position, these not in the order in which they lie."""
    return lambda volume, number: 1 + order(number) * count + volume


def in_order(*places: int) -> Numbering:
    """InstanceNumbers of one volume after the other: when each slice is taken."""
    return lambda volume, number: 1 + volume * len(places) + places[number]


def good(
    name: str, count: int, numbering: Numbering, *, positions: int = POSITIONS, set_tags: SetTags = _untold
) -> Trap:
    """A trap of whole volumes whose numbers come in an order that may look as if some lacked."""
    write = partial(_write, count=count, lost=frozenset(), numbering=numbering, set_tags=set_tags, positions=positions)
    return Trap(f"good-order-{name}", Action.PLAIN if count == 1 else Action.SPLIT, write)


GOOD = (
    *(
        good(f"three-slices-{''.join(map(str, order))}", 1, in_order(*order), positions=3)
        for order in ((0, 2, 1), (1, 0, 2), (2, 0, 1))
    ),
    good("five-slices", 1, in_order(3, 2, 1, 0, 4)),
    good("seven-slices", 1, in_order(4, 6, 1, 3, 5, 0, 2), positions=7),
    good("echoes-of-three-slices", 2, in_order(0, 2, 1), positions=3, set_tags=_set_echo_and_type),
    good("echoes-odd-first", 2, volume_by_volume(odd_first), set_tags=_set_echo_and_type),
    *(
        good(
            f"{name}-by-position-{order.__name__.replace('_', '-')}",
            4,
            position_by_position_in(order, 4),
            set_tags=set_tags,
        )
        for name, set_tags in (("types", _set_echo_and_type), ("times", POINTS_IN_TIME.set_tags))
        for order in (odd_first, even_first, downwards)
    ),
    good(
        "times-from-101",
        2,
        lambda volume, number: 101 + odd_first(number) * 2 + volume,
        set_tags=POINTS_IN_TIME.set_tags,
    ),
    good("types-shuffled", 4, telling_nothing(4, POSITIONS), set_tags=_set_echo_and_type),
    good("numbers-alone-odd-first", 3, volume_by_volume(odd_first)),
    good("numbers-alone-even-first", 3, volume_by_volume(even_first)),
    good("numbers-alone-even-first-stated", 3, volume_by_volume(even_first), set_tags=stating(3)),
    good("numbers-alone-by-position-odd-first", 3, position_by_position_in(odd_first, 3)),
)

SEVEN = range(7)
LEFT = {
    "alternating": {(n % 2, n) for n in SEVEN},
    "in-halves": {(n // 4, n) for n in SEVEN},
    "at-random": set(zip((2, 0, 3, 3, 1, 0, 2), SEVEN, strict=True)),
}


def one_left(name: str, set_tags: SetTags, *, count: int = 4) -> Trap:
    """A trap of volumes that their numbers alone tell apart, of which one image is left at each position."""
    lost = {(v, n) for v in range(count) for n in SEVEN} - LEFT[name.removeprefix("stated-").removeprefix("told-")]
    return run(
        f"one-left-{name}",
        lost,
        count=count,
        action=Action.REFUSE,
        numbering=volume_by_volume(positions=7),
        set_tags=set_tags,
        positions=7,
    )


ONE_LEFT = (
    one_left("alternating", _untold),
    one_left("at-random", _untold),
    one_left("stated-alternating", stating(4)),
    one_left("stated-in-halves", stating(4)),
    one_left("stated-at-random", stating(4)),
    one_left("told-in-halves", _set_moment),
    one_left("told-alternating", _set_trigger),
)

NUMBERING: tuple[Trap, ...] = (*GOOD, *TWO_ELEMENTS, *LOST, *ONE_LEFT)
