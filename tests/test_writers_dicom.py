"""DICOM segmentations and structure sets of masks: what they say, and that others read the mask that was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from tests.dicom_objects import TABLE, blobs, image_grid, read_back, write
from tests.dicom_traps.stack import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Stack, save, write_stack
from tests.dicom_traps.volumes import enhanced, mosaic
from volseg.dataset.listing import read_listing
from volseg.dicom import load_values, scan
from volseg.errors import InputError
from volseg.grid import LPS_FROM_RAS, Grid
from volseg.labels import Label, LabelTable
from volseg.outcomes import Status
from volseg.writers import WRITERS, MaskedImage
from volseg.writers.dicom.contours import outlines
from volseg.writers.dicom.slices import on_slices

if TYPE_CHECKING:
    from tests.conftest import RealData, WriteSeries
    from volseg.dicom import Series

KINDS = ("dicom-seg", "dicom-labelmap", "rtstruct")
ORIENTATIONS = (
    AXIAL, CORONAL, SAGITTAL, OBLIQUE,
    (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),  # prone
    (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),  # the normal points to the feet
    (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    (0.0, 1.0, 0.0, -1.0, 0.0, 0.0),  # lying on the side
    (0.0, -1.0, 0.0, 0.0, 0.0, -1.0),  # sagittal from the other side
    (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0),  # coronal, upside down
    (0.0, 0.0, 1.0, 0.0, 1.0, 0.0),
    (0.6, 0.8, 0.0, -0.64, 0.48, 0.6),  # far from any axis
)  # fmt: skip


def one_series(folder: Path, stack: Stack) -> Series:
    write_stack(folder, stack)
    (series,) = scan(folder).series
    return series


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return one_series(tmp_path / "ct", Stack(size=(11, 13), gaps_mm=(2.0,) * 6))


def test_convert_reads_the_same_mask_in_twelve_orientations(tmp_path: Path) -> None:
    masks = {}
    for number, orientation in enumerate(ORIENTATIONS):
        source = tmp_path / "dicom" / str(number)
        stack = Stack(size=(9, 8), gaps_mm=(2.0,) * 5, orientation=orientation, study=number, series=7, frame=number)
        series = one_series(source / "ct", stack)
        grid = image_grid(series)
        mask = blobs(grid.shape, number)
        for kind in ("dicom-seg", "rtstruct"):  # convert compares them: two that draw one structure have to agree
            write(source, series, mask, grid, kind)
        masks[number] = mask, grid
    ledger, found = read_back(tmp_path / "dicom", tmp_path / "out")
    assert {outcome.status for outcome in ledger.outcomes} == {Status.DONE}
    assert len(found) == len(ORIENTATIONS)
    assert all("1 RTSTRUCT" in outcome.message and "1 SEG" in outcome.message for outcome in ledger.outcomes)
    for mask, grid in masks.values():
        (alike,) = [one for one in found.values() if one.grid.difference(grid) is None]
        np.testing.assert_array_equal(alike.array, mask)


@pytest.mark.parametrize("kind", KINDS)
def test_convert_reads_the_names_and_codes_that_were_written(kind: str, tmp_path: Path) -> None:
    series = one_series(tmp_path / "dicom" / "ct", Stack(size=(9, 8), gaps_mm=(2.0,) * 3))
    grid = image_grid(series)
    write(tmp_path / "dicom", series, blobs(grid.shape), grid, kind)
    read_back(tmp_path / "dicom", tmp_path / "out")
    labels = read_listing(tmp_path / "out" / "dataset.json").labels.labels
    assert {(label.name, label.code) for label in labels} == {(label.name, label.code) for label in TABLE.labels}


def test_codes_that_another_program_gave_stay(tmp_path: Path) -> None:
    series = one_series(tmp_path / "dicom" / "ct", Stack(size=(9, 8), gaps_mm=(2.0,) * 3))
    grid = image_grid(series)
    path = write(tmp_path / "dicom", series, blobs(grid.shape), grid, "dicom-seg")
    data = pydicom.dcmread(path)
    liver, lobe, _ = data.SegmentSequence
    liver.SegmentedPropertyTypeCodeSequence[0].CodeValue = "64033007"  # said to be a kidney, the description left
    del lobe.SegmentDescription
    data.save_as(path)
    read_back(tmp_path / "dicom", tmp_path / "out")
    labels = read_listing(tmp_path / "out" / "dataset.json").labels.labels
    assert {label.name: label.code and label.code.meaning for label in labels} == {
        "Liver": "Kidney", "left lobe": "Tissue", "thing": "Kidney"
    }  # fmt: skip


class TestSlices:
    def nearest(self, mask: np.ndarray, grid: Grid, stack: Stack) -> np.ndarray:
        """By the place of each pixel in the patient, one by one."""
        planes = []
        for k in range(len(stack.positions_mm)):
            voxels = grid.to_voxel(stack.world_of(k) * np.diag(LPS_FROM_RAS)[:3])
            index = np.floor(voxels + 0.5).astype(int)
            inside = ((index >= 0) & (index < mask.shape)).all(axis=-1)
            i, j, l = np.moveaxis(np.clip(index, 0, np.array(mask.shape) - 1), -1, 0)
            planes.append(np.where(inside, mask[i, j, l], 0))
        return np.stack(planes)

    def geometry(self, tmp_path: Path, stack: Stack) -> Series:
        return one_series(tmp_path / "ct", stack)

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_mask_on_another_grid_is_looked_up_at_each_pixel(self, turned: bool, tmp_path: Path) -> None:
        stack = Stack(size=(9, 12), gaps_mm=(3.0,) * 4, orientation=OBLIQUE)
        series = one_series(tmp_path / "ct", stack)
        grid = series.grid.with_spacing((0.47, 0.83, 1.07))
        if turned:  # about a corner, and permuted
            angle = np.radians(11)
            around = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
            affine = grid.affine.copy()
            affine[:3, :3] = (around @ affine[:3, :3])[:, [2, 0, 1]]
            i, j, k = grid.shape
            grid = Grid((k, i, j), affine)
        mask = np.random.default_rng(0).integers(0, 5, grid.shape).astype(np.uint8)
        expected = self.nearest(mask, grid, stack)
        assert (on_slices(mask, grid, series.geometry) != expected).mean() < 0.01  # at the very edge
        if turned:
            assert (expected == 0).mean() > 0.25  # the corners that the mask doesn't reach

    @pytest.mark.parametrize(
        "stack",
        [
            Stack(size=(24, 20), gaps_mm=(2.0,) * 12, drift=(0.0, 0.3)),
            Stack(size=(24, 20), gaps_mm=(2.0,) * 6 + (3.5,) * 6),
            Stack(size=(24, 20), gaps_mm=(2.0,) * 6 + (3.5,) * 6, drift=(0.05, -0.3), orientation=CORONAL),
        ],
    )
    def test_of_tilted_and_uneven_slices_it_comes_back_within_half_a_slice(self, stack: Stack, tmp_path: Path) -> None:
        source = tmp_path / "dicom"
        series = one_series(source / "ct", stack)
        assert series.is_straightened
        grid = image_grid(series)
        centre = np.mean([stack.world_of(k).reshape(-1, 3).mean(axis=0) for k in (0, -1)], axis=0)
        radius = 6.0
        world = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) * np.diag(LPS_FROM_RAS)[:3]
        off = np.linalg.norm(world - centre, axis=-1) - radius
        mask = (off < 0).astype(np.uint8)
        for kind in KINDS:
            write(source, series, mask, grid, kind)
        ledger, found = read_back(source, tmp_path / "out")
        (back,) = found.values()
        assert back.grid.difference(grid) is None
        # Half a slice by writing, half a slice by reading.
        reach_mm = max(stack.gaps_mm) + max(stack.pixel_mm)
        wrong = back.array != mask
        assert np.abs(off[wrong]).max(initial=0) < reach_mm
        # On the slices themselves it is half a slice, once.
        planes = on_slices(mask, grid, series.geometry)
        off = np.stack([np.linalg.norm(stack.world_of(k) - centre, axis=-1) for k in range(len(planes))]) - radius
        assert np.abs(off[(planes > 0) != (off < 0)]).max(initial=0) < grid.spacing_mm[2] / 2 + max(stack.pixel_mm)
        assert {outcome.status for outcome in ledger.outcomes} == {Status.DONE}


class TestOutlines:
    def filled(self, contours: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """By matplotlib: pixels whose centre lies inside an odd number of contours."""
        rows, columns = np.indices(shape)
        centres = np.column_stack((columns.ravel(), rows.ravel()))
        inside = [Polygon(contour).contains_points(centres).reshape(shape) for contour in contours]
        return np.sum(inside, axis=0) % 2 == 1

    def test_the_even_odd_rule_gives_back_every_pixel(self) -> None:
        for seed in range(20):
            plane = np.random.default_rng(seed).random((13, 17)) < 0.15 + 0.04 * seed
            contours = outlines(plane)
            np.testing.assert_array_equal(self.filled(contours, plane.shape), plane)

    def test_a_hole_is_a_contour_and_straight_lines_have_no_points(self) -> None:
        plane = np.zeros((10, 12), bool)
        plane[1:9, 2:11] = True
        plane[3:6, 4:8] = False
        outer, inner = sorted(outlines(plane), key=np.ptp, reverse=True)
        assert len(outer) == len(inner) == 8  # the corners are cut
        np.testing.assert_array_equal((outer.min(axis=0), outer.max(axis=0)), ((1.5, 0.5), (10.5, 8.5)))
        np.testing.assert_array_equal((inner.min(axis=0), inner.max(axis=0)), ((3.5, 2.5), (7.5, 5.5)))
        assert outlines(np.zeros((3, 3), bool)) == []


class TestSegmentation:
    @pytest.mark.parametrize("kind", ["dicom-seg", "dicom-labelmap"])
    @pytest.mark.parametrize("size", [(11, 13), (16, 8)])
    def test_highdicom_reads_the_same(self, kind: str, size: tuple[int, int], tmp_path: Path) -> None:
        import highdicom as hd

        series = one_series(tmp_path / "ct", Stack(size=size, gaps_mm=(2.0,) * 6, orientation=OBLIQUE))
        grid = image_grid(series)
        mask = blobs(grid.shape)
        mask[:, :, -1] = 0
        path = write(tmp_path, series, mask, grid, kind)
        planes = on_slices(mask, grid, series.geometry)
        seg = hd.seg.segread(path)
        numbers = [1, 2, 5] if kind == "dicom-labelmap" else [1, 2, 3]
        assert seg.segment_numbers == numbers
        uids = [image.header.uid(0x00080018) for image in series.slices]
        pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        for place, label in enumerate(TABLE.labels):
            np.testing.assert_array_equal(pixels[..., place], planes == label.index)
        volume = seg.get_volume(combine_segments=True, allow_missing_positions=True)
        first = volume.get_plane_positions()[0][0].ImagePositionPatient
        assert np.abs(series.geometry.positions_mm - first).max(axis=1).min() < 1e-6
        described = [seg.get_segment_description(number) for number in numbers]
        assert [one.segment_label for one in described] == ["Liver", "left lobe", "thing"]
        assert [one.segmented_property_type.meaning for one in described] == ["Liver", "Tissue", "Kidney"]
        assert [one.segmented_property_category.meaning for one in described] == [
            "Anatomical Structure", "Tissue", "Anatomical Structure"
        ]  # fmt: skip
        colours = [hd.color.CIELabColor.from_dicom_value(list(one.RecommendedDisplayCIELabValue)) for one in described]
        np.testing.assert_allclose(
            [colour.to_rgb() for colour in colours], [label.rgb for label in TABLE.labels], atol=1
        )
        assert {one.algorithm_identification.name for one in described} == {"net"}
        assert {one.algorithm_identification.version for one in described} == {"1.2.3"}

    def test_every_label_has_its_number_in_each_object(self, series: Series, tmp_path: Path) -> None:
        grid = image_grid(series)
        mask = np.zeros(grid.shape, np.uint8)
        mask[3, 4, 5] = 5
        data = pydicom.dcmread(write(tmp_path, series, mask, grid, "dicom-seg"))
        assert [segment.SegmentLabel for segment in data.SegmentSequence] == ["Liver", "left lobe", "thing"]
        assert data.NumberOfFrames == 1
        (frame,) = data.PerFrameFunctionalGroupsSequence
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 3
        assert len(data.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(series.slices)

    def test_a_value_that_the_table_does_not_name_is_a_segment(self, series: Series, tmp_path: Path) -> None:
        grid = image_grid(series)
        mask = np.full(grid.shape, 9, np.uint8)
        data = pydicom.dcmread(write(tmp_path, series, mask, grid, "dicom-seg"))
        assert data.SegmentSequence[-1].SegmentLabel == "label 9"
        assert data.pixel_array.all()

    def test_an_empty_mask_is_told_by_empty_frames(self, series: Series, tmp_path: Path) -> None:
        grid = image_grid(series)
        empty = np.zeros(grid.shape, np.uint8)
        data = pydicom.dcmread(write(tmp_path, series, empty, grid, "dicom-seg"))
        assert data.NumberOfFrames == len(data.SegmentSequence) == 3
        assert not data.pixel_array.any()
        data = pydicom.dcmread(write(tmp_path, series, empty, grid, "dicom-labelmap"))
        assert not data.pixel_array.any()
        data = pydicom.dcmread(write(tmp_path, series, empty, grid, "rtstruct"))
        assert [roi.ROIName for roi in data.StructureSetROISequence] == ["Liver", "left lobe", "thing"]
        assert not any("ContourSequence" in roi for roi in data.ROIContourSequence)

    def test_many_labels_take_words(self, series: Series, tmp_path: Path) -> None:
        grid = image_grid(series)
        mask = np.zeros(grid.shape, np.uint16)
        mask[3, 4, 5], mask[4, 4, 5] = 300, 7
        table = LabelTable((Label(7, "low"), Label(300, "high")))
        data = pydicom.dcmread(write(tmp_path, series, mask, grid, "dicom-labelmap", table))
        assert (data.BitsAllocated, sorted(np.unique(data.pixel_array))) == (16, [0, 7, 300])

    @pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
    def test_frames_of_one_file_are_referred_to(self, kind: str, tmp_path: Path) -> None:
        source = tmp_path / "dicom"
        stacks = [Stack(modality="MR", offset=offset, gaps_mm=(5.0,) * 4) for offset in (40.0, 90.0)]
        save(source / "frames", enhanced(stacks))  # two points in time, in mixed order
        found = scan(source).series
        one = found[1]
        grid = image_grid(one)
        path = write(source, one, blobs(grid.shape), grid, kind)
        data = pydicom.dcmread(path)
        image = pydicom.dcmread(source / "frames")
        if kind == "rtstruct":
            for roi in data.ROIContourSequence:
                for contour in roi.ContourSequence:
                    number = contour.ContourImageSequence[0].ReferencedFrameNumber
                    group = image.PerFrameFunctionalGroupsSequence[number - 1]
                    first = group.PlanePositionSequence[0].ImagePositionPatient
                    assert contour.ContourData[2] == pytest.approx(first[2], abs=1e-3)
                    assert group.FrameContentSequence[0].TemporalPositionIndex == 2
            return
        for frame in data.PerFrameFunctionalGroupsSequence:
            number = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
            group = image.PerFrameFunctionalGroupsSequence[number - 1]
            assert (
                group.PlanePositionSequence[0].ImagePositionPatient
                == frame.PlanePositionSequence[0].ImagePositionPatient
            )
            assert group.FrameContentSequence[0].TemporalPositionIndex == 2

    def test_tiles_of_a_mosaic_lie_where_they_lie_in_the_patient(self, tmp_path: Path) -> None:
        source = tmp_path / "dicom"
        save(source / "0", mosaic(Stack(modality="MR", orientation=OBLIQUE), 3))
        (series,) = scan(source).series
        grid = image_grid(series)
        mask = blobs(grid.shape)
        for kind in KINDS:
            write(source, series, mask, grid, kind)
        _, found = read_back(source, tmp_path / "out")
        (back,) = found.values()
        np.testing.assert_array_equal(back.array, mask)


class TestWhoseItIs:
    def edited(self, tmp_path: Path, edit: Callable[[pydicom.Dataset], object]) -> Series:
        return one_series(
            tmp_path / "ct",
            Stack(gaps_mm=(2.0,) * 4, tamper=lambda data, _: edit(data)),  # type: ignore[arg-type,return-value]
        )

    @pytest.mark.parametrize("kind", KINDS)
    def test_patient_and_study_are_those_of_the_images(self, kind: str, tmp_path: Path) -> None:
        def edit(data: pydicom.Dataset) -> None:
            data.SpecificCharacterSet = "ISO_IR 101"
            data.PatientName = "Dvořák^Jiří"
            data.PatientBirthDate, data.PatientSex, data.PatientAge = "19500102", "M", "070Y"
            data.StudyDate, data.StudyTime, data.SeriesDate = "20200304", "101112", "20200305"
            data.StudyID, data.AccessionNumber = "S1", "A1"
            data.InstitutionName = "Somewhere"

        series = self.edited(tmp_path, edit)
        grid = image_grid(series)
        data = pydicom.dcmread(write(tmp_path, series, blobs(grid.shape), grid, kind))
        assert data.PatientName == "Dvořák^Jiří"
        assert (data.PatientID, data.PatientBirthDate, data.PatientSex) == ("TRAP", "19500102", "M")
        assert (data.StudyID, data.AccessionNumber, data.StudyDate) == ("S1", "A1", "20200304")
        assert data.StudyInstanceUID == series.identity.study_uid
        assert data.SeriesInstanceUID != series.identity.series_uid
        date = data.StructureSetDate if kind == "rtstruct" else data.ContentDate
        assert date == "20200305"
        assert "InstitutionName" not in data
        assert "InstanceCreationDate" not in data

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_breaks_the_rules_or_lacks_stops_nothing(
        self, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def edit(data: pydicom.Dataset) -> None:
            del data.PatientName, data.FrameOfReferenceUID
            data.PatientID = "long " * 20
            data.add_new("PatientSex", "CS", "male?")
            data.add_new("StudyDate", "DA", "yesterday")
            data.add_new("PatientAge", "AS", "old")

        series = self.edited(tmp_path, edit)
        grid = image_grid(series)
        caplog.clear()
        path = write(tmp_path, series, blobs(grid.shape), grid, kind)
        assert not caplog.records  # which would quote the values
        with pydicom.config.disable_value_validation():
            data = pydicom.dcmread(path)
            assert data.PatientID == ("long " * 20).strip()  # nobody else's
        assert data.PatientName == data.PatientSex == data.StudyDate == ""
        assert data.FrameOfReferenceUID.startswith("2.25.")
        assert "PatientAge" not in data
        if kind == "rtstruct":
            assert data.StructureSetDate == ""
        else:
            assert data.ContentDate == "19000101"

    @pytest.mark.parametrize("tag", [0x00100010, 0x00100020])  # name, identifier
    def test_a_patient_whose_bytes_do_not_fit_the_character_set_is_nobody(self, tag: int, tmp_path: Path) -> None:
        def edit(data: pydicom.Dataset) -> None:
            data.SpecificCharacterSet = "ISO_IR 192"
            data.add_new(tag, "UN", b"M\xfc1")  # Latin-1

        series = self.edited(tmp_path, edit)
        grid = image_grid(series)
        with pytest.raises(InputError, match="character set") as error:
            write(tmp_path, series, blobs(grid.shape), grid, "dicom-seg")
        assert error.value.code == "unreadable-patient"

    @pytest.mark.parametrize(
        ("keyword", "others"), [("PatientName", "Roe^Jane"), ("PatientBirthDate", "19500102"), ("PatientSex", "M")]
    )
    def test_images_that_do_not_agree_whose_they_are_make_no_object(
        self, keyword: str, others: str, tmp_path: Path
    ) -> None:
        def edit(data: pydicom.Dataset, number: int) -> None:
            data.PatientName, data.PatientBirthDate, data.PatientSex = "Doe^Jane", "19600102", "F"
            if number == 3:
                setattr(data, keyword, others)

        series = one_series(tmp_path / "ct", Stack(gaps_mm=(2.0,) * 4, tamper=edit))
        grid = image_grid(series)
        for kind in KINDS:
            with pytest.raises(InputError, match="would be of one of them") as error:
                write(tmp_path, series, blobs(grid.shape), grid, kind)
            assert error.value.code == "patients-differ"
            assert "Roe" not in error.value.message

    def test_one_patient_may_be_spelled_in_several_ways_or_be_left_out(self, tmp_path: Path) -> None:
        def edit(data: pydicom.Dataset, number: int) -> None:
            data.PatientName = ("Müller^Jane", "MÜLLER^JANE^^^", "")[number % 3]
            data.SpecificCharacterSet = ("ISO_IR 100", "ISO_IR 192")[number % 2]

        series = one_series(tmp_path / "ct", Stack(gaps_mm=(2.0,) * 4, tamper=edit))
        grid = image_grid(series)
        data = pydicom.dcmread(write(tmp_path, series, blobs(grid.shape), grid, "dicom-seg"))
        assert data.PatientName == "Müller^Jane"

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_images_own_uids_are_kept_whatever_they_are(self, kind: str, tmp_path: Path) -> None:
        """Another one would tie the object to another study, or to images that nobody has."""

        def edit(data: pydicom.Dataset, number: int) -> None:
            data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.03.4", "1.2.03.5"
            data.FrameOfReferenceUID, data.SOPInstanceUID = "1.2." + "3" * 70, f"1.2.03.6.{number + 1}"

        with pydicom.config.disable_value_validation():
            series = one_series(tmp_path / "ct", Stack(gaps_mm=(2.0,) * 4, tamper=edit))
        grid = image_grid(series)
        path = write(tmp_path, series, blobs(grid.shape), grid, kind)  # without a warning, which would quote them
        with pydicom.config.disable_value_validation():
            data = pydicom.dcmread(path)
            assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == ("1.2.03.4", "1.2." + "3" * 70)
            text = str(data)
        assert text.count("1.2.03.5") == 1
        assert all(f"1.2.03.6.{number}" in text for number in range(1, 6))

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_same_content_gives_the_same_bytes_and_another_other_uids(
        self, kind: str, series: Series, tmp_path: Path
    ) -> None:
        grid = image_grid(series)
        mask = blobs(grid.shape)
        first = write(tmp_path / "1", series, mask, grid, kind)
        assert first.read_bytes() == write(tmp_path / "2", series, mask, grid, kind).read_bytes()
        mask[5, 5, 3] = 1
        named = LabelTable((*TABLE.labels[:2], replace(TABLE.labels[2], name="other")))
        others = [write(tmp_path / "3", series, mask, grid, kind),
                  write(tmp_path / "4", series, blobs(grid.shape), grid, kind, named)]  # fmt: skip
        data = [pydicom.dcmread(path) for path in (first, *others)]
        assert len({one.SOPInstanceUID for one in data} | {one.SeriesInstanceUID for one in data}) == 6
        assert all(pydicom.uid.UID(one.SOPInstanceUID).is_valid for one in data)

    def test_names_are_cut_to_what_dicom_holds(self, series: Series, tmp_path: Path) -> None:
        grid = image_grid(series)
        table = LabelTable((Label(1, "x" * 80), Label(2, "a\\b\nc"), Label(5, "Größe")))
        for kind in KINDS:
            data = pydicom.dcmread(write(tmp_path, series, blobs(grid.shape), grid, kind, table))
            names = (
                [roi.ROIName for roi in data.StructureSetROISequence]
                if kind == "rtstruct"
                else [one.SegmentLabel for one in data.SegmentSequence if one.SegmentNumber]
            )
            assert names == ["x" * 64, "a/b/nc", "Größe"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_image_that_is_no_dicom_is_refused(self, kind: str, tmp_path: Path) -> None:
        image = MaskedImage("case", tmp_path / "case.nii.gz")
        grid = Grid((3, 3, 3), np.eye(4))
        with pytest.raises(InputError, match="Give the folder of DICOM itself") as refused:
            WRITERS[kind].write(tmp_path, np.ones((3, 3, 3), np.uint8), grid, TABLE, image)
        assert refused.value.code == "no-dicom-source"


class TestStructureSet:
    def test_what_it_says(self, series: Series, tmp_path: Path) -> None:
        grid = image_grid(series)
        mask = blobs(grid.shape)
        mask[mask == 2] = 0
        data = pydicom.dcmread(write(tmp_path, series, mask, grid, "rtstruct"))
        assert [(roi.ROINumber, roi.ROIName) for roi in data.StructureSetROISequence] == [(1, "Liver"), (5, "thing")]
        assert [list(roi.ROIDisplayColor) for roi in data.ROIContourSequence] == [[200, 30, 10], [1, 2, 3]]
        codes = [one.get("RTROIIdentificationCodeSequence") for one in data.RTROIObservationsSequence]
        assert codes[0] is None
        assert codes[1][0].CodeValue == "64033007"
        (frame,) = data.ReferencedFrameOfReferenceSequence
        (study,) = frame.RTReferencedStudySequence
        (one,) = study.RTReferencedSeriesSequence
        assert one.SeriesInstanceUID == series.identity.series_uid
        assert len(one.ContourImageSequence) == len(series.slices)
        for contour in data.ROIContourSequence[0].ContourSequence:
            assert contour.NumberOfContourPoints == len(contour.ContourData) // 3
            place = [image.header.uid(0x00080018) for image in series.slices].index(
                contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            )
            assert contour.ContourData[2] == pytest.approx(series.slices[place].position_mm[2], abs=1e-3)

    def test_a_contour_longer_than_64_kib_is_read_back(self, tmp_path: Path) -> None:
        source = tmp_path / "dicom"
        series = one_series(source / "ct", Stack(size=(140, 140), gaps_mm=(2.0,) * 3))
        grid = image_grid(series)
        mask = np.zeros(grid.shape, np.uint8)
        mask[1::2, 1:-1], mask[:, 1] = 1, 1  # a comb
        path = write(source, series, mask, grid, "rtstruct")
        data = pydicom.dcmread(path)
        assert max(len(one.ContourData) for one in data.ROIContourSequence[0].ContourSequence) > 1000
        _, found = read_back(source, tmp_path / "out")
        (back,) = found.values()
        np.testing.assert_array_equal(back.array, mask)

    def test_noise_is_refused(self, tmp_path: Path) -> None:
        series = one_series(tmp_path / "ct", Stack(size=(100, 100), gaps_mm=(2.0,) * 3))
        grid = image_grid(series)
        mask = np.zeros(grid.shape, np.uint8)
        mask[::2, ::2] = 1
        with pytest.raises(InputError, match="too many pieces") as refused:
            write(tmp_path, series, mask, grid, "rtstruct")
        assert refused.value.code == "too-many-contours"
        assert not (tmp_path / "case.rtstruct.dcm").exists()


@pytest.mark.parametrize(
    "name", ["mr-t1-head/13-hippocampus-crop", "ct-gantry-tilt-ge", "segmentation-objects/dcmqi/ct-3slice"]
)
def test_on_real_series(name: str, real_data: RealData, tmp_path: Path) -> None:
    source = tmp_path / "dicom"
    shutil.copytree(real_data(f"dicom/{name}"), source)
    series = scan(source).series[0]
    grid = image_grid(series)
    mask = np.zeros(grid.shape, np.uint8)
    i, j, k = (size // 4 for size in grid.shape)
    mask[i : 3 * i, j : 2 * j] = 1
    mask[:i, :, -k - 1 :] = 2
    mask[3 * i :, 3 * j :] = 5
    for kind in KINDS:
        write(source, series, mask, grid, kind)
    ledger, found = read_back(source, tmp_path / "out")
    (back,) = [one for one in found.values() if one.grid.difference(grid) is None]
    assert any("1 RTSTRUCT" in outcome.message for outcome in ledger.outcomes)
    if series.is_straightened:
        planes = on_slices(mask, grid, series.geometry)
        np.testing.assert_array_equal(on_slices(back.array, grid, series.geometry), planes)
    else:
        np.testing.assert_array_equal(back.array, mask)


def test_the_retired_byte_order_is_read_and_comes_back(write_series: WriteSeries, tmp_path: Path) -> None:
    """Explicit VR Big Endian (PS3.5, 2006, A.3)."""
    write_series(tmp_path / "dicom" / "ct", syntax="1.2.840.10008.1.2.2")
    write_series(tmp_path / "little" / "ct")
    (series,), (little,) = (scan(tmp_path / name / "ct").series for name in ("dicom", "little"))
    np.testing.assert_array_equal(load_values(series).volume.array, load_values(little).volume.array)
    grid = image_grid(series)
    mask = blobs(grid.shape)
    for kind in KINDS:
        path = write(tmp_path / "dicom", series, mask, grid, kind)
        assert path.read_bytes() == write(tmp_path / "little", little, mask, grid, kind).read_bytes()
    _, found = read_back(tmp_path / "dicom", tmp_path / "out")
    (back,) = found.values()
    np.testing.assert_array_equal(back.array, mask)
