"""Acquisition parameters from an allow-list: numbers within bounds and words from closed lists, nothing of the patient.

Whatever is not on a list here stays in the DICOM files. Free text never passes, and a number outside its bounds is
taken for something else in disguise, such as a date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.dicom.file import tags

if TYPE_CHECKING:
    from volseg.dicom.file.header import Header
    from volseg.dicom.series.series import Series

Fact = str | int | float | tuple[float, ...]

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
)

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


def acquisition_facts(series: Series) -> dict[str, Fact]:
    """The facts on which all slices of a series agree."""
    headers = [image.header for image in series.slices]
    facts: dict[str, Fact] = {}
    for name, tag, low, high in _NUMBERS:
        numbers = {header.number(tag) for header in headers}
        number = numbers.pop()
        if not numbers and number is not None and low <= number <= high:
            facts[name] = number
    for name, tag, allowed in _WORDS:
        words = _shared(headers, tag)
        if words and set(words) <= allowed:
            facts[name] = "+".join(words)
    maker = " ".join(_shared(headers, tags.MANUFACTURER)).upper() + " "
    for beginning, kept in _MAKERS:
        if maker.startswith(beginning):
            facts["manufacturer"] = kept
            break
    return facts


def _shared(headers: list[Header], tag: int) -> tuple[str, ...]:
    values = {header.texts(tag) for header in headers}
    return values.pop() if len(values) == 1 else ()
