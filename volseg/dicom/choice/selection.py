"""Selection of series by number, name and modality."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from volseg.dicom import Rejected, Scan, Series, numbered, short_name
from volseg.dicom.series.series import LOCALIZER, put_aside
from volseg.errors import UsageError
from volseg.options import words_of
from volseg.outcomes import Status
from volseg.pseudonyms import Naming

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from volseg.dicom.choice.options import SeriesChoice

NOT_CHOSEN = "not-chosen"
AS_MASK = "as-mask"
"""The code of a series that is no image but a mask: it is drawn, whatever images are chosen."""
OTHER_MODALITY = "other-modality"
NOT_CHOSEN_KIND = "image of a series that was not chosen"


def select(found: Scan, options: SeriesChoice, naming: Naming | None, told: Container[Rejected] = ()) -> Scan:
    """The scan with each series that is not wanted among the rejected ones, skipped with the code ``not-chosen``.

    A series is wanted by its number, its case's name, or that name without the hash; and by its modality. Those of the
    rejected that are ``told`` of stay in any case.

    Raises:
        UsageError: nothing has a number, name or modality that was given.
    """
    wanted = set(words_of(options.series))
    modalities = {word.upper() for word in words_of(options.modality)}
    if not wanted and not modalities:
        return found
    everything: Sequence[tuple[int, Series | Rejected]] = numbered(found)
    names = {id(one): _names(number, one, naming) for number, one in everything}
    unknown = wanted - {name for known in names.values() for name in known}
    unknown |= modalities - {one.modality for _, one in everything}
    if unknown:
        raise UsageError(
            f"No series here is called {', '.join(sorted(unknown))}. --dry-run shows the numbers, names and modalities "
            "that there are."
        )

    def is_wanted(one: Series | Rejected) -> bool:
        if isinstance(one, Rejected) and one in told:
            return True
        return (not wanted or not wanted.isdisjoint(names[id(one)])) and (not modalities or one.modality in modalities)

    # A localizer that is named is told of, not converted: numbers alone are soon mistyped.
    named = tuple(filter(is_wanted, found.passed)) if wanted else ()
    others = (left_out(one) for _, one in everything if one not in found.passed and not is_wanted(one))
    return replace(
        found,
        series=tuple(filter(is_wanted, found.series)),
        rejected=(*filter(is_wanted, found.rejected), *named, *others),
        passed=tuple(one for one in found.passed if one not in named),
        skipped_kinds=Counter(found.skipped_kinds) - Counter({LOCALIZER: sum(one.count for one in named)}),
    )


def fitting(found: Scan, modality: str) -> Scan:
    """The scan with the series of other modalities skipped, where their study has one of this modality.

    Args:
        found: the scan.
        modality: that is wanted, as DICOM names it.
    """
    there: tuple[Series | Rejected, ...] = (
        *found.series,
        *(one for one in found.rejected if one.status is Status.REFUSED),
    )
    studies = {one.identity.study_uid for one in there if one.modality == modality}

    def is_aside(one: Series | Rejected) -> bool:
        return one.modality != modality and one.identity.study_uid in studies

    why = f"Its study has {modality}, which the bundle was made for. --series or --modality takes it all the same."
    others = (put_aside(one, OTHER_MODALITY, why) for one in there if is_aside(one))
    return replace(
        found,
        series=tuple(one for one in found.series if not is_aside(one)),
        rejected=(*(one for one in found.rejected if one not in there or not is_aside(one)), *others),
    )


def chosen(found: Scan) -> Scan:
    """The scan without masks, and without series that were left out, whose images ``skipped_kinds`` counts instead."""
    found = replace(found, rejected=tuple(one for one in found.rejected if one.code != AS_MASK))
    images = sum(one.count for one in found.rejected if one.code == NOT_CHOSEN)
    if not images:
        return found
    kinds = Counter(found.skipped_kinds) + Counter({NOT_CHOSEN_KIND: images})
    return replace(
        found, rejected=tuple(one for one in found.rejected if one.code != NOT_CHOSEN), skipped_kinds=dict(kinds)
    )


def _names(number: int, one: Series | Rejected, naming: Naming | None) -> set[str]:
    names = {str(number), short_name(one)}
    return names | {naming.case(one.identity, one.modality)} if naming else names


def left_out(one: Series | Rejected) -> Rejected:
    """A series that is not wanted."""
    return put_aside(one, NOT_CHOSEN, "It was not chosen.")
