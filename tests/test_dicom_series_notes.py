"""What is said of series that were read as they stand, though their files are not as they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests.dicom_traps.stack import Stack, save, write_slices
from volseg.cli.main import main
from volseg.dicom import scan
from volseg.dicom.series.notes import (
    EVENLY_THINNED,
    NO_PREAMBLE,
    SHARED_ACQUISITION,
    SLICES_FAR_APART,
    UIDS_OF_META_HEADER,
    sentences,
)

NORMAL_MM = (-3.9, -4.1)
"""Where the first pixel of every stack lies beside the normal."""


def acquired(number: int, uid: str = "") -> Callable[[Dataset, int], None]:
    def tamper(data: Dataset, _: int) -> None:
        data.AcquisitionNumber = number
        if uid:
            data.AcquisitionUID = uid

    return tamper


def stack(
    series: int, start_mm: float, *, gap_mm: float = 5.0, number: int = 1, uid: str = "", frame: int = 1
) -> Stack:
    return Stack(
        gaps_mm=(gap_mm,) * 5,
        origin_mm=(*NORMAL_MM, start_mm),
        series=series,
        frame=frame,
        tamper=acquired(number, uid),
    )


def notes_of(folder: Path, *stacks: Stack) -> list[dict[str, int]]:
    write_slices(folder, [image for one in stacks for image in one.slices()])
    found = scan(folder)
    assert len(found.series) == len(stacks)
    return [dict(series.notes) for series in found.series]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(stack(2, 30.0), id="end to end"),
        pytest.param(stack(2, 2.5), id="every other slice"),
        pytest.param(stack(2, 100.0, uid="1.2.3"), id="far apart, by AcquisitionUID"),
    ],
)
def test_an_acquisition_in_pieces_is_noted_in_each(second: Stack, tmp_path: Path) -> None:
    uid = "1.2.3" if second.origin_mm[2] > 30 else ""
    assert notes_of(tmp_path, stack(1, 0.0, uid=uid), second) == [{SHARED_ACQUISITION: 1}] * 2


def test_all_pieces_are_counted(tmp_path: Path) -> None:
    pieces = [stack(number, 100.0 * number, uid="1.2.3") for number in (1, 2, 3)]
    assert notes_of(tmp_path, *pieces) == [{SHARED_ACQUISITION: 2}] * 3


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(stack(2, 0.0, uid="1.2.3"), id="another reconstruction of the same places"),
        pytest.param(stack(2, 10.0, uid="1.2.3"), id="partly the same places"),
        pytest.param(stack(2, 30.0, uid="1.2.4"), id="another AcquisitionUID"),
        pytest.param(stack(2, 30.0, uid="1.2.3", frame=2), id="another frame of reference"),
    ],
)
def test_what_only_looks_alike_is_not_noted(second: Stack, tmp_path: Path) -> None:
    assert notes_of(tmp_path, stack(1, 0.0, uid="1.2.3"), second) == [{}, {}]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(stack(2, 40.0), id="a slice's room between them"),
        pytest.param(stack(2, 28.0, gap_mm=3.0), id="another spacing"),
        pytest.param(stack(2, 30.0, number=2), id="another AcquisitionNumber"),
    ],
)
def test_without_acquisition_uid_pieces_have_to_make_one_stack(second: Stack, tmp_path: Path) -> None:
    assert notes_of(tmp_path, stack(1, 0.0), second) == [{}, {}]


@pytest.mark.parametrize("emptied", [("SOPClassUID",), ("SOPInstanceUID",), ("SOPClassUID", "SOPInstanceUID")])
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "empty"])
def test_uids_of_the_meta_header_stand_in(emptied: tuple[str, ...], absent: bool, tmp_path: Path) -> None:
    paths = write_slices(tmp_path, Stack().slices())
    for path in paths[:4]:
        import pydicom

        data = pydicom.dcmread(path)
        for keyword in emptied:
            if absent:
                del data[keyword]
            else:
                data[keyword].value = ""
        data.save_as(path)
    found = scan(tmp_path)
    (series,) = found.series
    assert series.notes == {UIDS_OF_META_HEADER: 4}
    assert len(series.slices) == len(paths)
    assert not series.changes


def test_files_without_preamble_are_counted(tmp_path: Path) -> None:
    for image in Stack().slices():
        save(tmp_path / f"{image.number}", image.dataset(), bare=image.number == 3)
    (series,) = scan(tmp_path).series
    assert series.notes == {NO_PREAMBLE: 1}


def test_sentences_count_and_pass_over_codes_that_they_do_not_know() -> None:
    assert sentences({}) == ()
    (one, many) = (sentences({NO_PREAMBLE: count})[0] for count in (1, 12))
    assert one.startswith("1 file lacks ")
    assert many.startswith("12 files lack ")
    assert sentences({"of-a-later-version": 3}) == ()


def thick(text: str) -> Callable[[Dataset, int], None]:
    def tamper(data: Dataset, _: int) -> None:
        data.SliceThickness = text

    return tamper


@pytest.mark.parametrize("step", [2, 3, 10])
@pytest.mark.parametrize("falls", [False, True])
def test_every_second_or_third_slice_is_noted(step: int, falls: bool, tmp_path: Path) -> None:
    whole = Stack(gaps_mm=(1.0,) * 40, tamper=thick("2"), modality="MR")
    kept = [
        image.changed(instance=100 - image.number if falls else 1 + image.number) for image in whole.slices()[::step]
    ]
    write_slices(tmp_path, kept)
    (series,) = scan(tmp_path).series
    assert series.notes == {EVENLY_THINNED: step}
    assert f"one of every {step} slices" in sentences(series.notes)[0]


def test_numbers_that_other_images_of_the_series_have_are_no_sign(tmp_path: Path) -> None:
    volumes = [Stack(modality="MR", offset=offset) for offset in (0.0, 300.0)]
    images = [
        image.changed(instance=2 * image.number + volume, tamper=echo(volume + 1))
        for volume, one in enumerate(volumes)
        for image in one.slices()
    ]
    write_slices(tmp_path, images)
    assert [dict(series.notes) for series in scan(tmp_path).series] == [{}, {}]


def test_numbers_of_refused_images_of_the_series_are_no_sign(tmp_path: Path) -> None:
    volumes = [Stack(modality="MR"), Stack(modality="MR", size=(8, 8), gaps_mm=(5.0, 5.0, 10.0, 5.0, 5.0))]
    write_slices(
        tmp_path, [i.changed(instance=2 * i.number + n) for n, one in enumerate(volumes) for i in one.slices()]
    )
    found = scan(tmp_path)
    assert [len(found.series), len(found.rejected)] == [1, 1]
    assert found.series[0].notes == {}


def test_thinning_of_each_volume_of_several_is_noted(tmp_path: Path) -> None:
    volumes = [Stack(modality="MR", number=1), Stack(modality="MR", offset=300.0)]
    images = [
        image.changed(instance=100 * volume + 3 * image.number, tamper=echo(volume + 1))
        for volume, one in enumerate(volumes)
        for image in one.slices()
    ]
    write_slices(tmp_path, images)
    assert [dict(series.notes) for series in scan(tmp_path).series] == [{EVENLY_THINNED: 3}] * 2


def echo(number: int) -> Callable[[Dataset], None]:
    def tamper(data: Dataset) -> None:
        data.EchoNumbers, data.EchoTime = number, f"{number}.5"

    return tamper


@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [7, 5, 3, 2], [1, 3, 5, None], [3, 3, 3, 3], [3, 1, 4, 2]])
def test_numbers_that_step_otherwise_are_not_noted(numbers: list[int | None], tmp_path: Path) -> None:
    def number(data: Dataset, place: int) -> None:
        data.InstanceNumber = numbers[place]

    write_slices(tmp_path, Stack(gaps_mm=(5.0,) * 3, tamper=number).slices())
    (series,) = scan(tmp_path).series
    assert EVENLY_THINNED not in series.notes


@pytest.mark.parametrize(
    ("thickness", "gap_mm", "share"),
    [
        ("1", 10.0, 90),  # high-resolution CT
        ("1.25", 2.5, 50),
        ("2", 3.0, 33),
        ("5", 7.0, None),
        ("5", 5.0, None),
        ("5", 2.5, None),
        ("0", 5.0, None),
        ("", 5.0, None),
    ],
)
def test_ct_whose_slices_lie_far_apart_is_noted(
    thickness: str, gap_mm: float, share: int | None, tmp_path: Path
) -> None:
    write_slices(tmp_path, Stack(gaps_mm=(gap_mm,) * 6, tamper=thick(thickness)).slices())
    (series,) = scan(tmp_path).series
    assert series.notes == ({} if share is None else {SLICES_FAR_APART: share})


def test_mr_may_have_gaps(tmp_path: Path) -> None:
    write_slices(tmp_path, Stack(gaps_mm=(10.0,) * 6, tamper=thick("3"), modality="MR").slices())
    assert scan(tmp_path).series[0].notes == {}


def test_these_warnings_reach_ledger_sidecar_and_preview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Stack(gaps_mm=(1.0,) * 12, tamper=thick("1"))
    write_slices(tmp_path / "dicom", whole.slices(range(0, 13, 3)))
    words = ["convert", str(tmp_path / "dicom"), str(tmp_path / "out"), "--spacing", "native"]
    assert main([*words, "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert main(words) == 0
    (outcome,) = json.loads((tmp_path / "out/conversion.json").read_text())["outcomes"]
    (sidecar,) = (tmp_path / "out/imagesTs").glob("*.json")
    assert json.loads(sidecar.read_text())["notes"] == {EVENLY_THINNED: 3, SLICES_FAR_APART: 67}
    for warning in ("one of every 3 slices", "67 % of the body between"):
        assert any(warning in told for told in outcome["warnings"])
        assert warning in shown


def test_patients_under_one_series_are_told(tmp_path: Path) -> None:
    def of(patient: str) -> Callable[[Dataset], None]:
        return lambda data: setattr(data, "PatientID", patient)

    slices = Stack(modality="MR").slices()
    others = [image.changed(instance=100 + image.number, tamper=of("B")) for image in slices]
    write_slices(tmp_path, [*(image.changed(tamper=of("A")) for image in slices), *others])
    found = scan(tmp_path).series
    assert [dict(one.notes) for one in found] == [{"several-patients": 2}] * 2
    (sentence,) = sentences(found[0].notes)
    assert sentence.startswith("Its series holds images of 2 PatientIDs")
