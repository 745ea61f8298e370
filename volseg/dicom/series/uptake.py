"""Standardised uptake values (SUVbw) of PET, from dose, weight and times in the header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.dicom.file.elements import Wanted
from volseg.dicom.file.header import read_items
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.dicom.file.elements import ElementValues, Item
    from volseg.dicom.series.series import Series

SUV = "suv"
"""The code of the change."""
MIN_WEIGHT_KG, MAX_WEIGHT_KG = 0.01, 500.0
"""From a mouse to the heaviest patients; a weight in grams or of 0 is none."""
MIN_DOSE_BQ, MAX_DOSE_BQ = 1e4, 1e11
"""Patients get some 1e7 to 2e9 Bq; a dose in MBq, as some enter it, is far below."""
MIN_HALF_LIFE_S, MAX_HALF_LIFE_S = 10.0, 1e7
"""Rubidium-82 has 76 s, iodine-124 has 360,000 s; minutes in place of seconds for fluorine-18 would still be 110, so
``MAX_HALF_LIVES`` is the check that finds them."""
MAX_HALF_LIVES = 12.0
"""Between injection and scan: after that nothing is left to measure."""
MAX_OVERNIGHT = timedelta(hours=12)
"""Without a date, an injection time after the scan's means the evening before, if the scan is no later than this."""
SAME_MOMENT = timedelta(seconds=2)

_RADIONUCLIDE_TOTAL_DOSE = 0x00181074
_RADIONUCLIDE_HALF_LIFE = 0x00181075
_START_TIME = 0x00181072
_START_DATE_TIME = 0x00181078
_WANTED = Wanted(
    frozenset({_RADIONUCLIDE_TOTAL_DOSE, _RADIONUCLIDE_HALF_LIFE, _START_TIME, _START_DATE_TIME}),
    frozenset({tags.RADIOPHARMACEUTICAL_INFORMATION_SEQUENCE}),
)
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?")


@dataclass(frozen=True)
class Injection:
    """What a patient was given.

    Args:
        dose_bq: when it was given.
        half_life_s: of the radionuclide.
        time: of the day, from midnight; None where absent.
        moment: with its date; None where absent.
    """

    dose_bq: float
    half_life_s: float
    time: timedelta | None
    moment: datetime | None


def suv_factor(series: Series) -> float:
    """By what an activity in Bq/ml is multiplied to give the uptake by body weight, SUVbw in g/ml.

    SUVbw = activity * weight in g / dose at the moment that the activity is corrected to. With DecayCorrection ADMIN
    that moment is the injection, and the dose the injected one. With START it is the start of the scan, and the dose
    has decayed since: dose * 2 ** -(scan start - injection) / half-life. The start is SeriesDate and SeriesTime where
    no image was acquired before it; else, since then the series was made anew, GE's private time of the scan, or the
    earliest AcquisitionDate and AcquisitionTime. So has it the Quantitative Imaging Biomarkers Alliance's
    vendor-neutral pseudo-code, happy path (QIBA wiki, "Standardized Uptake Value (SUV)"), with the attributes of
    PS3.3, C.8.9.1 and C.8.9.2.

    Args:
        series: of PET images.

    Raises:
        InputError: ``suv-units``, the values are no Bq/ml; ``suv-facts-missing``, a fact is absent, differs between
            images, or can't be true beside the others.
        FileError: a file can't be read.
    """
    headers = [image.header for image in series.slices]
    units = _shared(headers, tags.UNITS, "its units")
    if units != "BQML":
        raise InputError(
            "Only activity in Bq/ml can be made uptake, and this series has other units or names none. Convert it "
            "without --suv.",
            code="suv-units",
        )
    corrected = _shared(headers, tags.CORRECTED_IMAGE, "its corrections").split("\\")
    if not {"ATTN", "DECY"} <= {word.strip() for word in corrected}:
        raise _missing("it is not corrected for attenuation and decay")
    correction = _shared(headers, tags.DECAY_CORRECTION, "the kind of its decay correction")
    if correction not in ("START", "ADMIN"):
        raise _missing("it doesn't say to which moment decay is corrected")
    weight_kg = headers[0].number(tags.PATIENT_WEIGHT)
    _shared(headers, tags.PATIENT_WEIGHT, "the weight")
    if weight_kg is None or not MIN_WEIGHT_KG <= weight_kg <= MAX_WEIGHT_KG:
        raise _missing("the weight is absent or can't be true")
    injection = _injection(series)
    dose_bq = injection.dose_bq
    if correction == "START":
        half_lives = _delay(series, injection).total_seconds() / injection.half_life_s
        if half_lives > MAX_HALF_LIVES:
            raise _missing("its half-life and the time since the injection can't both be true")
        dose_bq *= 2.0**-half_lives
    return weight_kg * 1000 / dose_bq


