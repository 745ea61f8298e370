"""In which elements the volumes of one series differ."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.dicom_traps.stack import ROOT, SOP_CLASSES
from tests.dicom_traps.volumes import csa

SetTags = Callable[[Dataset, int], None]
"""Sets what differs, by the volume."""


@dataclass(frozen=True)
class Kind:
    """An element in which volumes differ.

    Args:
        name: of its traps.
        set_tags: what is set for each volume.
        modality: of the images.
        says: a pattern of what a refusal names.
        cautious: whether a whole volume may be refused too where files of the other are lost.
        syntax: in which the files are written.
    """

    name: str
    set_tags: SetTags
    modality: str = "MR"
    says: str = ""
    cautious: bool = False
    syntax: str = ExplicitVRLittleEndian


def either(keyword: str, first: object, second: object) -> SetTags:
    """An element with one value in the first volume and another in the second."""

    def set_tags(data: Dataset, volume: int) -> None:
        setattr(data, keyword, second if volume else first)

    return set_tags


def counted(keyword: str) -> SetTags:
    """An element that counts the volumes."""

    def set_tags(data: Dataset, volume: int) -> None:
        setattr(data, keyword, volume + 1)

    return set_tags


def private(group: int, block: int, creator: str, element: int, vr: str, first: object, second: object) -> SetTags:
    """A private element (PS3.5, 7.8): its block is that of its creator."""

    def set_tags(data: Dataset, volume: int) -> None:
        data.add_new((group, block), "LO", creator)
        data.add_new((group, block << 8 | element), vr, second if volume else first)

    return set_tags


def _set_csa(data: Dataset, volume: int) -> None:
    data.Manufacturer, data.ScanningSequence = "SIEMENS", "EP"
    data.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    data.add_new(0x00291010, "OB", csa({"B_value": ("IS", [f"{1000 * volume:<8}"])}))


def _set_modality(data: Dataset, volume: int) -> None:
    if volume:
        data.Modality, data.SOPClassUID = "MR", SOP_CLASSES["MR"]
        del data.RescaleType


def _set_direction(data: Dataset, volume: int) -> None:
    data.DiffusionBValue = 1000.0
    data.DiffusionGradientOrientation = [0.0, 0.6, 0.8] if volume else [0.6, 0.8, 0.0]


def _set_weight(data: Dataset, volume: int) -> None:
    data.DiffusionBValue = 1000.0 * volume


def _set_weight_of_some(data: Dataset, volume: int) -> None:
    """Many scanners leave the b-value out where nothing is weighted."""
    if volume:
        data.DiffusionBValue = 1000.0


def _set_ge(data: Dataset, volume: int) -> None:
    data.Manufacturer = "GE MEDICAL SYSTEMS"
    # The values behind the first are other settings.
    private(0x0043, 0x10, "GEMS_PARM_01", 0x39, "IS", [0, 8, 0, 0], [1000, 8, 0, 0])(data, volume)


def _set_ge_large(data: Dataset, volume: int) -> None:
    """Newer GE software adds 1e9 to the b-value."""
    data.Manufacturer = "GE MEDICAL SYSTEMS"
    first, second = [1000000050, 6, 0, 0], [1000000800, 6, 0, 0]
    private(0x0043, 0x11, "GEMS_PARM_01", 0x39, "IS", first, second)(data, volume)


def directed(group: int, creator: str, *elements: tuple[int, str]) -> SetTags:
    """A gradient direction in private elements: one of three numbers, or one for each."""

    def set_tags(data: Dataset, volume: int) -> None:
        data.DiffusionBValue = 1000.0
        direction = [0.0, 0.6, 0.8] if volume else [0.6, 0.8, 0.0]
        data.add_new((group, 0x10), "LO", creator)
        for place, (element, vr) in enumerate(elements):
            value = direction if len(elements) == 1 else direction[place]
            data.add_new((group, 0x1000 | element), vr, str(value) if vr == "DS" else value)

    return set_tags


def _set_contrast_after(data: Dataset, volume: int) -> None:
    """Before contrast is given, most scanners leave the element out."""
    if volume:
        data.ContrastBolusAgent = "OMNIPAQUE 300"


TIMES = "TemporalPositionIdentifier"
POINTS_IN_TIME = Kind("time", counted(TIMES), says=TIMES)

KINDS = (
    Kind("patient", either("PatientID", "TRAP", "TRAP2"), says="PatientID"),
    Kind("study", either("StudyInstanceUID", f"{ROOT}.1", f"{ROOT}.2"), cautious=True),
    Kind("frame-of-reference", either("FrameOfReferenceUID", f"{ROOT}.9.1", f"{ROOT}.9.2"), cautious=True),
    Kind("modality", _set_modality, modality="CT", cautious=True),
    Kind(
        "magnitude-or-phase",
        either("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
        says="ImageType",
    ),
    Kind(
        "water-or-fat",
        either("ImageType", ["DERIVED", "PRIMARY", "DIXON", "WATER"], ["DERIVED", "PRIMARY", "DIXON", "FAT"]),
        says="ImageType",
    ),
    Kind(
        "image-type-fifth",
        either("ImageType", ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"], ["ORIGINAL", "PRIMARY", "M", "ND", "MEAN"]),
        says="ImageType",
    ),
    Kind("echo-time", either("EchoTime", "4.6", "9.2"), says="EchoTime"),
    Kind("echo-number", counted("EchoNumbers"), says="EchoNumbers"),
    Kind("b-value", _set_weight, says="DiffusionBValue"),
    Kind("b-value-of-some", _set_weight_of_some, says="DiffusionBValue"),
    Kind("b-value-siemens", private(0x0019, 0x11, "SIEMENS MR HEADER", 0x0C, "IS", "0", "1000")),
    Kind("b-value-siemens-unknown", private(0x0019, 0x10, "SIEMENS MR HEADER", 0x0C, "UN", b"50", b"1000")),
    Kind("b-value-siemens-csa", _set_csa),
    Kind("b-value-ge", _set_ge),
    Kind("b-value-ge-large", _set_ge_large),
    Kind("b-value-philips", private(0x2001, 0x10, "Philips Imaging DD 001", 0x03, "FL", 0.0, 1000.0)),
    Kind(
        "b-value-philips-unknown",
        private(0x2001, 0x12, "Philips Imaging DD 001", 0x03, "UN", struct.pack("<f", 0.0), struct.pack("<f", 1000.0)),
    ),
    Kind(
        "b-value-philips-implicit",
        private(0x2001, 0x10, "Philips Imaging DD 001", 0x03, "FL", 0.0, 1000.0),
        syntax=ImplicitVRLittleEndian,
    ),
    Kind("b-value-uih", private(0x0065, 0x10, "Image Private Header", 0x09, "FD", 0.0, 1000.0)),
    Kind("direction", _set_direction, says="DiffusionGradientOrientation"),
    Kind("direction-siemens", directed(0x0019, "SIEMENS MR HEADER", (0x0E, "FD"))),
    Kind(
        "direction-philips",
        directed(0x2005, "Philips MR Imaging DD 001", (0xB0, "FL"), (0xB1, "FL"), (0xB2, "FL")),
    ),
    Kind("direction-ge", directed(0x0019, "GEMS_ACQU_01", (0xBB, "DS"), (0xBC, "DS"), (0xBD, "DS"))),
    Kind("direction-uih", directed(0x0065, "Image Private Header", (0x37, "FD"))),
    Kind("magnitude-or-phase-ge", private(0x0043, 0x10, "GEMS_PARM_01", 0x2F, "SS", 0, 1)),
    POINTS_IN_TIME,
    Kind("inversion-time", either("InversionTime", "150", "2500"), says="InversionTime"),
    Kind("flip-angle", either("FlipAngle", "3", "20"), says="FlipAngle"),
    Kind("repetition-time", either("RepetitionTime", "500", "2000"), says="RepetitionTime"),
    Kind("kernel", either("ConvolutionKernel", "B30f", "B70f"), modality="CT", says="ConvolutionKernel"),
    Kind(
        "kernel-second-value",
        either("ConvolutionKernel", ["Br40d", "3"], ["Br40d", "5"]),
        modality="CT",
        says="ConvolutionKernel",
    ),
    Kind("contrast", either("ContrastBolusAgent", "NONE", "OMNIPAQUE 300"), modality="CT", says="ContrastBolusAgent"),
    Kind("contrast-after", _set_contrast_after, modality="CT", says="ContrastBolusAgent"),
    Kind(
        "contrast-phase",
        either("ContrastBolusAgentPhase", "ARTERIAL", "PORTAL_VENOUS"),
        modality="CT",
        says="ContrastBolusAgentPhase",
    ),
)


def _set_acquisition(data: Dataset, volume: int) -> None:
    data.AcquisitionNumber = volume + 1


ACQUISITION = Kind("acquisition", _set_acquisition, modality="CT", cautious=True)
"""One volume may have many AcquisitionNumbers, so where no position repeats they tell nothing."""
