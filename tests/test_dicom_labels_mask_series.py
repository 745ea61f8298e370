"""Series of images that are masks, in trees as some public liver sets have them, through ``convert``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import RLELossless

from tests.dicom_traps.stack import OBLIQUE, Stack, write_stack
from tests.drawn import Roi, on_slice, read_images, segmentation, structure_set
from tests.label_study import NATIVE, Ball, content_of
from volseg.dataset.dataset import read_dataset
from volseg.errors import UsageError
from volseg.outcomes import Ledger, Status
from volseg.verbs.convert import ConvertOptions, convert, preview

STACK = Stack(size=(40, 44), pixel_mm=(1.2, 1.1), gaps_mm=(2.0,) * 11, origin_mm=(0.0, 0.0, 0.0))
PATTERNS = "liver=*MASKS_DICOM/liver; tumour=*livertumor*"
OPTIONS = replace(NATIVE, masks_from=PATTERNS)
BALLS = {"liver": (0.0, 0.0, 0.0, 14.0), "livertumor01": (-4.0, 2.0, 0.0, 4.5), "livertumor02": (5.0, -3.0, 3.0, 4.0)}
Edit = Callable[[Dataset], None]


class Patient:
    """An image, and a mask series for each structure."""

    def __init__(self, folder: Path, number: int = 1, stack: Stack = STACK, **edits: Edit) -> None:
        self.folder, self.number = folder, number
        self.stack = replace(stack, study=number, offset=40.0 * number)
        self.write("PATIENT_DICOM", 1, lambda *_: None)
        self.truth = {}
        for series, (name, values) in enumerate(BALLS.items(), start=2):
            self.truth[name] = self.mask(name, series, values, edits.get(name) or edits.get("every"))

    def write(self, name: str, series: int, change: Callable[[Dataset, int], None], **more: object) -> None:
        def tamper(data: Dataset, k: int) -> None:
            data.PatientID = f"liver_{self.number:02d}"
            change(data, k)

        write_stack(self.folder / name, replace(self.stack, series=series, tamper=tamper, **more))  # type: ignore[arg-type]

    def mask(
        self, name: str, series: int, values: tuple[float, ...], edit: Edit | None = None, **more: object
    ) -> np.ndarray:
        stack = replace(self.stack, **more)  # type: ignore[arg-type]
        world = np.stack([stack.world_of(k) for k in range(len(stack.positions_mm))])
        inside = Ball(world.reshape(-1, 3).mean(axis=0) + np.array(values[:3]), values[3]).holds(world)

        def fill(data: Dataset, k: int) -> None:
            data.PixelData = (255 * inside[k]).astype("<i2").tobytes()
            data.SeriesDescription = "Mask"
            if edit:
                edit(data)

        self.write(f"MASKS_DICOM/{name}", series, fill, **more)
        return inside

    def expected(self, names: dict[str, int]) -> np.ndarray:
        """(slices, rows, columns): liver, and tumours on it."""
        tumours = self.truth["livertumor01"] | self.truth["livertumor02"]
        return np.where(tumours, names["tumour"], np.where(self.truth["liver"], names["liver"], 0))


def codes(ledger: Ledger) -> list[str]:
    return sorted(outcome.code for outcome in ledger.outcomes)


def names_of(out: Path) -> dict[str, int]:
    table = json.loads((out / "dataset.json").read_text())["labels"]
    return {name: int(number) for number, name in table.items()}


def array_of(path: Path) -> np.ndarray:
    """(slices, rows, columns) as nibabel reads it."""
    found: np.ndarray = np.asanyarray(nibabel.load(path).dataobj).T
    return found


def same_uids(data: Dataset) -> None:
    """All of the image, as some tools leave them."""
    data.SeriesInstanceUID = data.SeriesInstanceUID.rsplit(".", 1)[0] + ".1"
    data.SOPInstanceUID = f"{data.SeriesInstanceUID}.{data.InstanceNumber}"
    data.SeriesNumber = 1


def other_uids(data: Dataset) -> None:
    data.StudyInstanceUID, data.FrameOfReferenceUID = f"1.2.3.{data.SeriesNumber}", f"1.2.4.{data.SeriesNumber}"


def no_frame(data: Dataset) -> None:
    del data.FrameOfReferenceUID
    del data.PatientID


@pytest.mark.parametrize("stack", [STACK, replace(STACK, orientation=OBLIQUE), replace(STACK, drift=(0.0, 0.25))])
def test_masks_become_the_labels_of_their_image(tmp_path: Path, stack: Stack) -> None:
    patient = Patient(tmp_path / "dicom", stack=stack)
    out = tmp_path / "out"
    ledger = convert(tmp_path / "dicom", out, OPTIONS)
    assert (codes(ledger), ledger.exit_code, ledger.skipped_kinds) == (["done"], 0, {})
    assert "Mask of 2 structures from 3 mask series: liver" in ledger.outcomes[0].message
    (mask,) = (out / "labelsTr").glob("*.nii.gz")
    found = array_of(mask)
    if not stack.drift[1]:  # otherwise straightened
        np.testing.assert_array_equal(found, patient.expected(names_of(out)))
    (image,) = (out / "imagesTr").glob("*.nii.gz")
    np.testing.assert_array_equal(nibabel.load(image).affine, nibabel.load(mask).affine)
    assert found.max() == 2
    assert not list((out / "imagesTs").glob("*.nii.gz"))
    data = read_dataset(out)
    assert not data.faults
    assert [one.label is not None for one in data.cases] == [True]
    before = content_of(out)
    assert codes(convert(tmp_path / "dicom", out, OPTIONS)) == ["already-done"]
    assert content_of(out) == before


@pytest.mark.parametrize(
    ("edit", "told"), [(same_uids, False), (other_uids, True), (no_frame, True)], ids=["same", "other", "missing"]
)
def test_the_grid_tells_the_image_whatever_the_identifiers_are(tmp_path: Path, edit: Edit, told: bool) -> None:
    patients = [
        Patient(
            tmp_path / "dicom" / str(number), number, replace(STACK, origin_mm=(0.0, 0.0, 40.0 * number)), every=edit
        )
        for number in (1, 2)
    ]
    out = tmp_path / "out"
    ledger = convert(tmp_path / "dicom", out, OPTIONS)
    assert (codes(ledger), ledger.exit_code) == (["done", "done"], 0)
    assert told == any("Nothing but the grid tells" in text for one in ledger.outcomes for text in one.warnings)
    for mask in (out / "labelsTr").glob("*.nii.gz"):
        z = nibabel.load(mask).affine[2, 3]
        (patient,) = [one for one in patients if one.stack.origin_mm[2] == z]
        np.testing.assert_array_equal(array_of(mask), patient.expected(names_of(out)))


def test_a_bare_pattern_keeps_the_names_of_folders_and_tells_them(tmp_path: Path) -> None:
    patient = Patient(tmp_path / "dicom")
    said: list[str] = []

    class Heard:
        def task(self, *more: object, **named: object) -> object:
            from volseg.progress import SILENT

            return SILENT.task(*more, **named)  # type: ignore[arg-type]

        def say(self, line: str) -> None:
            said.append(line)

    convert(tmp_path / "dicom", tmp_path / "out", replace(NATIVE, masks_from="MASKS_DICOM/*"), Heard())  # type: ignore[arg-type]
    assert said == ["names of folders that are kept as labels: liver, livertumor01, livertumor02"]
    found = names_of(tmp_path / "out")
    assert set(found) == {"background", *BALLS}
    (mask,) = (tmp_path / "out/labelsTr").glob("*.nii.gz")
    # Of two that overlap, the smaller stays.
    np.testing.assert_array_equal(array_of(mask) == found["livertumor02"], patient.truth["livertumor02"])
    chosen = replace(NATIVE, masks_from="MASKS_DICOM/*", labels="tumour=livertumor01,livertumor02")
    convert(tmp_path / "dicom", tmp_path / "chosen", chosen)
    assert set(names_of(tmp_path / "chosen")) == {"background", "tumour"}
    (mask,) = (tmp_path / "chosen/labelsTr").glob("*.nii.gz")
    np.testing.assert_array_equal(array_of(mask) > 0, patient.truth["livertumor01"] | patient.truth["livertumor02"])


def test_compressed_masks_and_masks_in_archives(tmp_path: Path) -> None:
    patient = Patient(tmp_path / "dicom")
    for path in (tmp_path / "dicom/MASKS_DICOM").rglob("*"):
        if path.is_file():
            data = pydicom.dcmread(path)
            data.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
            data.save_as(path)
    folder = tmp_path / "dicom/MASKS_DICOM"
    shutil.make_archive(str(folder), "zip", tmp_path / "dicom", "MASKS_DICOM")
    shutil.rmtree(folder)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert codes(ledger) == ["done"]
    (mask,) = (tmp_path / "out/labelsTr").glob("*.nii.gz")
    np.testing.assert_array_equal(array_of(mask), patient.expected(names_of(tmp_path / "out")))


@pytest.mark.parametrize("value", [7, -3])
def test_more_values_than_two_are_no_mask(tmp_path: Path, value: int) -> None:
    def third(data: Dataset) -> None:
        if data.InstanceNumber == 3:
            pixels = np.frombuffer(data.PixelData, "<i2").copy()
            pixels[5] = value
            data.PixelData = pixels.tobytes()

    Patient(tmp_path / "dicom", liver=third)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert codes(ledger) == ["done", "not-a-mask"]
    assert ledger.exit_code == 1
    assert [one.private for one in ledger.outcomes if one.code == "not-a-mask"] == ["MASKS_DICOM/liver"]
    assert not list((tmp_path / "out").glob("labelsTr/*.nii.gz"))


@pytest.mark.parametrize("intercept", ["0", "-1024"])
def test_a_mask_of_nothing_and_an_inverted_one_are_told(tmp_path: Path, intercept: str) -> None:
    def empty(data: Dataset) -> None:
        data.PixelData = bytes(len(data.PixelData))
        data.RescaleIntercept = intercept

    def inverted(data: Dataset) -> None:
        data.PixelData = (255 - np.frombuffer(data.PixelData, "<i2")).tobytes()

    Patient(tmp_path / "empty", liver=empty)
    ledger = convert(tmp_path / "empty", tmp_path / "a", OPTIONS)
    assert codes(ledger) == ["done"]
    assert any("liver left no voxel" in text for text in ledger.outcomes[0].warnings)
    Patient(tmp_path / "inverted", liver=inverted)
    ledger = convert(tmp_path / "inverted", tmp_path / "b", OPTIONS)
    assert any("liver fills more than half of the image" in text for text in ledger.outcomes[0].warnings)


@pytest.mark.parametrize(
    "change",
    [
        {"gaps_mm": (2.0,) * 10},
        {"origin_mm": (0.0, 0.0, 0.7)},
        {"origin_mm": (0.5, 0.0, 0.0)},
        {"pixel_mm": (1.2, 1.15)},
        {"size": (40, 42)},
    ],
    ids=["fewer slices", "between slices", "between pixels", "other pixels", "cropped"],
)
def test_a_mask_off_the_grid_is_refused_and_the_others_wait(tmp_path: Path, change: dict[str, object]) -> None:
    patient = Patient(tmp_path / "dicom")
    shutil.rmtree(tmp_path / "dicom/MASKS_DICOM/liver")
    patient.mask("liver", 2, BALLS["liver"], **change)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert codes(ledger) == ["done", "labels-incomplete", "labels-incomplete", "mask-off-grid"]
    assert ledger.exit_code == 1
    assert not list((tmp_path / "out").glob("labelsTr/*.nii.gz"))


@pytest.mark.parametrize("more", [{}, {"series": ("1",)}], ids=["all", "chosen"])
def test_a_mask_that_lacks_a_slice_costs_its_study_the_mask(tmp_path: Path, more: dict[str, object]) -> None:
    Patient(tmp_path / "dicom")
    sorted((tmp_path / "dicom/MASKS_DICOM/livertumor01").iterdir())[4].unlink()
    options = replace(OPTIONS, **more)  # type: ignore[arg-type]
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out", options)
    assert sorted(row.status for row in rows) == ["done", "refused", "skipped", "skipped"]
    ledger = convert(tmp_path / "dicom", tmp_path / "out", options)
    assert ledger.exit_code == 1
    assert ledger.count(Status.REFUSED) == 1
    assert codes(ledger).count("labels-incomplete") == 2
    assert not list((tmp_path / "out").glob("labelsTr/*.nii.gz"))
    channels = replace(NATIVE, channels="a=1; b=2", masks_from=PATTERNS)
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out", replace(channels))
    assert sum(row.status == "refused" for row in rows) >= 1


def test_masks_never_go_to_another_patient_or_study(tmp_path: Path) -> None:
    """Two patients on one grid, as where positions were made up; one's image is gone."""
    for number in (1, 2):
        Patient(tmp_path / "dicom" / str(number), number)
    out = tmp_path / "both"
    assert codes(convert(tmp_path / "dicom", out, OPTIONS)) == ["done", "done"]
    assert len(list((out / "labelsTr").glob("*.nii.gz"))) == 2
    shutil.rmtree(tmp_path / "dicom/2/PATIENT_DICOM")
    ledger = convert(tmp_path / "dicom", tmp_path / "one", OPTIONS)
    assert codes(ledger) == ["done", "mask-off-grid", "mask-off-grid", "mask-off-grid"]
    # Its own study has an image, but another one.
    ledger = convert(tmp_path / "dicom/1", tmp_path / "own", replace(OPTIONS, series=("2",)))
    assert "done" not in codes(ledger)


