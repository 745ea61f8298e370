"""Series from made files: what is split, what is dropped, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from volseg.dicom import Rejected, Scan, load_values, scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import WriteSeries
    from pydicom.dataset import Dataset

MR = "1.2.840.10008.5.1.4.1.1.4"
PLACES = [(-30.0, -40.0, 2.5 * number) for number in range(4)]


def having(keyword: str, value: object) -> Callable[[Dataset, int], None]:
    """An edit that gives each file an element another value; without one it is taken out."""

    def edit(ds: Dataset, number: int) -> None:
        del number
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)

    return edit


def parts(found: Scan) -> list[str]:
    return [series.identity.part for series in found.series]


def only_rejected(found: Scan) -> Rejected:
    assert not found.series
    (rejected,) = found.rejected
    return rejected


def set_by_volume(keyword: str, values: list[object]) -> Callable[[Dataset, int], None]:
    """The value of an element by the volume that an image of ``PLACES * len(values)`` is of."""

    def edit(ds: Dataset, number: int) -> None:
        setattr(ds, keyword, values[number // len(PLACES)])
        if keyword.startswith("Diffusion"):
            ds.SOPClassUID = MR

    return edit


@pytest.mark.parametrize(
    ("keyword", "values", "expected"),
    [
        ("AcquisitionNumber", [1, 2], ["acq1", "acq2"]),
        ("EchoTime", [4.6, 2.3], ["echo1", "echo2"]),
        ("EchoNumbers", [1, 2, 3], ["echo1", "echo2", "echo3"]),
        ("TemporalPositionIdentifier", [3, 1, 2], ["time1", "time2", "time3"]),
        ("TriggerTime", [0, 450.5], ["phase1", "phase2"]),
        ("ImageType", [["ORIGINAL", "PRIMARY", "W"], ["ORIGINAL", "PRIMARY", "F"]], ["type1", "type2"]),
        ("DiffusionBValue", [0.0, 1000.0], ["b1", "b2"]),
        ("AcquisitionTime", ["101500.5", "101400"], ["time1", "time2"]),
        ("SeriesNumber", [3, 4], ["series1", "series2"]),
    ],
)
def test_volumes_at_one_place_part_by_what_tells_them_apart(
    keyword: str, values: list[object], expected: list[str], write_series: WriteSeries, tmp_path: Path
) -> None:
    stored = write_series(tmp_path, positions=PLACES * len(values), edit=set_by_volume(keyword, values))
    found = scan(tmp_path)
    assert not found.rejected
    assert parts(found) == expected
    order = sorted(range(len(values)), key=lambda number: values[number])  # type: ignore[arg-type, return-value]
    for series, volume in zip(found.series, order, strict=True):
        first = volume * len(PLACES)
        np.testing.assert_array_equal(
            load_values(series).volume.array, stored[first : first + len(PLACES)].T.astype(int) - 1024
        )


def test_volumes_that_only_the_instance_number_tells_apart(write_series: WriteSeries, tmp_path: Path) -> None:
    stored = write_series(tmp_path, positions=PLACES * 3)
    found = scan(tmp_path)
    assert parts(found) == ["time1", "time2", "time3"]
    np.testing.assert_array_equal(load_values(found.series[1]).volume.array, stored[4:8].T.astype(int) - 1024)


def test_a_run_that_was_stopped_has_the_names_that_the_whole_one_has(write_series: WriteSeries, tmp_path: Path) -> None:
    """Or its volumes would lie in a data set twice once the rest is there."""
    stated = set_by_volume("NumberOfTemporalPositions", [12] * 12)
    write_series(tmp_path / "whole", positions=PLACES * 12, edit=stated)
    whole = parts(scan(tmp_path / "whole"))
    assert whole[:2] == ["time01", "time02"]
    write_series(tmp_path / "stopped", positions=PLACES * 3, edit=stated)
    assert parts(scan(tmp_path / "stopped")) == whole[:3]


def test_a_stated_count_of_time_points_is_believed_over_the_instance_number(
    write_series: WriteSeries, tmp_path: Path
) -> None:
    write_series(tmp_path, positions=PLACES * 3, edit=set_by_volume("NumberOfTemporalPositions", [2, 2, 2]))
    assert only_rejected(scan(tmp_path)).code == "several-images-at-one-position"


def test_unequal_volumes_are_refused_where_numbers_tell_nothing(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.InstanceNumber = (5, 3, 6, 1, 2, 7, 4)[number]

    write_series(tmp_path, positions=(PLACES * 2)[:-1], edit=edit)
    assert only_rejected(scan(tmp_path)).code == "unequal-volumes"


def test_images_at_one_place_without_instance_numbers_are_refused(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path, positions=PLACES * 2, edit=set_by_volume("InstanceNumber", [1, 1]))
    assert only_rejected(scan(tmp_path)).code == "several-images-at-one-position"


def test_acquisition_numbers_do_not_split_one_volume(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.AcquisitionNumber = number

    write_series(tmp_path, edit=edit)
    assert parts(scan(tmp_path)) == [""]


def test_times_of_single_slices_do_not_split_a_volume_to_pieces(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        ds.AcquisitionTime = f"1015{number:02d}"

    write_series(tmp_path, positions=PLACES * 2, edit=edit)
    assert parts(scan(tmp_path)) == ["time1", "time2"]


def test_orientations_part(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        if number >= 4:
            ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
            ds.ImagePositionPatient = [10.0 + 3 * number, 0, 0]

    write_series(tmp_path, positions=PLACES * 2, edit=edit)
    found = scan(tmp_path)
    assert parts(found) == ["orientation1", "orientation2"]
    assert [series.grid.orientation for series in found.series] == ["LPS", "PIR"]
    assert found.series[1].grid.spacing_mm == pytest.approx((0.75, 0.5, 3))


def test_sizes_and_spacings_part(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        if number >= 4:
            ds.PixelSpacing = [1, 1]

    write_series(tmp_path, positions=PLACES * 2, edit=edit)
    assert parts(scan(tmp_path)) == ["spacing1", "spacing2"]


def test_copies_of_a_file_count_once(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path)
    shutil.copy(tmp_path / "002.dcm", tmp_path / "again.dcm")
    (series,) = scan(tmp_path).series
    assert len(series.slices) == 5
    assert series.changes == ("copies-dropped",)


def test_other_pixels_under_one_identifier_are_refused(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path)
    content = (tmp_path / "002.dcm").read_bytes()
    (tmp_path / "again.dcm").write_bytes(content[:-2] + b"\x07\x07")
    assert only_rejected(scan(tmp_path)).code == "conflicting-copies"


def test_the_same_pixels_under_two_identifiers_count_once(write_series: WriteSeries, tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 4096, (4, 12, 10)).astype(np.uint16)
    write_series(tmp_path, positions=[*PLACES, PLACES[2]], array=array[[0, 1, 2, 3, 2]])
    (series,) = scan(tmp_path).series
    assert series.changes == ("duplicates-dropped",)
    np.testing.assert_array_equal(load_values(series).volume.array, array.T.astype(int) - 1024)


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("ImagePositionPatient", None, "no-position"),
        ("ImageOrientationPatient", None, "no-position"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "no-position"),
        ("PixelSpacing", None, "no-position"),
        ("PixelSpacing", [0, 1], "no-position"),
        ("BitsAllocated", 12, "unsupported-pixels"),
        ("Rows", 60000, "declares-too-much"),
        ("NumberOfFrames", 7, "declares-too-much"),
    ],
)
def test_headers_that_do_not_place_or_hold_their_pixels(
    keyword: str, value: object, code: str, write_series: WriteSeries, tmp_path: Path
) -> None:
    write_series(tmp_path, edit=having(keyword, value))
    assert only_rejected(scan(tmp_path)).code == code


@pytest.mark.parametrize(
    ("keyword", "value", "kind"),
    [
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "secondary capture"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.33", "structured report"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.59", "key object selection"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.481.2", "radiotherapy dose"),
        ("SOPClassUID", "1.2.3.4", "unknown object"),
        ("PhotometricInterpretation", "PALETTE COLOR", "colour image"),
        ("SamplesPerPixel", 3, "colour image"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        ("Rows", None, "image without rows or columns"),
        ("PixelData", None, "image without pixel data"),
    ],
)
def test_what_is_no_slice_is_counted_by_kind(
    keyword: str, value: object, kind: str, write_series: WriteSeries, tmp_path: Path
) -> None:
    write_series(tmp_path, edit=having(keyword, value))
    found = scan(tmp_path)
    assert found.skipped_kinds == {kind: 5}
    assert not found.series
    assert not found.rejected
    if kind == "localizer":
        assert len(scan(tmp_path, localizers=True).series) == 1


def test_links_pipes_and_directories_are_not_opened(write_series: WriteSeries, tmp_path: Path) -> None:
    import os

    write_series(tmp_path / "outside", seed=1)
    write_series(tmp_path / "in", seed=2)
    (tmp_path / "in/link.dcm").symlink_to(tmp_path / "outside/000.dcm")
    (tmp_path / "in/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "in/pipe")
    found = scan(tmp_path / "in")
    assert len(found.series) == 1
    assert found.skipped_kinds == {"symbolic link": 3, "special file": 1}


def test_series_are_numbered_within_their_study(write_series: WriteSeries, tmp_path: Path) -> None:
    for seed, number in ((1, 12), (2, 4)):

        def edit(ds: Dataset, _: int, number: int = number) -> None:
            ds.StudyInstanceUID, ds.SeriesNumber = "1.2.3", number

        write_series(tmp_path / str(seed), seed=seed, edit=edit)
    write_series(tmp_path / "3", seed=3)
    assert sorted((series.order, series.source) for series in scan(tmp_path).series) == [(1, "2"), (1, "3"), (2, "1")]
