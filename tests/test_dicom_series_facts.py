"""What is told of a volume: closed words and bounded numbers; every file is written by pydicom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from tests.dicom_traps.stack import Stack, write_slices
from volseg.cli.main import main
from volseg.dicom import Series, scan

Tag = Callable[[Dataset], None]


def volumes(folder: Path, *tags: Tag, modality: str = "MR") -> list[Series]:
    """The volumes of one series, each with its tags."""
    images = [
        image.changed(instance=7 * number + image.number + 1, tamper=tag)
        for number, tag in enumerate(tags)
        for image in Stack(modality=modality, offset=40 + 100.0 * number).slices()
    ]
    write_slices(folder, images)
    found = scan(folder)
    assert not found.rejected
    return list(found.series)


def shown(folder: Path, *tags: Tag, modality: str = "MR") -> list[str]:
    return sorted(series.shows for series in volumes(folder, *tags, modality=modality))


def typed(*words: str) -> Tag:
    def tag(data: Dataset) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", *words]

    return tag


def tagged(**values: object) -> Tag:
    def tag(data: Dataset) -> None:
        for keyword, value in values.items():
            setattr(data, keyword, value)

    return tag


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("M", "ND", "NORM"), ""),
        (("P", "ND"), "phase"),
        (("PHASE MAP", "P", "FFE"), "phase"),
        (("R_FFE", "R", "FFE"), "real"),
        (("I_IR", "I", "IR"), "imaginary"),
        (("M_FFE", "M", "FFE"), ""),
        (("DIFFUSION", "ADC", "ND"), "ADC"),
        (("DIFFUSION", "FA"), "fractional anisotropy"),
        (("DIFFUSION", "TRACEW", "NORM"), "trace"),
        (("DIXON", "WATER"), "water"),
        (("DIXON", "OUT_PHASE"), "out of phase"),
        (("MPR",), "reformatted"),
        (("MIP", "MIP"), "maximum projection"),
        (("MINIP",), "minimum projection"),
        (("M", "P"), ""),  # contradicts itself
        (("MUELLER", "Doe^Jane", "19530712"), ""),
    ],
)
def test_words_of_the_image_type(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    (series,) = volumes(tmp_path, typed(*words))
    assert series.shows == told
    assert not {"MUELLER", "Doe^Jane", "19530712"} & set(str(series.facts["image_type"]).split("+"))


def test_volumes_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    assert shown(tmp_path / "type", typed("M"), typed("P")) == ["magnitude", "phase"]
    echoes = [tagged(EchoNumbers=number, EchoTime=f"{4.6 * number}") for number in (1, 2)]
    assert shown(tmp_path / "echo", *echoes) == ["echo 1 (4.6 ms)", "echo 2 (9.2 ms)"]
    times = [tagged(TemporalPositionIdentifier=n, NumberOfTemporalPositions=2) for n in (1, 2)]
    assert shown(tmp_path / "time", *times) == ["time point 1 of 2", "time point 2 of 2"]
    inversions = [tagged(InversionTime=f"{100 * n}") for n in (1, 2)]
    assert shown(tmp_path / "inversion", *inversions) == ["inversion 100 ms", "inversion 200 ms"]
    weights = [
        tagged(DiffusionBValue=0.0),
        tagged(DiffusionBValue=1000.0, DiffusionGradientOrientation=[1.0, 0.0, 0.0]),
        tagged(DiffusionBValue=1000.0, DiffusionGradientOrientation=[0.0, 0.6, -0.8]),
    ]
    assert shown(tmp_path / "b", *weights) == [
        "b 0",
        "b 1000, direction 0.00 0.60 -0.80",
        "b 1000, direction 1.00 0.00 0.00",
    ]
    assert shown(tmp_path / "order", tagged(), tagged()) == ["time 1", "time 2"]
    acquisitions = [tagged(AcquisitionNumber=n, EchoTime="5") for n in (1, 2)]
    assert shown(tmp_path / "acquisition", *acquisitions) == ["acquisition 1", "acquisition 2"]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (tagged(DiffusionBValue=0.0), tagged(DiffusionBValue=1000.0), "b 0"),
        (tagged(EchoNumbers=1, EchoTime="4.6"), tagged(EchoNumbers=2, EchoTime="9.2"), "echo 1 (4.6 ms)"),
        (typed("M"), typed("P"), "magnitude"),
        (tagged(InversionTime="100"), tagged(InversionTime="200"), "inversion 100 ms"),
        (tagged(PatientID="A"), tagged(PatientID="B"), "patient 1"),
    ],
)
def test_a_volume_whose_sibling_is_refused_tells_what_it_is(first: Tag, second: Tag, told: str, tmp_path: Path) -> None:
    slices = [image.changed(tamper=first) for image in Stack(modality="MR").slices()]
    others = [image.changed(instance=20 + image.number, tamper=second) for image in Stack(modality="MR").slices()]
    write_slices(tmp_path, [*slices, *others[:2], *others[3:]])
    found = scan(tmp_path)
    assert [one.code for one in found.rejected] == ["incomplete-volume"]
    assert [one.shows for one in found.series] == [told]


def test_the_only_volume_tells_no_matters_of_course(tmp_path: Path) -> None:
    plain = tagged(EchoNumbers=1, EchoTime="4.6", DiffusionBValue=0.0, AcquisitionNumber=1, ImageType=["A", "B", "M"])
    assert shown(tmp_path / "plain", plain) == [""]
    assert shown(tmp_path / "weighted", tagged(DiffusionBValue=700.0)) == ["b 700"]
    assert shown(tmp_path / "ct", tagged(ConvolutionKernel="Br40d"), modality="CT") == ["kernel Br40d"]
    assert shown(tmp_path / "phase", tagged(ContrastBolusAgentPhase="PORTAL_VENOUS"), modality="CT") == [
        "portal venous"
    ]


@pytest.mark.parametrize(
    ("number", "component"), [(0, "magnitude"), (1, "phase"), (2, "real"), (3, "imaginary"), (4, "")]
)
def test_ge_tells_the_component_in_a_private_element(number: int, component: str, tmp_path: Path) -> None:
    def tag(data: Dataset) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        data.add_new(0x00430010, "LO", "GEMS_PARM_01")
        data.add_new(0x0043102F, "SS", number)

    (series,) = volumes(tmp_path, tag)
    assert series.facts.get("component", "") == component


def test_magnitude_and_phase_of_ge_make_no_volume_together(tmp_path: Path) -> None:
    """Told by the private element alone, and with one image left at each position."""

    def of(component: int) -> Tag:
        def tag(data: Dataset) -> None:
            data.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
            data.add_new(0x00430010, "LO", "GEMS_PARM_01")
            data.add_new(0x0043102F, "SS", component)

        return tag

    assert shown(tmp_path / "whole", of(0), of(1)) == ["magnitude", "phase"]
    images = [image.changed(tamper=of(image.number % 2)) for image in Stack(modality="MR").slices()]
    write_slices(tmp_path / "mixed", images)
    assert not scan(tmp_path / "mixed").series


@pytest.mark.parametrize("kernel", ["B30f", "Br40d", "FC08", "STANDARD", "BONEPLUS", "YB", ["Br44f", "3"]])
def test_kernels_that_are_known_are_kept(kernel: object, tmp_path: Path) -> None:
    (series,) = volumes(tmp_path, tagged(ConvolutionKernel=kernel), modality="CT")
    assert series.facts["kernel"] == (kernel if isinstance(kernel, str) else "Br44f")


def test_nothing_else_gets_through(tmp_path: Path) -> None:
    (series,) = volumes(
        tmp_path,
        tagged(
            ConvolutionKernel="MUELLER",
            ContrastBolusAgentPhase="MUELLER",
            EchoNumbers=19530712,
            TemporalPositionIdentifier=19530712,
            AcquisitionNumber=19530712,
            TriggerTime="19530712",
            DiffusionBValue=19530712.0,
        ),
    )
    kept = json.dumps([dict(series.facts), series.shows])
    assert "MUELLER" not in kept
    assert "19530712" not in kept


def test_facts_on_which_slices_disagree_are_left_out(tmp_path: Path) -> None:
    def tamper(data: Dataset, number: int) -> None:
        data.TriggerTime, data.AcquisitionNumber = f"{10 * number}", number

    write_slices(tmp_path, Stack(modality="MR", tamper=tamper).slices())
    (series,) = scan(tmp_path).series
    assert not {"trigger_time_ms", "acquisition_number"} & series.facts.keys()


def test_sidecar_and_ledger_and_preview_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volumes(tmp_path / "dicom", typed("M"), typed("P"))
    words = ["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native"]
    assert main([*words, "--dry-run"]) == 0
    preview = " ".join(capsys.readouterr().out.split())
    assert main(words) == 0
    told = sorted(one["message"] for one in json.loads((tmp_path / "out/conversion.json").read_text())["outcomes"])
    assert [one.split(";")[0] for one in told] == ["magnitude", "phase"]
    assert ", magnitude, the scanner's grid" in preview
    assert ", phase, the scanner's grid" in preview
    sidecars = [json.loads(path.read_text()) for path in (tmp_path / "out/imagesTs").glob("*.json")]
    assert {(one["shows"], one["acquisition"]["component"]) for one in sidecars} == {
        ("magnitude", "magnitude"),
        ("phase", "phase"),
    }


def test_directions_are_those_of_the_patient(tmp_path: Path) -> None:
    direction = np.array([0.36, 0.48, -0.8])

    def of_ge(data: Dataset) -> None:
        data.DiffusionBValue = 700.0
        data.add_new(0x00190010, "LO", "GEMS_ACQU_01")
        for number, part in enumerate(direction):
            data.add_new(0x001910BB + number, "DS", f"{part}")

    public = tagged(DiffusionBValue=700.0, DiffusionGradientOrientation=direction.tolist())
    (told,) = volumes(tmp_path / "public", public)
    (untold,) = volumes(tmp_path / "ge", of_ge)
    assert told.facts["diffusion_direction_lps"] == pytest.approx(tuple(direction))
    assert "diffusion_direction_lps" not in untold.facts
    assert untold.facts["b_value_s_mm2"] == 700