def _injection(series: Series) -> Injection:
    """What was injected, on which all images have to agree."""
    found: set[Injection] = set()
    for image in series.slices:
        items = read_items(image.header, _WANTED).items(tags.RADIOPHARMACEUTICAL_INFORMATION_SEQUENCE)
        if len(items) != 1:
            raise _missing("it names no injection" if not items else "it names several injections")
        found.add(_injection_of(items[0]))
    if len(found) > 1:
        raise _missing("its images disagree on the injection")
    return found.pop()


def _injection_of(item: Item) -> Injection:
    dose_bq, half_life_s = item.number(_RADIONUCLIDE_TOTAL_DOSE), item.number(_RADIONUCLIDE_HALF_LIFE)
    if dose_bq is None or not MIN_DOSE_BQ <= dose_bq <= MAX_DOSE_BQ:
        raise _missing("the injected dose is absent, or no number of Bq that can be true")
    if half_life_s is None or not MIN_HALF_LIFE_S <= half_life_s <= MAX_HALF_LIFE_S:
        raise _missing("the half-life is absent or can't be true")
    text = (
        item.text(_START_DATE_TIME).split("+")[0].split("-")[0].strip()
    )  # an offset from UTC, which is the scan's too
    return Injection(
        dose_bq, half_life_s, _time_of_day(item.text(_START_TIME)), _moment(text[:8], text[8:]) if text else None
    )


def _delay(series: Series, injection: Injection) -> timedelta:
    """From the injection to the start of the scan."""
    start = _scan_start(series)
    if injection.moment is not None:
        delay = start - injection.moment
        if injection.time is not None:
            clock = injection.moment - datetime.combine(injection.moment.date(), datetime.min.time())
            if abs(clock - injection.time) > SAME_MOMENT:
                raise _missing("it gives two times of injection")
    elif injection.time is not None:
        delay = start - datetime.combine(start.date(), datetime.min.time()) - injection.time
        if delay < timedelta(0):
            delay += timedelta(days=1)
            if delay > MAX_OVERNIGHT:
                raise _missing("the injection is later than the scan")
    else:
        raise _missing("the time of the injection is absent")
    if delay < timedelta(0):
        raise _missing("the injection is later than the scan")
    return delay


def _scan_start(series: Series) -> datetime:
    headers = [image.header for image in series.slices]
    acquired = [_moment(one.text(tags.ACQUISITION_DATE), one.text(tags.ACQUISITION_TIME)) for one in headers]
    known = [moment for moment in acquired if moment is not None]
    if len(known) < len(acquired):
        raise _missing("an image has no date and time of acquisition")
    earliest = min(known)
    stated = {_moment(one.text(tags.SERIES_DATE), one.text(tags.SERIES_TIME)) for one in headers}
    start = stated.pop()
    if not stated and start is not None and start <= earliest:
        return start
    scanned = {
        one.text(tags.GE_PET_SCAN_DATE_TIME)
        for one in headers
        if one.text(tags.GE_PET_CREATOR).rstrip() == "GEMS_PETD_01"
    }
    if len(scanned) == 1:
        text = scanned.pop()
        private = _moment(text[:8], text[8:])
        if private is not None and private <= earliest:
            return private
    if series.identity.part:
        # The earliest image of one volume among several is not the start of the scan.
        raise _missing("the start of its scan is absent")
    return earliest


def _moment(date: str, time: str) -> datetime | None:
    clock = _time_of_day(time)
    if clock is None or not _DATE.fullmatch(date):
        return None
    try:
        return datetime.strptime(date, "%Y%m%d") + clock  # both times of a series are of one clock
    except (ValueError, OverflowError):
        return None


def _time_of_day(text: str) -> timedelta | None:
    """A TM value (PS3.5, 6.2) as the time since midnight."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    fraction = int((match[4] or "0").ljust(6, "0"))
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=fraction)


def _shared(headers: Sequence[ElementValues], tag: int, what: str) -> str:
    texts = {header.text(tag) for header in headers}
    if len(texts) > 1:
        raise _missing(f"its images disagree on {what}")
    return texts.pop()


def _missing(what: str) -> InputError:
    return InputError(
        f"The uptake can't be worked out: {what}. Convert the series without --suv, or mend its headers.",
        code="suv-facts-missing",
    )