def test_masks_that_nobody_wants_are_no_images_once_they_are_named(tmp_path: Path) -> None:
    patient = Patient(tmp_path / "dicom")
    patient.mask("bone", 9, (0.0, 0.0, 0.0, 3.0))
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert codes(ledger) == ["ambiguous-mask"] * 3 + ["done", "done"]
    assert "name them by --masks-from as well" in "".join(outcome.message for outcome in ledger.outcomes)
    out = tmp_path / "named"
    everything = replace(OPTIONS, masks_from=f"{PATTERNS}; *MASKS_DICOM/*", labels="liver; tumour")
    assert codes(convert(tmp_path / "dicom", out, everything)) == ["done"]
    (mask,) = (out / "labelsTr").glob("*.nii.gz")
    np.testing.assert_array_equal(array_of(mask), patient.expected(names_of(out)))


def test_two_images_on_one_grid_are_ambiguous_unless_one_is_chosen(tmp_path: Path) -> None:
    patient = Patient(tmp_path / "dicom")
    patient.write("SECOND_DICOM", 9, lambda data, _: setattr(data, "SeriesDescription", "second"))
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert codes(ledger) == ["ambiguous-mask"] * 3 + ["done", "done"]
    ledger = convert(tmp_path / "dicom", tmp_path / "one", replace(OPTIONS, series=("1",)))
    assert codes(ledger) == ["done"]
    assert "Mask of 2 structures" in ledger.outcomes[0].message
    # As channels of one case, both are meant.
    channels = replace(OPTIONS, channels="a=1; b=second")
    ledger = convert(tmp_path / "dicom", tmp_path / "channels", channels)
    assert codes(ledger) == ["done", "done"]
    (mask,) = (tmp_path / "channels/labelsTr").glob("*.nii.gz")
    table = json.loads((tmp_path / "channels/dataset.json").read_text())["labels"]
    np.testing.assert_array_equal(array_of(mask), patient.expected(table))


