"""Diffusion weighting, as scanners of each maker write it; every file is written by pydicom."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from tests.dicom_traps.stack import Slice, Stack, save
from tests.dicom_traps.volumes import csa
from volseg.dicom import scan
from volseg.dicom.file.header import read_header
from volseg.dicom.series.diffusion import Diffusion, diffusion_of

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DIRECTION = (0.6, -0.48, 0.64)
SIEMENS, SIEMENS_CSA = (0x0019, "SIEMENS MR HEADER"), (0x0029, "SIEMENS CSA HEADER")
GE, GE_ACQUISITION = (0x0043, "GEMS_PARM_01"), (0x0019, "GEMS_ACQU_01")
PHILIPS, PHILIPS_MR = (0x2001, "Philips Imaging DD 001"), (0x2005, "Philips MR Imaging DD 001")
UIH = (0x0065, "Image Private Header")
OF_GE = [(GE, 0x39, "IS", [700, 8, 0, 0]), *((GE_ACQUISITION, 0xBB + i, "DS", DIRECTION[i]) for i in range(3))]
OF_SIEMENS = [(SIEMENS, 0x0C, "IS", 700), (SIEMENS, 0x0E, "FD", list(DIRECTION))]
OF_PHILIPS = [(PHILIPS, 0x03, "FL", 700.0), *((PHILIPS_MR, 0xB0 + i, "FL", DIRECTION[i]) for i in range(3))]
OF_UIH = [(UIH, 0x09, "FD", 700.0), (UIH, 0x37, "FD", list(DIRECTION))]


def image(
    folder: Path,
    elements: list[Any] = [],  # noqa: B006
    *,
    block: int = 0x10,
    syntax: str = EXPLICIT,
    modality: str = "MR",
    **public: Any,
) -> Diffusion:
    """The diffusion of an image with private elements, each a group with its creator, a number, a VR and a value."""
    data: Dataset = Slice(Stack(modality=modality), 0).dataset()
    for (group, creator), element, vr, value in elements:
        data.add_new((group, block), "LO", creator)
        data.add_new((group, block << 8 | element), vr, value)
    for keyword, value in public.items():
        setattr(data, keyword, value)
    return diffusion_of(read_header(save(folder / "file", data, syntax)))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("block", [0x10, 0x7B, 0xFF])
@pytest.mark.parametrize(
    ("elements", "of_patient"), [(OF_SIEMENS, True), (OF_GE, False), (OF_PHILIPS, True), (OF_UIH, False)]
)
def test_private_elements_of_each_maker(
    elements: list[Any], of_patient: bool, block: int, syntax: str, tmp_path: Path
) -> None:
    found = image(tmp_path, elements, block=block, syntax=syntax)
    assert found.b_value_s_mm2 == 700
    assert found.direction == pytest.approx(DIRECTION)
    assert found.of_patient == of_patient


def test_values_of_unknown_representation_are_read_as_their_maker_writes_them(tmp_path: Path) -> None:
    values = [(SIEMENS, 0x0C, "UN", b"700 "), (SIEMENS, 0x0E, "UN", struct.pack("<3d", *DIRECTION))]
    assert image(tmp_path, values) == Diffusion(700, DIRECTION)
    assert image(tmp_path, [(GE, 0x39, "UN", b"1000000700\\8\\0\\0 ")]).b_value_s_mm2 == 700
    assert image(tmp_path, [(PHILIPS, 0x03, "UN", struct.pack("<f", 700))]).b_value_s_mm2 == 700


@pytest.mark.parametrize(
    ("stored", "b_value"), [(700, 700), (1_000_000_000, 0), (1_000_000_700, 700), (12_000, 12_000)]
)
def test_the_offset_of_ge_is_taken_away(stored: int, b_value: int, tmp_path: Path) -> None:
    assert image(tmp_path, [(GE, 0x39, "IS", [stored, 1073741832, 0, 0])]).b_value_s_mm2 == b_value


def test_public_elements_go_first_and_private_ones_fill_in(tmp_path: Path) -> None:
    public: dict[str, Any] = {"DiffusionBValue": 50.0, "DiffusionGradientOrientation": [0.0, 1.0, 0.0]}
    assert image(tmp_path, OF_SIEMENS, **public) == Diffusion(50, (0, 1, 0))
    assert image(tmp_path, OF_GE, DiffusionBValue=50.0) == Diffusion(50, DIRECTION, of_patient=False)


@pytest.mark.parametrize("of_no_direction", [[0.0, 0.0, 0.0], [float("nan")] * 3, [1.0, 0.0], [7.0, 0.0, 0.0]])
def test_what_is_no_direction_is_none(of_no_direction: list[float], tmp_path: Path) -> None:
    found = image(tmp_path, DiffusionBValue=0.0, DiffusionGradientOrientation=of_no_direction)
    assert found == Diffusion(0)


@pytest.mark.parametrize(
    "elements",
    [
        [(SIEMENS, 0x0C, "IS", -1)],
        [(SIEMENS, 0x0C, "LO", "Miller")],
        [(PHILIPS, 0x03, "FL", float("inf"))],
        [(PHILIPS, 0x03, "UN", b"1000")],
        [(UIH, 0x09, "FD", 1e300)],
        [(UIH, 0x09, "FD", [700.0, 800.0])],
        [((0x0019, "SOMEBODY"), 0x0C, "IS", 700)],
        [(SIEMENS, 0x0C, "UN", b"7" * 300)],
    ],
)
def test_what_is_no_b_value_is_none(elements: list[Any], tmp_path: Path) -> None:
    assert image(tmp_path, elements) == Diffusion()


def test_ge_elements_that_hold_no_direction_without_weighting(tmp_path: Path) -> None:
    assert image(tmp_path, [(GE, 0x39, "IS", [0, 8, 0, 0]), *OF_GE[1:]]) == Diffusion(0)


@pytest.mark.parametrize(("sequence", "asked"), [("EP", True), (["EP", "SE"], True), ("GR", False)])
def test_the_csa_header_is_asked_in_echo_planar_images(sequence: object, asked: bool, tmp_path: Path) -> None:
    raw = csa({"B_value": ("IS", ["700"]), "DiffusionGradientDirection": ("FD", [str(one) for one in DIRECTION])})
    found = image(tmp_path, [(SIEMENS_CSA, 0x10, "OB", raw)], block=0x23, ScanningSequence=sequence)
    assert found == (Diffusion(700, DIRECTION) if asked else Diffusion())


@pytest.mark.parametrize("raw", [b"", b"no header", csa({"B_value": ("IS", ["Miller"])}), csa({"Rows": ("IS", ["1"])})])
def test_a_csa_header_without_a_b_value_tells_none(raw: bytes, tmp_path: Path) -> None:
    assert image(tmp_path, [(SIEMENS_CSA, 0x10, "OB", raw)], ScanningSequence="EP") == Diffusion()


def test_images_of_other_modalities_have_none(tmp_path: Path) -> None:
    assert image(tmp_path, OF_GE, modality="CT") == Diffusion()


MAKERS = {
    "SIEMENS": lambda b, d: [(SIEMENS, 0x0C, "IS", b), *([(SIEMENS, 0x0E, "FD", d)] if b else [])],
    "SIEMENS by CSA": lambda b, d: [
        (SIEMENS_CSA, 0x10, "OB", csa({"B_value": ("IS", [str(b)]), "DiffusionGradientDirection": ("FD", texts(d, b))}))
    ],
    "GE MEDICAL SYSTEMS": lambda b, d: [
        (GE, 0x39, "IS", [1_000_000_000 + b, 8, 0, 0]),
        *((GE_ACQUISITION, 0xBB + i, "DS", d[i] if b else 0.0) for i in range(3)),
        (GE_ACQUISITION, 0xE0, "DS", "3.0"),
    ],
    "Philips": lambda b, d: [
        (PHILIPS, 0x03, "FL", float(b)),
        *((PHILIPS_MR, 0xB0 + i, "FL", d[i] if b else 0.0) for i in range(3)),
    ],
    "UIH": lambda b, d: [(UIH, 0x09, "FD", float(b)), (UIH, 0x37, "FD", d if b else [0.0] * 3)],
}
"""The private elements of an image of each maker, from b-value and direction."""
WEIGHTED = [(0, [0.0, 0.0, 0.0]), (700, [1.0, 0.0, 0.0]), (700, [0.0, 0.6, -0.8]), (700, [0.6, -0.48, 0.64])]


def texts(direction: list[float], b_value: int) -> list[str]:
    return [f"{number:.8f}" for number in direction] if b_value else []


@pytest.mark.parametrize("maker", MAKERS)
def test_volumes_have_the_b_values_that_dcm2niix_tells(maker: str, tmp_path: Path) -> None:
    def tag(number: int, data: Dataset) -> None:
        for (group, creator), element, vr, value in MAKERS[maker](*WEIGHTED[number]):
            data.add_new((group, 0x10), "LO", creator)
            data.add_new((group, 0x1000 | element), vr, value)
        data.Manufacturer, data.ScanningSequence, data.MRAcquisitionType = maker.split(" by ")[0], ["EP", "SE"], "2D"
        data.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
        data.AcquisitionNumber, data.AcquisitionTime, data.EchoTime = number + 1, f"10{number:02d}00.00", "80"

    for number in range(len(WEIGHTED)):
        for place in Stack(modality="MR", offset=40 + 100 * number, size=(16, 16)).slices():
            instance = 1 + 7 * number + place.number
            image = place.changed(instance=instance, tamper=partial(tag, number))
            save(tmp_path / f"in/{instance:04d}", image.dataset())
    tool = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert tool is not None, "dcm2niix is a development dependency"
    subprocess.run([tool, "-f", "other", "-o", tmp_path, tmp_path / "in"], check=True, capture_output=True, timeout=60)
    expected = [float(text) for text in (tmp_path / "other.bval").read_text().split()]
    assert expected == [b_value for b_value, _ in WEIGHTED]
    found = scan(tmp_path / "in").series
    by_number = {one.facts["acquisition_number"]: one.facts for one in found}
    assert [by_number[number + 1]["b_value_s_mm2"] for number in range(len(WEIGHTED))] == expected
    if maker not in ("GE MEDICAL SYSTEMS", "UIH"):
        told = [by_number[number + 1].get("diffusion_direction_lps", (0, 0, 0)) for number in range(len(WEIGHTED))]
        assert told == [pytest.approx(tuple(direction), abs=1e-6) for _, direction in WEIGHTED]
