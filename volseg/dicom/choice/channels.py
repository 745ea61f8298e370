"""Several series of one study as the channels of one case, on one grid."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom import Rejected, Scan, Series, numbered, short_name
from volseg.dicom.choice.names import NameFault, case_names, header_text
from volseg.dicom.choice.patterns import Channel, parse_channels
from volseg.dicom.choice.selection import left_out
from volseg.dicom.file import tags
from volseg.errors import InputError, UsageError
from volseg.outcomes import Outcome, Status
from volseg.pseudonyms import Naming

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from volseg.dicom.choice.options import SeriesChoice
    from volseg.grid import Grid

PARTLY_COVERED = "channel-partly-covered"
"""The code of a channel that doesn't reach over the whole grid of the first."""
PROBES = 9
"""Along each axis of a grid, to see how much of it another image covers."""
ON_BORDER = 0.01
"""Of a voxel: this far outside an image a probe still counts as inside, for rounding."""


@dataclass(frozen=True, eq=False)
class ChannelCase:
    """A case: its name, and its series in the order of the channels."""

    case: str
    series: tuple[Series, ...]


@dataclass(frozen=True, eq=False)
class ChannelPlan:
    """What becomes of a scan.

    Args:
        found: the scan, with series that are no channel among the rejected, skipped as not chosen.
        cases: with all their channels.
        outcomes: of the studies that lack one, or whose channels don't fit together.
    """

    found: Scan
    cases: tuple[ChannelCase, ...]
    outcomes: tuple[Outcome, ...]


def plan_channels(
    found: Scan, options: SeriesChoice, naming: Naming | None, told: Container[Rejected] = ()
) -> ChannelPlan:
    """Find the channels of every study.

    A series is a channel's where its description, its number, or its case's name with or without the hash fits one of
    the channel's patterns. Those of the rejected that are ``told`` of stay in any case.

    Raises:
        UsageError: the channels make no sense, or no series is one.
    """
    channels = parse_channels(options.channels)
    studies: dict[str, dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
    outcomes: list[Outcome] = []
    for number, one in numbered(found):
        fitting = [channel for channel in channels if channel.matches(words_of(number, one, naming))]
        if fitting and isinstance(one, Series):
            for channel in fitting:
                studies[one.identity.study_uid][channel.name].append(one)
    if not studies:
        raise UsageError("No series is one of the channels. --dry-run shows what they are called.")
    complete, lacking = [], set()
    for study, by_channel in studies.items():
        fault = _fault(channels, by_channel)
        first = next(iter(by_channel.values()))[0]
        if fault is None:
            complete.append(tuple(by_channel[channel.name][0] for channel in channels))
        else:
            lacking.add(study)
            outcomes.append(Outcome(_study(first, naming), Status.REFUSED, *fault, private=first.source))
    names: list[str | NameFault] = [_study(members[0], naming) for members in complete]
    if options.name:
        names = case_names([members[0] for members in complete], options.name)
    cases = []
    for members, name in zip(complete, names, strict=True):
        if isinstance(name, NameFault):
            case = _study(members[0], naming)
            outcomes.append(Outcome(case, Status.REFUSED, name.code, name.message, private=members[0].source))
        else:
            cases.append(ChannelCase(name, members))
    used = {id(one) for case in cases for one in case.series}
    others = tuple(left_out(one) for _, one in numbered(found) if isinstance(one, Series) and id(one) not in used)
    # Why a channel is missing may be that its series was refused.
    rejected = tuple(
        one if one in told or (one.identity.study_uid in lacking and one.status is Status.REFUSED) else left_out(one)
        for one in found.rejected
    )
    chosen = tuple(one for one in found.series if id(one) in used)
    return ChannelPlan(replace(found, series=chosen, rejected=(*rejected, *others)), tuple(cases), tuple(outcomes))


def coverage(grid: Grid, other: Grid) -> float:
    """How much of a grid lies within the outer box of another, from 0 to 1, by a lattice of probes."""
    steps = [np.linspace(0, length - 1, PROBES) for length in grid.shape]
    probes = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = other.to_voxel(grid.to_world(probes))
    inside = (voxels >= -0.5 - ON_BORDER) & (voxels <= np.array(other.shape) - 0.5 + ON_BORDER)
    return float(inside.all(axis=1).mean())


def require_coverage(grid: Grid, other: Grid) -> float:
    """``coverage`` of the first channel's grid by another channel.

    Raises:
        InputError: it is 0, with the code ``channels-apart``.
    """
    covered = coverage(grid, other)
    if covered == 0:
        raise InputError(
            "The channels show different places, so that no voxel has all of them. Choose others.",
            code="channels-apart",
        )
    return covered


def _fault(channels: Sequence[Channel], by_channel: Mapping[str, Sequence[Series]]) -> tuple[str, str] | None:
    missing = [channel.name for channel in channels if channel.name not in by_channel]
    if missing:
        return "channel-missing", f"The study has no series for the channel {', '.join(missing)}."
    twice = {name: found for name, found in by_channel.items() if len(found) > 1}
    if twice:
        name, found = next(iter(twice.items()))
        shown = ", ".join(short_name(one) for one in found)
        return "channel-ambiguous", f"Several series of the study fit the channel {name}: {shown}. Name one of them."
    members = [by_channel[channel.name][0] for channel in channels]
    if len({id(one) for one in members}) < len(members):
        return "channel-ambiguous", "One series of the study fits several channels. Name each more closely."
    frames = {one.slices[0].header.uid(tags.FRAME_OF_REFERENCE_UID) for one in members}
    if len(frames) > 1 or frames == {""}:
        return (
            "channels-not-aligned",
            "The channels lie in different frames of reference, so they show no common place. Register them first.",
        )
    return None


def _study(series: Series, naming: Naming | None) -> str:
    return f"study_{naming.study(series.identity)}" if naming else "study"


def words_of(number: int, one: Series | Rejected, naming: Naming | None) -> list[str]:
    """What a series answers to: its number, its name without the hash and with it, its description; private."""
    words = [str(number), short_name(one)]
    if naming:
        words.append(naming.case(one.identity, one.modality))
    if isinstance(one, Series):
        words.append(header_text(one, tags.SERIES_DESCRIPTION))
    return words
