"""What is said of series that were read as they stand, though their files are not as they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests.dicom_traps.stack import Stack, save, write_slices
from volseg.dicom import scan
from volseg.dicom.series.notes import NO_PREAMBLE, SHARED_ACQUISITION, UIDS_OF_META_HEADER, sentences

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
