"""Volumes of one series of which files are lost: each that comes out is one of the complete series, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from volseg.dicom import Scan, load_values, scan

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from conftest import RealData, WriteSeries
    from pydicom.dataset import Dataset

POSITIONS = 5
MR = "1.2.840.10008.5.1.4.1.1.4"
SetTags = Callable[["Dataset", int], None]


def by_volume(number: int) -> int:
    return 1 + number


def by_position(number: int) -> int:
    return 1 + number % POSITIONS * 3 + number // POSITIONS


def every_other_first(number: int) -> int:
    volume, place = divmod(number, POSITIONS)
    return 1 + volume * POSITIONS + (place // 2 if place % 2 == 0 else (POSITIONS + 1) // 2 + place // 2)


def _set(**values: list[object]) -> SetTags:
    def set_tags(ds: Dataset, volume: int) -> None:
        for keyword, of_volume in values.items():
            setattr(ds, keyword, of_volume[volume])

    return set_tags


@dataclass(frozen=True)
class Kind:
    """Three volumes at the same positions: what tells them apart, and whether that alone tells whose an image is."""

    name: str
    set_tags: SetTags
    number: Callable[[int], int] = by_volume
    is_certain: bool = True

    def __str__(self) -> str:
        return self.name


KINDS = (
    Kind("magnitude-phase-real", _set(ImageType=[["ORIGINAL", "PRIMARY", kind] for kind in "MPR"])),
    Kind("b-values", _set(DiffusionBValue=[0.0, 500.0, 1000.0])),
    Kind("b-values-by-position", _set(DiffusionBValue=[0.0, 500.0, 1000.0]), by_position),
    Kind("directions", _set(DiffusionGradientOrientation=[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])),
    Kind("echoes", _set(EchoTime=["4.6", "9.2", "13.8"], EchoNumbers=[1, 2, 3]), by_position),
    Kind("times", _set(TemporalPositionIdentifier=[1, 2, 3], NumberOfTemporalPositions=[3, 3, 3])),
    Kind("inversions", _set(InversionTime=["100", "500", "900"])),
    Kind("flip-angles", _set(FlipAngle=["3", "10", "20"])),
    Kind("repetitions", _set(RepetitionTime=["500", "1000", "2000"])),
    Kind("unlisted-types", _set(ImageType=[["ORIGINAL", "PRIMARY", "AXIAL", word] for word in ("QUX", "FOO", "BAZ")])),
    Kind("kernels", _set(ConvolutionKernel=["B30f", "B70f", ["Br40d", "3"]])),
    Kind("contrast", _set(ContrastBolusAgentPhase=["ARTERIAL", "PORTAL_VENOUS", "DELAYED"])),
    Kind("numbers-alone", _set(), is_certain=False),
    Kind("numbers-alone-by-position", _set(), by_position, is_certain=False),
    Kind("numbers-alone-every-other-first", _set(), every_other_first, is_certain=False),
    Kind("numbers-and-count", _set(NumberOfTemporalPositions=[3, 3, 3]), is_certain=False),
    Kind("acquisitions", _set(AcquisitionNumber=[1, 2, 3]), is_certain=False),
    Kind("moments", _set(AcquisitionTime=["101500", "101510", "101520"]), is_certain=False),
)

Place = tuple[int, int]
ALL = frozenset(product(range(3), range(POSITIONS)))


def losses() -> list[tuple[str, frozenset[Place]]]:
    """Files of three volumes that are lost: one each, at random, and all but one at each position."""
    rng = np.random.default_rng(20)
    found = [(f"{volume}-lacks-{place}", frozenset({(volume, place)})) for volume in range(3) for place in (0, 2, 4)]
    places = sorted(ALL)
    for count in (2, 3, 4, 5, 7, 9):
        chosen = [frozenset(places[one] for one in rng.permutation(15)[:count].tolist()) for _ in range(2)]
        found += [(f"{count}-at-random", lost) for lost in chosen]
    for _ in range(3):
        found.append(("one-of-each-position", frozenset((int(rng.integers(3)), place) for place in range(POSITIONS))))
    for first, second in ((0, 1), (1, 2)):
        left = {(first if place % 2 else second, place) for place in range(POSITIONS)}
        found.append(("one-left-of-two", ALL - left))
        left = {(first if place < 2 else second, place) for place in range(POSITIONS)}
        found.append(("half-left-of-two", ALL - left))
    found.append(("cut-short", frozenset((2, place) for place in (3, 4))))
    return found


def write_kind(kind: Kind, folder: Path, write_series: WriteSeries) -> np.ndarray:
    def edit(ds: Dataset, number: int) -> None:
        ds.SOPClassUID, ds.Modality = MR, "MR"
        ds.InstanceNumber = kind.number(number)
        kind.set_tags(ds, number // POSITIONS)

    positions = [(-30.0, -40.0, 2.5 + 2.5 * place) for place in range(POSITIONS)]
    return write_series(folder, positions=positions * 3, edit=edit)


def copy_left(source: Path, target: Path, lost: Collection[Place]) -> Path:
    target.mkdir()
    for volume, place in sorted(ALL - set(lost)):
        name = f"{volume * POSITIONS + place:03d}.dcm"
        shutil.copy(source / name, target / name)
    return target


def volumes_in(found: Scan) -> list[bytes]:
    return [load_values(series).volume.array.tobytes() for series in found.series]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_lost_files_cost_their_own_volumes_alone(kind: Kind, write_series: WriteSeries, tmp_path: Path) -> None:
    write_kind(kind, tmp_path / "whole", write_series)
    complete = scan(tmp_path / "whole")
    assert not complete.rejected
    assert len(complete.series) == 3
    whole = volumes_in(complete)
    for number, (name, lost) in enumerate(losses()):
        found = scan(copy_left(tmp_path / "whole", tmp_path / f"{number}", lost))
        out = volumes_in(found)
        if kind.name.startswith("numbers-alone-") and "left-of-two" in name:
            continue  # such numbers may well be those of one volume
        assert set(out) <= set(whole), f"{name}: a volume that is none of the series"
        assert len(set(out)) == len(out)
        unharmed = set(range(3)) - {volume for volume, _ in lost}
        if kind.is_certain:
            assert len(out) == len(unharmed), name
            touched = {volume for volume, _ in lost} & {volume for volume, _ in ALL - lost}
            assert len(found.rejected) == len(touched), name
            assert {one.code for one in found.rejected} <= {"incomplete-volume"}, name
        elif len(lost) == 1 and kind.number is by_volume:
            assert len(out) == 2, name
            assert [one.code for one in found.rejected] == ["incomplete-volume"], name


@pytest.mark.parametrize(
    ("kind", "lost", "sentence"),
    [
        ("b-values", {(2, 4)}, "DiffusionBValue 1000 lacks the slice at 12.5 mm."),
        (
            "echoes",
            {(1, 1), (1, 2), (1, 3)},
            "EchoNumbers 2 lacks 3 of 5 slices, at 5, 7.5 and 10 mm.",
        ),
        ("times", {(0, 0)}, "TemporalPositionIdentifier 1 lacks the slice at 2.5 mm."),
        ("kernels", {(0, 1)}, "ConvolutionKernel B30f lacks the slice at 5 mm."),
        ("magnitude-phase-real", {(1, 1)}, "ImageType P lacks the slice at 5 mm."),
        ("unlisted-types", {(1, 1)}, "One of 3 values of ImageType lacks the slice at 5 mm."),
        ("moments", {(1, 1)}, "One of 3 values of AcquisitionTime lacks the slice at 5 mm."),
        ("numbers-alone", {(1, 1)}, "Point in time 2 lacks the slice at 5 mm."),
        (
            "directions",
            {(1, 1)},
            "DiffusionGradientOrientation 0, 1, 0 lacks the slice at 5 mm.",
        ),
    ],
)
def test_a_refusal_says_what_lacks(
    kind: str, lost: set[Place], sentence: str, write_series: WriteSeries, tmp_path: Path
) -> None:
    (chosen,) = (one for one in KINDS if one.name == kind)
    write_kind(chosen, tmp_path / "whole", write_series)
    (rejected,) = scan(copy_left(tmp_path / "whole", tmp_path / "left", lost)).rejected
    assert rejected.code == "incomplete-volume"
    assert rejected.faults[0].sentence == sentence


def test_a_value_of_many_parts_is_not_told(write_series: WriteSeries, tmp_path: Path) -> None:
    """An element may have thousands, and the message goes to the ledger."""

    def edit(data: Dataset, _: int) -> None:
        data.FlipAngle = list(range(100))

    write_series(tmp_path / "many", edit=edit)
    write_series(tmp_path / "one", edit=_renumbered)
    (tmp_path / "many" / "002.dcm").unlink()
    (rejected,) = scan(tmp_path).rejected
    assert rejected.message.startswith("One of 2 values of FlipAngle lacks the slice at 5 mm.")


def _renumbered(data: Dataset, number: int) -> None:
    data.FlipAngle, data.InstanceNumber = 5, number + 6
    data.SOPInstanceUID = f"{data.SOPInstanceUID[:50]}.9"


def test_many_lost_slices_are_not_all_named(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.EchoTime = 1 + number // 12

    write_series(tmp_path, positions=[(0.0, 0.0, float(place)) for place in [*range(12), *range(3)]], edit=edit)
    (rejected,) = scan(tmp_path).rejected
    assert rejected.faults[0].sentence == "EchoTime 2 ms lacks 9 of 12 slices, at 3, 4, 5, 6, 7 mm and 4 more."


def test_a_single_stray_image_is_refused_and_not_passed_over(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.EchoTime = 9.2 if number == 4 else 4.6

    write_series(tmp_path, edit=edit)
    found = scan(tmp_path)
    assert not found.series
    assert [one.code for one in found.rejected] == ["incomplete-volume"] * 2


def test_a_gap_inside_may_be_filled_an_end_never(write_series: WriteSeries, tmp_path: Path) -> None:
    from volseg.dicom.series.repair import Repairs

    (kind,) = (one for one in KINDS if one.name == "echoes")
    write_kind(kind, tmp_path / "whole", write_series)
    found = scan(copy_left(tmp_path / "whole", tmp_path / "left", {(0, 1), (2, 4)}), repairs=Repairs(gaps=True))
    assert [series.changes for series in found.series] == [("gaps-filled",), ()]
    assert [one.code for one in found.rejected] == ["incomplete-volume"]


def test_two_patients_are_two_volumes_with_an_identity_each(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.PatientID = "two" if number < 5 else "one"

    places = [(0.0, 0.0, start + 2.5 * number) for start in (0.0, 101.0) for number in range(5)]
    write_series(tmp_path, positions=places, edit=edit)
    found = scan(tmp_path)
    assert [len(series.slices) for series in found.series] == [5, 5]
    assert [series.identity.patient_id for series in found.series] == ["one", "two"]
    assert [series.identity.part for series in found.series] == ["patient1", "patient2"]


def _numbered(numbers: Sequence[int], **more: object) -> Callable[[Dataset, int], None]:
    def edit(ds: Dataset, number: int) -> None:
        ds.InstanceNumber = numbers[number]
        for keyword, value in more.items():
            setattr(ds, keyword, value[number] if isinstance(value, list) else value)

    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (_numbered([3, 1, 5, 2, 4]), {}),
        (_numbered([9, 5, 6, 8, 7]), {}),
        (_numbered([11, 12, 8, 9, 10]), "images-missing"),
        (_numbered([10, 9, 8, 12, 11]), "images-missing"),
        (_numbered([12, 10, 8, 11, 9]), "images-missing"),
        (_numbered([10, 12, 8, 11, 9], NumberOfTemporalPositions=4), "images-missing"),
        (_numbered([9, 7, 5, 3, 1]), {"evenly-thinned": 2}),
        (_numbered([1, 2, 4, 5, 6]), {"numbers-jump": 1}),
        (_numbered([1, 2, 3, 4, 5], NumberOfTemporalPositions=4), {"run-cut-short": 3}),
        (_numbered([1, 2, 8, 9, 10]), "images-missing"),
        (_numbered([1, 17, 3, 19, 5]), "images-missing"),
        (_numbered([1, 2, 13, 14, 15], NumberOfTemporalPositions=4), "images-missing"),
        (_numbered([1, 2, 13, 14, 15], AcquisitionTime=["10"] * 2 + ["11"] * 3), "images-missing"),
    ],
)
def test_one_image_at_each_position_is_judged_by_its_numbers(
    edit: Callable[[Dataset, int], None], expected: dict[str, int] | str, write_series: WriteSeries, tmp_path: Path
) -> None:
    write_series(tmp_path, edit=edit)
    found = scan(tmp_path)
    if isinstance(expected, str):
        assert [one.code for one in found.rejected] == [expected]
        assert not found.series
    else:
        (series,) = found.series
        assert series.notes == expected


def test_acquisitions_of_different_stretches_are_volumes_of_their_own(
    write_series: WriteSeries, tmp_path: Path
) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.AcquisitionNumber = 1 + number // 6

    places = [(0.0, 0.0, 2.5 * number) for number in (*range(6), *range(4, 10))]
    write_series(tmp_path, positions=places, edit=edit)
    assert [len(series.slices) for series in scan(tmp_path).series] == [6, 6]


def test_a_run_that_was_stopped_keeps_its_whole_volumes(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.NumberOfTemporalPositions = 10
        del number

    stored = write_series(tmp_path, positions=[(0.0, 0.0, 2.5 * (n % 5)) for n in range(13)], edit=edit)
    found = scan(tmp_path)
    assert [series.notes for series in found.series] == [{"run-cut-short": 8}] * 2
    assert [one.code for one in found.rejected] == ["incomplete-volume"]
    np.testing.assert_array_equal(load_values(found.series[1]).volume.array, stored[5:10].T.astype(int) - 1024)


def test_what_scanners_mark_as_a_sum_of_slices_stays_in_its_volume(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", *(["ADD"] if number < 2 else [])]

    write_series(tmp_path, edit=edit)
    assert len(scan(tmp_path).series) == 1


@pytest.mark.parametrize("series", ["mr_0004", "mr_0006"])
def test_a_real_run_with_lost_files(series: str, real_data: RealData, tmp_path: Path) -> None:
    files = sorted(path for path in real_data(f"dicom/mr-4d-nih/In/20180918GE/{series}").rglob("*") if path.is_file())
    source = tmp_path / "whole"
    source.mkdir()
    for path in files:
        (source / path.name).hardlink_to(path) if path.stat().st_dev == source.stat().st_dev else shutil.copy(
            path, source
        )
    complete = {frozenset(image.name for image in one.slices) for one in scan(source).series}
    assert len(complete) == 10
    rng = np.random.default_rng(4)
    names = sorted(name for volume in complete for name in volume)
    for number, count in enumerate((1, 2, 6, 40)):
        lost = {names[one] for one in rng.permutation(len(names))[:count].tolist()}
        left = tmp_path / f"{number}"
        left.mkdir()
        for name in set(names) - lost:
            (left / name).symlink_to(source / name)
        shutil.copytree(left, tmp_path / f"{number}-files")
        out = {frozenset(image.name for image in one.slices) for one in scan(tmp_path / f"{number}-files").series}
        assert out == {volume for volume in complete if not volume & lost}


def test_points_in_time_that_the_headers_state_and_nothing_shows_are_told(
    write_series: WriteSeries, tmp_path: Path
) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.TemporalPositionIdentifier = 1 + number // 5
        ds.NumberOfTemporalPositions = 10

    write_series(tmp_path, positions=[(0.0, 0.0, 2.5 * (n % 5)) for n in range(15)], edit=edit)
    found = scan(tmp_path)
    assert [series.notes for series in found.series] == [{"run-cut-short": 7}] * 3
    assert not found.rejected


def test_images_that_all_differ_are_refused_once(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.RepetitionTime = str(700 + 7 * number)

    write_series(tmp_path, edit=edit)
    (one,) = scan(tmp_path).rejected
    assert (one.code, one.count) == ("incomplete-volume", 5)
    assert "Each of its 5 images has another RepetitionTime" in one.message


def test_images_that_all_differ_at_one_position_are_no_volume_at_all(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.EchoTime = str(5 * (number + 1))

    write_series(tmp_path, positions=[(0.0, 0.0, 0.0)] * 5, edit=edit)
    found = scan(tmp_path)
    assert not found.series
    assert {one.code for one in found.rejected} == {"one-position"}
