"""Label objects assigned to series, and their structures to labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from tests.dicom_objects import blobs, image_grid, read_back, write
from tests.dicom_traps.stack import Stack, save, write_stack
from tests.dicom_traps.volumes import enhanced
from tests.drawn import Roi
from tests.label_study import NATIVE, STACK, Study, by_code, content_of, done, names_of, the_mask
from volseg.dataset.faults import find_faults
from volseg.dicom import Series, scan
from volseg.outcomes import Ledger, Status
from volseg.verbs.convert import convert
from volseg.volume import read_mask, read_volume


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "dicom")


def test_a_cohort_that_grows_keeps_its_numbers_and_its_masks(tmp_path: Path) -> None:
    root, out = tmp_path / "dicom", tmp_path / "out"
    first = Study(root, replace(STACK, study=1), "a")
    ball, small = first.centre(), first.centre(4)
    first.structures(Roi("Spleen", first.contours(ball)), Roi("Liver", first.contours(small)))
    convert(root, out, NATIVE)
    assert names_of(out) == {"Liver": 1, "Spleen": 2}
    before = {name: raw for name, raw in content_of(out).items() if name.endswith(".gz")}
    second = Study(root, replace(STACK, study=2, offset=70.0), "b")
    second.structures(Roi("aorta", second.contours(small)), Roi("LIVER", second.contours(ball)))
    ledger = convert(root, out, NATIVE)
    assert names_of(out) == {"Liver": 1, "Spleen": 2, "aorta": 3}
    assert {name: content_of(out)[name] for name in before} == before
    new = next(outcome for outcome in ledger.outcomes if outcome.code == "done")
    mask = read_mask(out / "labelsTr" / f"{new.case}.nii.gz")
    assert set(np.unique(mask.array)) == {0, 1, 3}
    assert not any(fault.is_error for fault in find_faults(out))


def test_labels_that_a_person_named_keep_their_form(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("LIVER", study.contours(study.centre())), Roi("Lesion", study.contours(study.centre(4))))
    out = tmp_path / "out"
    out.mkdir()
    (out / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 7}, "licence": "ours"}))
    convert(study.root, out, NATIVE)
    content = json.loads((out / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "liver": 7, "Lesion": 8}
    assert content["licence"] == "ours"
    assert set(np.unique(read_mask(next((out / "labelsTr").glob("*.nii.gz"))).array)) == {0, 7, 8}


def test_a_choice_of_labels_maps_names_and_lists_the_others(study: Study, tmp_path: Path) -> None:
    rois = [
        Roi("liver segment", study.contours(study.centre())),
        Roi("GTV", study.contours(study.centre(4))),
        Roi("Couch", study.contours(study.centre(5, (2, 3)))),
    ]
    study.structures(*rois)
    out = tmp_path / "out"
    options = replace(NATIVE, labels="Tumour=gtv; Liver=Liver_Segment; Spleen")
    ledger = convert(study.root, out, options)
    assert names_of(out) == {"Tumour": 1, "Liver": 2, "Spleen": 3}
    assert ledger.skipped_kinds == {"structure 'Couch', which is no label": 1}
    assert set(np.unique(the_mask(out, ledger).array)) == {0, 1, 2}
    recorded = json.loads((out / "conversion.json").read_text())
    assert recorded["provenance"]["options"]["labels"] == "Tumour=tumour,gtv; Liver=liver,liversegment; Spleen=spleen"
    # The same choice from a file whose path may name a patient.
    path = tmp_path / "Jane Doe.txt"
    path.write_text("Tumour=gtv\nLiver=Liver_Segment\nSpleen\n")
    before = content_of(out)
    convert(study.root, out, replace(NATIVE, labels=str(path)))
    assert content_of(out) == before


def test_copies_count_once_and_false_copies_are_refused(study: Study, tmp_path: Path) -> None:
    path = study.structures(Roi("A", study.contours(study.centre())))
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert "from 1 RTSTRUCT" in done(ledger).message
    copy.write_bytes(path.read_bytes().replace(b"SECRETLABEL", b"OTHERSLABEL"))
    ledger = convert(study.root, tmp_path / "other", NATIVE)
    assert by_code(ledger)["conflicting-copies"].private == "a/copy, a/rs"


def test_labels_of_a_series_that_was_not_converted_are_skipped(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("A", study.contours(study.centre())))
    ledger = convert(study.root, tmp_path / "out", replace(NATIVE, spacing=(0.01,)))
    assert by_code(ledger)["too-large"].status is Status.REFUSED
    assert by_code(ledger)["labels-of-refused-series"].status is Status.SKIPPED
    assert ledger.exit_code == 2


# What label objects refer to.


def _without(*names: str) -> object:
    def edit(data: Dataset) -> None:
        frame = data.ReferencedFrameOfReferenceSequence[0]
        if "series" in names:
            frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
        if "instances" in names:
            del frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
        if "frame" in names:
            frame.FrameOfReferenceUID = "1.2.3"
            for roi in data.StructureSetROISequence:
                roi.ReferencedFrameOfReferenceUID = "1.2.3"

    return edit


@pytest.mark.parametrize(
    ("lost", "warned"), [((), False), (("series",), False), (("instances",), False), (("series", "instances"), True)]
)
def test_the_series_is_found_by_what_is_left_of_the_references(
    study: Study, lost: tuple[str, ...], warned: bool, tmp_path: Path
) -> None:
    study.structures(Roi("A", study.contours(study.centre())), edit=_without(*lost))
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert the_mask(tmp_path / "out", ledger).array.any()
    assert len(done(ledger).warnings) == warned
    assert any("frame of reference" in warning for warning in done(ledger).warnings) is warned


@pytest.mark.parametrize(
    ("lost", "status", "code"),
    [
        (("series", "instances", "frame"), Status.SKIPPED, "labels-without-series"),
        (("frame",), Status.REFUSED, "other-frame-of-reference"),
    ],
)
def test_labels_that_lead_to_no_series_are_told(
    study: Study, lost: tuple[str, ...], status: Status, code: str, tmp_path: Path
) -> None:
    study.structures(Roi("A", study.contours(study.centre())), edit=_without(*lost))
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    outcome = by_code(ledger)[code]
    assert (outcome.status, outcome.private) == (status, "a/rs")
    assert outcome.case.startswith("rtstruct_")
    assert names_of(tmp_path / "out") == {}
    assert not (tmp_path / "out/labelsTr").exists()


def test_structures_in_another_frame_of_reference_are_left_out_one_by_one(study: Study, tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        data.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"

    study.structures(Roi("A", study.contours(study.centre())), Roi("B", study.contours(study.centre(4))), edit=edit)
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert set(np.unique(the_mask(tmp_path / "out", ledger).array)) == {0, 1}
    assert ledger.skipped_kinds == {"structure in another frame of reference than the image": 1}
    ledger = convert(study.root, tmp_path / "other", replace(NATIVE, labels="B"))
    assert by_code(ledger)["other-frame-of-reference"].status is Status.REFUSED


def test_labels_of_a_refused_series_are_skipped_even_where_another_shares_its_frame(tmp_path: Path) -> None:
    root = tmp_path / "dicom"
    bad = Study(root, replace(STACK, gaps_mm=(2.0, 2.0, 4.0, 2.0, 2.0)), "bad")
    bad.structures(Roi("A", bad.contours(bad.centre())))
    Study(root, replace(STACK, series=2), "good")
    ledger = convert(root, tmp_path / "out", NATIVE)
    assert by_code(ledger)["missing-slice"].status is Status.REFUSED
    assert by_code(ledger)["labels-of-refused-series"].status is Status.SKIPPED


def test_a_frame_of_reference_that_several_series_share_tells_nothing(tmp_path: Path) -> None:
    root = tmp_path / "dicom"
    study = Study(root, STACK, "a")
    Study(root, replace(STACK, series=2), "b")
    study.structures(Roi("A", study.contours(study.centre())), edit=_without("series", "instances"))
    ledger = convert(root, tmp_path / "out", NATIVE)
    assert by_code(ledger)["ambiguous-labels"].status is Status.REFUSED


def _two_echoes(root: Path) -> Study:
    """One series of two volumes."""
    first = Study(root, replace(STACK, modality="MR", tamper=lambda data, _: data.__setattr__("EchoNumbers", 1)))
    second = replace(
        STACK, modality="MR", number=101, offset=90.0, tamper=lambda data, _: data.__setattr__("EchoNumbers", 2)
    )
    write_stack(root / "a" / "second", second)
    return first


def test_of_a_series_with_several_volumes_the_images_tell_which(tmp_path: Path) -> None:
    study = _two_echoes(tmp_path / "dicom")
    study.structures(Roi("A", study.contours(study.centre())))
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    first, second = sorted(ledger.outcomes, key=lambda outcome: outcome.case)
    assert first.case.endswith("_echo1")
    assert first.outputs[0].startswith("imagesTr/")
    assert second.outputs[0].startswith("imagesTs/")


class TestOneFileOfTwoVolumes:
    """An enhanced file of two points in time, frames in mixed order; objects by our own writers."""

    @pytest.fixture
    def volumes(self, tmp_path: Path) -> tuple[Series, ...]:
        return self.written(tmp_path, 0.0)

    def written(self, folder: Path, apart_mm: float) -> tuple[Series, ...]:
        stacks = [
            Stack(modality="MR", offset=offset, origin_mm=(0, 0, mm)) for offset, mm in ((40, 0), (300, apart_mm))
        ]
        save(folder / "dicom" / "frames", enhanced(stacks))
        return scan(folder / "dicom").series

    def converted(self, folder: Path) -> tuple[Ledger, dict[str, np.ndarray]]:
        ledger, found = read_back(folder / "dicom", folder / "out")
        return ledger, {case: volume.array for case, volume in found.items()}

    @pytest.mark.parametrize("kind", ["dicom-seg", "dicom-labelmap", "rtstruct"])
    def test_an_object_goes_to_the_volume_whose_frames_it_names(
        self, kind: str, volumes: tuple[Series, ...], tmp_path: Path
    ) -> None:
        mask = blobs(volumes[1].grid.shape)
        write(tmp_path / "dicom", volumes[1], mask, image_grid(volumes[1]), kind)
        ledger, found = self.converted(tmp_path)
        images = {case: read_volume(tmp_path / "out/imagesTr" / f"{case}.nii.gz").array.mean() for case in found}
        assert [round(value) > 250 for value in images.values()] == [True]  # that of the offset 300
        np.testing.assert_array_equal(*found.values(), mask)
        assert [len(outcome.warnings) for outcome in ledger.outcomes] == [0, 0]

    def of_both(self, volumes: tuple[Series, ...], tmp_path: Path) -> list[np.ndarray]:
        """The masks of one object that was drawn on both."""
        masks = [blobs(one.grid.shape, seed) for seed, one in enumerate(volumes)]
        paths = [
            write(tmp_path / str(number), one, mask, image_grid(one), "dicom-seg")
            for number, (one, mask) in enumerate(zip(volumes, masks, strict=True))
        ]
        first, second = map(dcmread, paths)
        frame_bytes, odd = divmod(first.Rows * first.Columns, 8)
        assert not odd
        pixels = [one.PixelData[: one.NumberOfFrames * frame_bytes] for one in (first, second)]
        first.PixelData = b"".join(pixels) + b"\0" * (sum(map(len, pixels)) % 2)
        first.PerFrameFunctionalGroupsSequence.extend(second.PerFrameFunctionalGroupsSequence)
        first.NumberOfFrames += second.NumberOfFrames
        save(tmp_path / "dicom" / "seg", first)
        return masks

    def test_what_was_drawn_on_a_refused_volume_too_goes_to_no_other(
        self, volumes: tuple[Series, ...], tmp_path: Path
    ) -> None:
        self.of_both(volumes, tmp_path)
        data = dcmread(tmp_path / "dicom" / "frames")
        group = data.PerFrameFunctionalGroupsSequence[volumes[0].slices[3].frame]
        group.PlanePositionSequence[0].ImagePositionPatient[2] += 5
        save(tmp_path / "dicom" / "frames", data)
        ledger, found = self.converted(tmp_path)
        assert not found
        assert "labels-of-refused-series" in by_code(ledger)
        assert [one.status for one in ledger.outcomes].count(Status.DONE) == 1

    def test_each_frame_goes_to_its_own(self, volumes: tuple[Series, ...], tmp_path: Path) -> None:
        masks = self.of_both(volumes, tmp_path)
        _, found = self.converted(tmp_path)
        assert len(found) == 2
        for mask in masks:
            assert sum(np.array_equal(mask, other) for other in found.values()) == 1

    def without_numbers(self, path: Path) -> None:
        data = dcmread(path)
        for group in data.PerFrameFunctionalGroupsSequence:
            del group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        save(path, data)

    @pytest.mark.parametrize("derived", [True, False])
    def test_without_frame_numbers_nobody_can_tell(
        self, derived: bool, volumes: tuple[Series, ...], tmp_path: Path
    ) -> None:
        path = write(tmp_path / "dicom", volumes[1], blobs(volumes[1].grid.shape), image_grid(volumes[1]), "dicom-seg")
        self.without_numbers(path)
        if not derived:
            data = dcmread(path)
            for group in data.PerFrameFunctionalGroupsSequence:
                del group.DerivationImageSequence
            save(path, data)
        ledger, found = self.converted(tmp_path)
        assert not found
        assert by_code(ledger)["ambiguous-labels"].status is Status.REFUSED
        assert "2 volumes" in by_code(ledger)["ambiguous-labels"].message

    def test_without_frame_numbers_the_place_tells(self, tmp_path: Path) -> None:
        volumes = self.written(tmp_path, 1.7)
        mask = blobs(volumes[1].grid.shape)
        path = write(tmp_path / "dicom", volumes[1], mask, image_grid(volumes[1]), "dicom-seg")
        self.without_numbers(path)
        _, found = self.converted(tmp_path)
        np.testing.assert_array_equal(*found.values(), mask)


@pytest.mark.parametrize("lost", ["slice", "volume"])
def test_what_was_drawn_on_a_volume_that_was_refused_goes_to_no_other(tmp_path: Path, lost: str) -> None:
    study = _two_echoes(tmp_path / "dicom")
    study.structures(Roi("A", study.contours(study.centre())))
    for path in sorted((study.root / "a/ct").iterdir())[5 if lost == "slice" else 0 :][
        : 1 if lost == "slice" else None
    ]:
        path.unlink()
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    masks = list((tmp_path / "out").glob("labelsTr/*.nii.gz"))
    if lost == "slice":
        assert sorted(by_code(ledger)) == ["done", "incomplete-volume", "labels-of-refused-series"]
        assert not masks
    else:  # nothing tells that there was another one, so a person has to judge
        assert len(masks) == 1
        assert any("images of the series that are not there" in text for text in done(ledger).warnings)


def test_without_images_a_series_of_several_volumes_is_ambiguous(tmp_path: Path) -> None:
    study = _two_echoes(tmp_path / "dicom")
    study.structures(Roi("A", study.contours(study.centre())), edit=_without("instances"))
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert by_code(ledger)["ambiguous-labels"].status is Status.REFUSED


def test_an_object_that_refers_to_two_series_is_drawn_on_both(tmp_path: Path) -> None:
    root = tmp_path / "dicom"
    study = Study(root, STACK, "a")
    other = Study(root, replace(STACK, series=2, offset=9.0), "b")

    def both(data: Dataset) -> None:
        series = data.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
        more = Dataset()
        more.SeriesInstanceUID = other.images[0].SeriesInstanceUID
        series.append(more)
        del series[0].ContourImageSequence

    study.structures(Roi("A", study.contours(study.centre())), edit=both)
    ledger = convert(root, tmp_path / "out", NATIVE)
    masks = [read_mask(path).array for path in (tmp_path / "out/labelsTr").glob("*.nii.gz")]
    assert len(masks) == 2
    np.testing.assert_array_equal(*masks)
    assert ledger.exit_code == 0


def test_a_damaged_label_object_is_refused_by_itself(study: Study, tmp_path: Path) -> None:
    path = study.structures(Roi("A", study.contours(study.centre())))
    data = Dataset()
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    data.SOPInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.SegmentationType = "NONE"
    save(path.with_name("bad"), data)
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert by_code(ledger)["unsupported-segmentation"].private == "a/bad"
    assert the_mask(tmp_path / "out", ledger).array.any()
    assert ledger.exit_code == 1
