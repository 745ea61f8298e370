"""Gathering the slices of a series' files, and the faults of files; no pixel is read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.dicom.pixels import layout_of
from volseg.dicom.series.slices import Slice, slices_of
from volseg.dicom.series.stack import StackFault
from volseg.errors import FileError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from volseg.dicom.file.header import Header

    HeaderOfFile = tuple[Header, str]

MAX_SLICE_PIXELS = 2**26
"""8192 squared, above any slice of a scanner, and a bound for headers that lie about compressed pixels."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """The slices of some files.

    Args:
        slices: of all of them; none where there is a fault.
        fault: the one that most files have.
        bad: the private names of those files.
    """

    slices: tuple[Slice, ...]
    fault: StackFault | None = None
    bad: tuple[str, ...] = ()


def gather_slices(group: Sequence[HeaderOfFile]) -> Gathered:
    """The slices that files hold, one or many each.

    Args:
        group: header and private name of each file.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for header, name in group:
        code, sentence = _pixel_fault(header)
        if code:
            found.setdefault(code, (sentence, []))[1].append(name)
    if found:
        return _commonest(found, len(group))
    fault = _missing_part(header for header, _ in group)
    if fault is not None:
        return Gathered((), fault)
    slices: list[Slice] = []
    for header, name in group:
        try:
            slices.extend(slices_of(header, name))
        except (InputError, FileError) as error:
            found.setdefault(error.code, (error.message, []))[1].append(name)
    return _commonest(found, len(group)) if found else Gathered(tuple(slices))


def _commonest(found: Mapping[str, tuple[str, list[str]]], total: int) -> Gathered:
    """The fault that most files have, and those files."""
    code, (sentence, names) = min(found.items(), key=lambda item: (-len(item[1][1]), item[0]))
    where = "" if len(names) == 1 else f"{len(names)} of {total} files: "
    return Gathered((), StackFault(code, where + sentence), tuple(names))


def _pixel_fault(header: Header) -> tuple[str, str]:
    if (header.unsigned(tags.ROWS) or 0) * (header.unsigned(tags.COLUMNS) or 0) > MAX_SLICE_PIXELS:
        return "declares-too-much", "A header declares an image larger than any scanner's."
    try:
        layout_of(header)
    except InputError as error:
        return error.code, error.message
    if tags.MODALITY_LUT_SEQUENCE in header.values:
        return (
            "modality-lut",
            "Its values go through a lookup table, which volseg doesn't apply. Export it with slope and intercept.",
        )
    return "", ""


def _missing_part(headers: Iterable[Header]) -> StackFault | None:
    """The parts that lack of multi-frame images that were sent in several (PS3.3, C.7.6.16.1.1.1)."""
    parts: dict[str, set[int | None]] = defaultdict(set)
    totals: dict[str, int] = {}
    for header in headers:
        uid = header.uid(tags.CONCATENATION_UID)
        if uid:
            parts[uid].add(header.unsigned(tags.IN_CONCATENATION_NUMBER))
            totals[uid] = max(totals.get(uid, 0), header.unsigned(tags.IN_CONCATENATION_TOTAL_NUMBER) or 0)
    for uid, total in totals.items():
        if len(parts[uid]) < total:
            return StackFault("missing-part", f"{len(parts[uid])} of the {total} files that make one image are there.")
    return None
