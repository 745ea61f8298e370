"""The choice of series that are masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from volseg.dicom import Rejected, Scan, Series, numbered
from volseg.dicom.choice.channels import words_of
from volseg.dicom.choice.selection import AS_MASK
from volseg.dicom.series.series import put_aside
from volseg.errors import UsageError
from volseg.outcomes import Status
from volseg.words import listed

if TYPE_CHECKING:
    from volseg.dicom.labels.mask_series import NamedSeries
    from volseg.progress import Progress
    from volseg.pseudonyms import Naming
    from volseg.verbs.convert.options import ConvertOptions

SHOWN_NAMES = 40


@dataclass(frozen=True, eq=False)
class ChosenMasks:
    """The series of a scan that are to be masks.

    Args:
        found: the scan, where they stand among the rejected with the code ``as-mask``.
        masks: that are to be drawn.
        told: those of the rejected that stand for masks or can't be any: they are told whatever images are chosen.
    """

    found: Scan
    masks: tuple[NamedSeries, ...] = ()
    told: frozenset[Rejected] = frozenset()


def take_masks(found: Scan, options: ConvertOptions, naming: Naming | None, progress: Progress) -> ChosenMasks:
    """Take the series that are to be masks out of a scan.

    A series is one where its folder, description, number, or case's name with or without the hash fits a pattern. Names
    that come from folders are told, since they are kept.

    Raises:
        UsageError: no series fits or all do, one fits several names, or one lies in no folder that names it.
    """
    choices = options.mask_choices
    if not choices:
        return ChosenMasks(found)
    from volseg.dicom.labels.mask_series import INCOMPLETE, NamedSeries, folder_name, folder_of

    masks: list[NamedSeries] = []
    stand_ins: dict[Series | Rejected, Rejected] = {}
    for number, one in numbered(found):
        if one in found.passed:
            continue
        folder = one.source if isinstance(one, Rejected) else folder_of(one)
        words = [*words_of(number, one, naming), folder]
        fitting = [choice for choice in choices if choice.matches(words)]
        named = [choice for choice in fitting if choice.name] or fitting[:1]
        if len(named) > 1:
            names = " and ".join(repr(choice.name) for choice in named)
            raise UsageError(f"Series {number} fits the masks {names}. Write the patterns so that each fits one.")
        if not named:
            continue
        if isinstance(one, Rejected):
            # Skipped or not, a structure is missing now.
            stand_ins[one] = replace(one, status=Status.REFUSED)
            continue
        name = named[0].name or folder_name(one)
        if not name:
            raise UsageError(f"Series {number} lies in no folder to name its mask by. Write NAME=PATTERN.")
        masks.append(NamedSeries(one, name, bool(named[0].name)))
        stand_ins[one] = put_aside(one, AS_MASK, f"It is the mask of {name}.")
    if not stand_ins:
        raise UsageError("No series fits --masks-from. --dry-run shows what they are called and where they lie.")
    if len(stand_ins) == len(found.series) + len(found.rejected):
        raise UsageError("Every series fits --masks-from, so that none is left to be the image. Name the masks alone.")
    faulty = {one.identity.study_uid for one in stand_ins if isinstance(one, Rejected)} - {""}
    for one in stand_ins:
        if isinstance(one, Series) and one.identity.study_uid in faulty:
            stand_ins[one] = put_aside(one, INCOMPLETE.code, INCOMPLETE.message)
    masks = [mask for mask in masks if stand_ins[mask.series].code == AS_MASK]
    kept = sorted({mask.name for mask in masks if not mask.given})
    if kept:
        progress.say(f"names of folders that are kept as labels: {listed(kept, SHOWN_NAMES)}")
    others = tuple(one for one in found.series if one not in stand_ins)
    taken = (stand_ins[one] for one in found.series if one in stand_ins)
    rejected = (stand_ins.get(one, one) for one in found.rejected)
    whole = replace(found, series=others, rejected=(*rejected, *taken))
    return ChosenMasks(whole, tuple(masks), frozenset(stand_ins.values()))
