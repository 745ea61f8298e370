"""Acquisition parameters from an allow-list: numbers within bounds and words from closed lists, nothing of the patient.

Whatever is not on a list here stays in the DICOM files. Free text never passes, and a number outside its bounds is
taken for something else in disguise, such as a date.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.dicom.series.component import COMPONENT_WORDS, COMPONENTS, component_of
from volseg.dicom.series.diffusion import diffusion_of
from volseg.dicom.series.sameness import KERNELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.dicom.file.header import Header
    from volseg.dicom.series.series import Fact, Rejected, Series

_NUMBERS: tuple[tuple[str, int, float, float], ...] = (
    ("slice_thickness_mm", tags.SLICE_THICKNESS, 0.001, 500),
    ("spacing_between_slices_mm", tags.SPACING_BETWEEN_SLICES, -500, 500),
    ("tube_voltage_kv", tags.KVP, 1, 500),
    ("tube_current_ma", tags.XRAY_TUBE_CURRENT, 0, 5000),
    ("exposure_time_ms", tags.EXPOSURE_TIME, 0, 600_000),
    ("exposure_mas", tags.EXPOSURE, 0, 100_000),
    ("reconstruction_diameter_mm", tags.RECONSTRUCTION_DIAMETER, 1, 2000),
    ("repetition_time_ms", tags.REPETITION_TIME, 0, 100_000),
    ("echo_time_ms", tags.ECHO_TIME, 0, 10_000),
    ("inversion_time_ms", tags.INVERSION_TIME, 0, 100_000),
    ("flip_angle_degrees", tags.FLIP_ANGLE, 0, 360),
    ("field_strength_tesla", tags.MAGNETIC_FIELD_STRENGTH, 0, 25),
    ("echo_train_length", tags.ECHO_TRAIN_LENGTH, 0, 10_000),
    ("pixel_bandwidth_hz", tags.PIXEL_BANDWIDTH, 0, 100_000),
    ("averages", tags.NUMBER_OF_AVERAGES, 0, 1000),
    ("echo_number", tags.ECHO_NUMBERS, 0, 1000),
    ("trigger_time_ms", tags.TRIGGER_TIME, 0, 1_000_000),
    ("acquisition_number", tags.ACQUISITION_NUMBER, 0, 99_999),
    ("time_point", tags.TEMPORAL_POSITION_IDENTIFIER, 0, 99_999),
    ("time_points", tags.NUMBER_OF_TEMPORAL_POSITIONS, 0, 99_999),
)
_COUNTS = frozenset({"echo_number", "acquisition_number", "time_point", "time_points", "echo_train_length"})
"""Numbers that are whole; any other value of theirs is taken for something else."""

_WORDS: tuple[tuple[str, int, frozenset[str]], ...] = (
    (
        "patient_position",  # PS3.3 C.7.3.1.1.2
        tags.PATIENT_POSITION,
        frozenset({"HFP", "HFS", "HFDR", "HFDL", "FFP", "FFS", "FFDR", "FFDL", "LFP", "LFS", "RFP", "RFS", "AFDR",
                   "AFDL", "PFDR", "PFDL"}),
    ),
    ("scanning_sequence", tags.SCANNING_SEQUENCE, frozenset({"SE", "IR", "GR", "EP", "RM"})),
    ("mr_acquisition_type", tags.MR_ACQUISITION_TYPE, frozenset({"1D", "2D", "3D"})),
    ("photometric_interpretation", tags.PHOTOMETRIC_INTERPRETATION, frozenset({"MONOCHROME1", "MONOCHROME2"})),
    ("rescale_type", tags.RESCALE_TYPE, frozenset({"HU", "US", "OD", "PCT"})),
    ("units", tags.UNITS, frozenset({"BQML", "CNTS", "CPS", "GML", "CM2ML", "PCNT", "PROPCPS", "PROPCNTS", "NONE"})),
    (
        "contrast_phase",  # PS3.3 C.7.6.4b.1
        tags.CONTRAST_BOLUS_AGENT_PHASE,
        frozenset({"PRE_CONTRAST", "POST_CONTRAST", "IMMEDIATE", "DYNAMIC", "STEADY_STATE", "DELAYED", "ARTERIAL",
                   "CAPILLARY", "VENOUS", "PORTAL_VENOUS"}),
    ),
    ("burned_in_annotation", tags.BURNED_IN_ANNOTATION, frozenset({"YES", "NO"})),
    (
        "body_part",  # the commonest of PS3.16, annex L
        tags.BODY_PART_EXAMINED,
        frozenset({"HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "SINUS", "IAC", "JAW", "NECK", "HEADNECK", "CSPINE",
                   "TSPINE", "LSPINE", "SPINE", "WHOLESPINE", "CHEST", "LUNG", "HEART", "BREAST", "ABDOMEN", "LIVER",
                   "KIDNEY", "PANCREAS", "ABDOMENPELVIS", "CHESTABDOMEN", "CHESTABDPELVIS", "PELVIS", "PROSTATE",
                   "BLADDER", "HIP", "KNEE", "ANKLE", "FOOT", "LEG", "SHOULDER", "ELBOW", "WRIST", "HAND", "ARM",
                   "EXTREMITY", "WHOLEBODY"}),
    ),
)  # fmt: skip

_MAKERS = (
    ("SIEMENS", "Siemens"), ("GE ", "GE"), ("GENERAL ELECTRIC", "GE"), ("GEMS", "GE"), ("PHILIPS", "Philips"),
    ("TOSHIBA", "Canon"), ("CANON", "Canon"), ("HITACHI", "Hitachi"), ("FUJIFILM", "Fujifilm"),
    ("SHIMADZU", "Shimadzu"), ("VARIAN", "Varian"), ("ELEKTA", "Elekta"), ("UIH", "United Imaging"),
    ("UNITED IMAGING", "United Imaging"), ("NEUSOFT", "Neusoft"), ("BRUKER", "Bruker"), ("ESAOTE", "Esaote"),
    ("PMOD", "PMOD"), ("ACCURAY", "Accuray"),
)  # fmt: skip
"""How a maker's name begins, and what is kept of it."""