def test_masks_are_drawn_together_with_segmentations_and_structure_sets(tmp_path: Path) -> None:
    patient = Patient(tmp_path / "dicom")
    images = read_images(tmp_path / "dicom/PATIENT_DICOM")
    cyst = np.zeros((len(images), 44, 40), np.uint8)
    cyst[5:7, 20:23, 18:21] = 1
    segmentation(tmp_path / "dicom/seg", images, cyst, ("Cyst",))
    box = on_slice(patient.stack, 8, np.array(((2.0, 2.0), (8.0, 2.0), (8.0, 8.0), (2.0, 8.0))))
    structure_set(tmp_path / "dicom/rs", images, [Roi("Bone", [box])])
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert codes(ledger) == ["done"]
    assert "Mask of 4 structures from 1 RTSTRUCT and 1 SEG and 3 mask series" in ledger.outcomes[0].message
    found = names_of(tmp_path / "out")
    (mask,) = (tmp_path / "out/labelsTr").glob("*.nii.gz")
    array = array_of(mask)
    np.testing.assert_array_equal(array == found["Cyst"], cyst == 1)
    rest = (array != found["Cyst"]) & (array != found["Bone"])
    np.testing.assert_array_equal(array[rest], patient.expected(found)[rest])
    # A structure that two kinds of objects draw, and not alike, is nobody's.
    structure_set(tmp_path / "dicom/rs", images, [Roi("Liver", [box])])
    ledger = convert(tmp_path / "dicom", tmp_path / "other", OPTIONS)
    assert "conflicting-labels" in codes(ledger)
    assert not list((tmp_path / "other/labelsTr").glob("*.nii.gz"))