_SHOWS = {
    **dict.fromkeys(("ADC", "ADC_UNSPECIFIED"), "ADC"),
    **dict.fromkeys(("EADC", "EXPONENTIAL_ADC"), "exponential ADC"),
    **dict.fromkeys(("FA", "FRACT_ANISO", "FRACTIONAL_ANISOTROPY"), "fractional anisotropy"),
    **dict.fromkeys(("TRACEW", "TRACE", "ISOTROPIC"), "trace"),
    **dict.fromkeys(("WATER", "W"), "water"),
    **dict.fromkeys(("FAT", "F"), "fat"),
    **dict.fromkeys(("IN_PHASE", "INPHASE", "IP"), "in phase"),
    **dict.fromkeys(("OUT_PHASE", "OUT_OF_PHASE", "OPPOSED_PHASE", "OPP_PHASE", "OP"), "out of phase"),
    **dict.fromkeys(("FAT_FRACTION", "FF", "FATFRACTION", "FAT_FRAC"), "fat fraction"),
    **dict.fromkeys(("WATER_FRACTION", "WF"), "water fraction"),
    **dict.fromkeys(("T1_MAP", "T1 MAP"), "T1 map"),
    **dict.fromkeys(("T2_MAP", "T2 MAP"), "T2 map"),
    **dict.fromkeys(("T2_STAR", "T2_STAR_MAP", "T2_STAR MAP"), "T2* map"),
    **dict.fromkeys(("R2_STAR", "R2_STAR_MAP", "R2_STAR MAP"), "R2* map"),
    **dict.fromkeys(("B0_MAP", "B0 MAP", "FIELD_MAP", "FIELDMAP"), "field map"),
    **dict.fromkeys(("CBF", "RCBF", "RELCBF"), "cerebral blood flow"),
    **dict.fromkeys(("CBV", "RCBV", "RELCBV"), "cerebral blood volume"),
    **dict.fromkeys(("MTT", "RELMTT"), "mean transit time"),
    **dict.fromkeys(("TTP",), "time to peak"),
    **dict.fromkeys(("TMAX",), "time to maximum"),
    **dict.fromkeys(("VELOCITY", "VELOCITY MAP", "VELOCITY_MAP"), "velocity"),
    **dict.fromkeys(("SUBTRACTION", "SUB", "SUBTRACTED"), "subtraction"),
    **dict.fromkeys(("MIP", "MAX_IP", "MAXIMUM"), "maximum projection"),
    **dict.fromkeys(("MINIP", "MIN_IP", "MNIP", "MINIMUM"), "minimum projection"),
    **dict.fromkeys(("MPR", "MULTIPLANAR_REFORMATTED", "REFORMATTED"), "reformatted"),
    **dict.fromkeys(("AVERAGE", "MEAN", "AVG"), "average"),
}
"""What words of ImageType say of the image, in words for a person; those that nobody needs to be told are left out."""
_IMAGE_TYPES = frozenset(
    {*_SHOWS, *COMPONENT_WORDS, "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "OTHER",
     "VOLUME", "NONE", "MIXED", "ND", "NORM", "DIS2D", "DIS3D", "MOSAIC", "MOCO", "SE", "FFE", "IR", "TSE", "GRE",
     "EPI", "PCA", "DIFFUSION", "FMRI", "PERFUSION", "ASL", "DYNAMIC", "FLOW_ENCODED", "ANGIO", "TOF", "SWI", "DIXON",
     "CSA MPR", "CSA RESAMPLED", "RESAMPLED", "FILTERED", "PROJECTION IMAGE", "STATIC", "GATED", "WHOLE BODY"}
)  # fmt: skip