@pytest.mark.parametrize(
    ("edit", "other"), [(None, "SECOND_DICOM"), (other_uids, "../2/SECOND_DICOM")], ids=["of its study", "unknown"]
)
def test_a_mask_goes_to_no_image_where_a_refused_one_may_be_its_own(
    tmp_path: Path, edit: Edit | None, other: str
) -> None:
    """Two phases on one grid, or two nameless patients; the image that the masks were drawn on lacks a slice."""
    patient = Patient(tmp_path / "dicom/1", every=no_frame if edit else None)  # type: ignore[arg-type]
    patient.write(other, 9, lambda data, _: edit(data) if edit else None)
    lacking = "1/PATIENT_DICOM" if edit else "1/SECOND_DICOM"
    sorted((tmp_path / "dicom" / lacking).iterdir())[5].unlink()
    if edit:  # masks that no identifier ties to a study
        for path in (tmp_path / "dicom/1/MASKS_DICOM").rglob("*"):
            if path.is_file():
                data = pydicom.dcmread(path)
                other_uids(data)
                data.save_as(path)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert codes(ledger) == ["ambiguous-mask"] * 3 + ["done", "missing-slice"]
    assert not list((tmp_path / "out").glob("labelsTr/*.nii.gz"))
    rows, _ = preview(tmp_path / "dicom", tmp_path / "one", NATIVE)
    (number,) = [row.number for row in rows if row.source.endswith("2/SECOND_DICOM" if edit else "PATIENT_DICOM")]
    ledger = convert(tmp_path / "dicom", tmp_path / "one", replace(OPTIONS, series=(str(number),)))
    assert codes(ledger) == ["done"]
    assert "Mask of 2 structures" in ledger.outcomes[0].message


@pytest.mark.parametrize("name", ["second/liver", "LIVER", "li-ver"])
def test_folders_of_one_name_are_not_joined(tmp_path: Path, name: str) -> None:
    patient = Patient(tmp_path / "dicom")
    patient.mask(name, 8, BALLS["liver"])
    ledger = convert(tmp_path / "dicom", tmp_path / "out", replace(NATIVE, masks_from="*MASKS_DICOM/*"))
    assert codes(ledger) == ["conflicting-labels"] * 4 + ["done"]
    assert not list((tmp_path / "out").glob("labelsTr/*.nii.gz"))


@pytest.mark.parametrize(
    "text",
    ["=*", "liver=", "a=*x; a=*y", "Background=*x", "nothing*", "*", "liver=*MASKS_DICOM/liver*; tumour=*livertumor*"],
)
def test_masks_that_make_no_sense_are_bad_usage(tmp_path: Path, text: str) -> None:
    Patient(tmp_path / "dicom")
    with pytest.raises(UsageError):
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(masks_from=text))
    assert not (tmp_path / "out/imagesTs").exists()


def test_a_preview_shows_what_becomes_a_label(tmp_path: Path) -> None:
    Patient(tmp_path / "dicom")
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    actions = [row.action for row in rows]
    assert sum("It is the mask of tumour" in action for action in actions) == 2
    (drawn,) = [row for row in rows if row.modality == "mask series"]
    assert drawn.action.endswith(": liver, tumour")
    assert not (tmp_path / "out").exists()
    without, _ = preview(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert {row.source: row.number for row in without}.items() <= {row.source: row.number for row in rows}.items()


def test_images_of_two_values_are_hinted_at(tmp_path: Path) -> None:
    Patient(tmp_path / "dicom")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    hinted = [one for one in ledger.outcomes if any("--masks-from" in text for text in one.warnings)]
    assert len(ledger.outcomes) == 4
    assert sorted(one.private for one in hinted) == [f"MASKS_DICOM/{name}" for name in sorted(BALLS)]
    again = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert sum(any("--masks-from" in text for text in one.warnings) for one in again.outcomes) == 3


def test_the_files_of_a_mask_are_what_it_is_drawn_anew_for(tmp_path: Path) -> None:
    patient = Patient(tmp_path / "dicom")
    out = tmp_path / "out"
    convert(tmp_path / "dicom", out, OPTIONS)
    patient.truth["liver"] = patient.mask("liver", 2, (0.0, 0.0, 0.0, 12.0))
    assert convert(tmp_path / "dicom", out, OPTIONS).exit_code == 0
    (mask,) = (out / "labelsTr").glob("*.nii.gz")
    np.testing.assert_array_equal(array_of(mask), patient.expected(names_of(out)))


def test_masks_that_an_earlier_run_took_for_images_are_told_of(tmp_path: Path) -> None:
    Patient(tmp_path / "dicom")
    out = tmp_path / "out"
    convert(tmp_path / "dicom", out, NATIVE)
    ledger = convert(tmp_path / "dicom", out, OPTIONS)
    assert codes(ledger) == ["already-done", *["as-mask"] * 3]
    assert ledger.exit_code == 1
    assert len(list((out / "labelsTr").glob("*.nii.gz"))) == 1
    for outcome in ledger.outcomes:
        if outcome.code == "as-mask":
            for path in (out / "imagesTs").glob(f"{outcome.case}.*"):
                path.unlink()
    ledger = convert(tmp_path / "dicom", out, OPTIONS)
    assert (codes(ledger), ledger.exit_code) == (["already-done"], 0)
    before = Ledger.read(out / "conversion.json")
    assert before is not None
    assert len(before.outcomes) == 1