def acquisition_facts(series: Series) -> dict[str, Fact]:
    """The facts on which all slices of a series agree."""
    headers = list({id(image.header): image.header for image in series.slices}.values())
    facts: dict[str, Fact] = {}
    for name, tag, low, high in _NUMBERS:
        number = _agreed_number(headers, tag)
        if number is None or not low <= number <= high or (name in _COUNTS and not number.is_integer()):
            continue
        facts[name] = int(number) if name in _COUNTS else number
    for name, tag, allowed in _WORDS:
        words = _shared(headers, tag)
        if words and set(words) <= allowed:
            facts[name] = "+".join(words)
    types = "+".join(word for word in _shared(headers, tags.IMAGE_TYPE) if word in _IMAGE_TYPES)
    if types:
        facts["image_type"] = types
    if series.modality == "MR":
        facts |= _of_mr([headers[0], headers[-1]])  # those between agree, or it would be no volume
    kernel = _shared(headers, tags.CONVOLUTION_KERNEL)[:1]
    if kernel and KERNELS.fullmatch(kernel[0]):
        facts["kernel"] = kernel[0]
    maker = " ".join(_shared(headers, tags.MANUFACTURER)).upper() + " "
    for beginning, kept in _MAKERS:
        if maker.startswith(beginning):
            facts["manufacturer"] = kept
            break
    return facts


def _of_mr(headers: list[Header]) -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    components = {component_of(header) for header in headers}
    if len(components) == 1 and "" not in components:
        found["component"] = components.pop()
    diffusion = {diffusion_of(header) for header in headers}
    if len(diffusion) == 1:
        (one,) = diffusion
        if one.b_value_s_mm2 is not None:
            found["b_value_s_mm2"] = one.b_value_s_mm2
        # The public element should be along the patient's axes, which some makers don't keep to.
        if one.direction and one.of_patient:
            found["diffusion_direction_lps"] = tuple(round(number, 6) for number in one.direction)
    return found


def _agreed_number(headers: list[Header], tag: int) -> float | None:
    """The first number of an element, where that is the same in all."""
    by_text = {header.values.get(tag): header for header in headers}
    numbers = {header.number(tag) for header in by_text.values()}
    return numbers.pop() if len(numbers) == 1 else None


def _shared(headers: list[Header], tag: int) -> tuple[str, ...]:
    by_text = {header.values.get(tag): header for header in headers}
    values = {header.texts(tag) for header in by_text.values()}
    return values.pop() if len(values) == 1 else ()


def with_facts(built: Sequence[Series | Rejected]) -> list[Series | Rejected]:
    """The same, each ``Series`` with its facts, and with what it shows among the volumes of its series."""
    from volseg.dicom.series.series import Series

    volumes = [replace(one, facts=acquisition_facts(one)) for one in built if isinstance(one, Series)]
    groups: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for volume in volumes:
        groups[volume.identity.study_uid, volume.identity.series_uid].append(volume)
    words = {id(volume): told for group in groups.values() for volume, told in zip(group, shown(group), strict=True)}
    complete = iter([replace(volume, shows=words[id(volume)]) for volume in volumes])
    return [next(complete) if isinstance(one, Series) else one for one in built]


def shown(volumes: Sequence[Series]) -> tuple[str, ...]:
    """What each volume of a series shows, in short words: what is no matter of course, and what tells it from the others.

    Such as ``phase``, ``b 1000``, ``echo 2 (9.2 ms)`` or ``fat, time point 3 of 10``. Where all that tells some of them
    apart is the order in which they were taken, the number that names them has to do.
    """
    words = [_words_of(volume.facts) for volume in volumes]
    named = [_PART.sub(r"\1 \2, ", volume.identity.part).strip("_, ") for volume in volumes]
    names = {name for one in words for name in one}
    differing = {name for name in names if len({one.get(name) for one in words}) > 1}
    # Of the others some may have been refused: the name still says what tells a volume from them.
    parts = {part for volume in volumes for part, _ in _PART.findall(volume.identity.part)}
    differing |= {name for part in parts for name in _OF_PART.get(part, ())}
    told = [{name: text for name, text in one.items() if name in _ALWAYS | differing - _LAST} for one in words]
    by_number = [{name: text for name, text in one.items() if name in _LAST & differing} for one in words]
    by_name = [{"name": text} if text else {} for text in named]
    for more in (by_number, by_name):
        counts = Counter(tuple(one.items()) for one in told)
        told = [one | extra if counts[tuple(one.items())] > 1 else one for one, extra in zip(told, more, strict=True)]
    alone = (number or name for number, name in zip(by_number, by_name, strict=True))
    told = [one or other for one, other in zip(told, alone, strict=True)]
    return tuple(", ".join(dict.fromkeys(one.values())) for one in told)


_PART = re.compile(r"([a-z]+)0*(\d+)_?")
"""How one volume of several is named, such as echo1_time03."""
_OF_PART = {
    "acq": ("acquisition_number",),
    "b": ("b", "weighted"),
    "direction": ("direction",),
    "echo": ("echo",),
    "flip": ("flip_angle_degrees",),
    "inversion": ("inversion_time_ms",),
    "phase": ("trigger_time_ms",),
    "repetition": ("repetition_time_ms",),
    "time": ("time",),
    "type": ("of magnitude",),
}
"""The words of what such a name numbers."""
_LAST = frozenset({"acquisition_number"})
"""Told only where nothing else tells volumes apart."""
_ALWAYS = frozenset({"component", "shows", "weighted", "kernel", "contrast_phase"})


def _words_of(facts: Mapping[str, Fact]) -> dict[str, str]:
    """The words for a volume's facts, in the order in which they are told."""
    found: dict[str, str] = {}
    component, b_value, echo = facts.get("component"), facts.get("b_value_s_mm2"), facts.get("echo_number")
    if component not in (None, COMPONENTS[0]):
        found["component"] = str(component)
    elif component is not None:
        found["of magnitude"] = str(component)
    shows = [_SHOWS[word] for word in str(facts.get("image_type", "")).split("+") if word in _SHOWS]
    if shows:
        found["shows"] = ", ".join(dict.fromkeys(shows))
    if b_value is not None:
        found["weighted" if b_value else "b"] = f"b {b_value:g}"
    direction = facts.get("diffusion_direction_lps")
    if isinstance(direction, tuple):
        found["direction"] = "direction " + " ".join(f"{number:.2f}" for number in direction)
    echo_ms = facts.get("echo_time_ms")
    if echo is not None or echo_ms is not None:
        number = "" if echo is None else f" {echo}"
        found["echo"] = f"echo{number} ({echo_ms:g} ms)" if echo_ms is not None else f"echo{number}"
    for name, form in _NUMBERS_IN_WORDS:
        if name in facts:
            found[name] = form.format(facts[name])
    if "time_point" in facts:
        of = f" of {facts['time_points']}" if "time_points" in facts else ""
        found["time"] = f"time point {facts['time_point']}{of}"
    if "contrast_phase" in facts:
        found["contrast_phase"] = str(facts["contrast_phase"]).lower().replace("_", " ")
    if "kernel" in facts:
        found["kernel"] = f"kernel {facts['kernel']}"
    return found


_NUMBERS_IN_WORDS = (
    ("inversion_time_ms", "inversion {:g} ms"),
    ("flip_angle_degrees", "flip {:g} degrees"),
    ("repetition_time_ms", "repetition {:g} ms"),
    ("trigger_time_ms", "trigger {:g} ms"),
    ("acquisition_number", "acquisition {}"),
)
