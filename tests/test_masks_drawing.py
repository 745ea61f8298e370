"""Masks of cases of several channels: on the grid of the first, whichever channel an object was drawn on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import Dataset

from tests.dicom_traps.stack import OBLIQUE, Stack, write_stack
from tests.drawn import Roi, circle, item, read_images, segmentation, structure_set
from tests.label_study import NATIVE, Ball, Study, content_of
from volseg.dataset.dataset import read_dataset
from volseg.outcomes import Ledger, Outcome, Status
from volseg.verbs.convert import LEDGER_FILE, ConvertOptions, conversion, convert, preview
from volseg.volume import Volume, read_mask, read_volume, write_mask

OPTIONS = ConvertOptions(spacing=("native",), jobs=1, channels="T1=*t1*; FLAIR=*flair*")
T1 = Stack(size=(60, 56), pixel_mm=(0.8, 0.7), gaps_mm=(3.0,) * 11, modality="MR")
FLAIR = Stack(size=(50, 44), pixel_mm=(1.0, 0.9), gaps_mm=(5.0,) * 6, modality="MR", origin_mm=(-6.0, -6.0, 3.4))
CENTRE = np.array((19.7, 15.15, 18.8))
BIG, SMALL = Ball(CENTRE, 13.0), Ball(CENTRE + np.array((2, 1, 1)), 6.0)


class Channel:
    """A series, and what is drawn on it."""

    def __init__(self, folder: Path, name: str, stack: Stack) -> None:
        def describe(data: Dataset, _: int) -> None:
            data.SeriesDescription = f"Ax {name}"

        self.folder, self.stack, self.name = folder, stack, name
        write_stack(folder / name, replace(stack, tamper=describe))
        self.images = read_images(folder / name)

    def contours(self, ball: Ball) -> list[np.ndarray]:
        found = []
        for k, position in enumerate(self.stack.positions_mm):
            along = self.stack.axes @ (ball.lps_mm - position)
            if abs(along[2]) < ball.radius:
                radius = float(np.sqrt(ball.radius**2 - along[2] ** 2))
                found.append(circle(self.stack, k, (along[0], along[1]), radius))
        return found

    def structures(self, name: str, ball: Ball, also: Sequence[Dataset] = (), **options: object) -> Path:
        def edit(data: Dataset) -> None:
            if also:
                study = data.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
                other = [item(ReferencedSOPInstanceUID=image.SOPInstanceUID) for image in also]
                uid = also[0].SeriesInstanceUID
                study.RTReferencedSeriesSequence.insert(0, item(SeriesInstanceUID=uid, ContourImageSequence=other))

        rois = [Roi(name, self.contours(ball))]
        return structure_set(self.folder / f"rs-{self.name}-{name}", self.images, rois, edit=edit, **options)  # type: ignore[arg-type]

    def segments(self, name: str, ball: Ball, **options: object) -> Path:
        pixels = np.stack([ball.holds(self.stack.world_of(k)) for k in range(len(self.images))]).astype(np.uint8)
        return segmentation(self.folder / f"seg-{self.name}-{name}", self.images, pixels, (name,), **options)  # type: ignore[arg-type]


class Case:
    """A study of two series in one frame of reference."""

    def __init__(self, folder: Path, study: int = 1, flair: dict[str, object] | None = None) -> None:
        self.t1 = Channel(folder, "t1", replace(T1, study=study, series=1, offset=40.0 * study))
        self.flair = Channel(folder, "flair", replace(FLAIR, study=study, series=2, **(flair or {})))  # type: ignore[arg-type]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "dicom")


def the_mask(out: Path) -> Volume:
    (path,) = (out / "labelsTr").glob("*.nii.gz")
    return read_mask(path)


def indices_of(out: Path) -> dict[str, int]:
    labels: dict[str, int] = json.loads((out / "dataset.json").read_text())["labels"]
    return labels


def lps_of(volume: Volume) -> np.ndarray:
    i, j, k = np.meshgrid(*map(np.arange, volume.grid.shape), indexing="ij")
    return volume.grid.to_world(np.stack((i, j, k), axis=-1)) * (-1, -1, 1)


def named(ledger: Ledger, code: str) -> list[Outcome]:
    return [outcome for outcome in ledger.outcomes if outcome.code == code]


@pytest.mark.parametrize(
    ("options", "flair"),
    [
        ({"spacing": ("native",)}, {}),
        ({"spacing": (2.0,)}, {}),
        ({"spacing": (1.5,), "orientation": "PSR"}, {}),
        ({"spacing": ("native",)}, {"orientation": OBLIQUE, "origin_mm": (-6.0, 0.0, -1.0)}),
        ({"spacing": ("native",)}, {"drift": (0.0, 0.2)}),
    ],
    ids=["native", "2 mm", "turned", "oblique", "tilted"],
)
def test_objects_on_any_channel_are_drawn_on_the_grid_of_the_first(
    tmp_path: Path, options: dict[str, object], flair: dict[str, object]
) -> None:
    case = Case(tmp_path / "dicom", flair=flair)
    given = replace(OPTIONS, **options)  # type: ignore[arg-type]
    case.t1.structures("Edema", BIG)
    case.flair.segments("Core", SMALL)
    out = tmp_path / "out"
    ledger = convert(tmp_path / "dicom", out, given)
    assert (ledger.exit_code, ledger.count(Status.DONE)) == (0, 2)
    mask = the_mask(out)
    images = sorted((out / "imagesTr").glob("*.nii.gz"))
    assert [path.name[-12:] for path in images] == ["_0000.nii.gz", "_0001.nii.gz"]
    assert not list((out / "imagesTs").glob("*"))
    assert all(read_volume(path).grid.difference(mask.grid) is None for path in images)
    found, places = indices_of(out), lps_of(mask)
    # A voxel takes the label of the source's voxel there, whose centre is half a diagonal away at most.
    for name, ball, stack in (("Core", SMALL, FLAIR), ("Edema", BIG, T1)):
        half = float(np.linalg.norm((*stack.pixel_mm, stack.gaps_mm[0]))) / 2 + 0.1
        own = mask.array == found[name]
        assert own.any()
        assert not own[~ball.holds(places, half)].any()
        if name == "Core":  # nothing smaller lies on it
            assert own[ball.holds(places, -half)].all()
        else:
            assert (mask.array != 0)[ball.holds(places, -half)].all()
    first, second = sorted(ledger.outcomes, key=lambda one: one.case)
    assert "Mask of 2 structures from 1 RTSTRUCT and 1 SEG" in first.message
    assert "Structures were drawn on another grid than their image's" in " ".join(first.warnings)
    assert "Mask" not in second.message
    assert any(name.startswith("labelsTr/") for name in first.outputs)
    data = read_dataset(out)
    assert not [fault for fault in data.faults if fault.is_error], data.faults
    assert [(len(one.images), one.label is not None) for one in data.cases] == [(2, True)]
    assert json.loads((out / "dataset.json").read_text())["numTraining"] == 1
    # Nothing changes in a second run.
    before = content_of(out)
    again = convert(tmp_path / "dicom", out, given)
    assert {outcome.code for outcome in again.outcomes} == {"already-done"}
    assert content_of(out) == before


def test_an_object_that_refers_to_both_channels_is_drawn_once_and_on_its_own_slices(case: Case, tmp_path: Path) -> None:
    path = case.flair.structures("Core", SMALL, also=case.t1.images)
    ledger = convert(tmp_path / "dicom", tmp_path / "both", OPTIONS)
    assert ledger.exit_code == 0
    path.unlink()
    case.flair.structures("Core", SMALL)
    convert(tmp_path / "dicom", tmp_path / "one", OPTIONS)
    both = the_mask(tmp_path / "both")
    np.testing.assert_array_equal(both.array, the_mask(tmp_path / "one").array)
    assert both.array.any()


def test_an_object_on_images_that_are_not_there_is_placed_by_the_frame_of_reference(case: Case, tmp_path: Path) -> None:
    def elsewhere(data: Dataset) -> None:
        data.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
        for reference in data.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
            reference.ReferencedSOPInstanceUID = "1.2.3.4"
        for frame in data.PerFrameFunctionalGroupsSequence:
            del frame.DerivationImageSequence

    case.flair.segments("Core", SMALL, edit=elsewhere)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert ledger.exit_code == 0
    assert "Nothing but the frame of reference" in " ".join(ledger.outcomes[0].warnings)
    ledger = convert(tmp_path / "dicom", tmp_path / "apart", replace(OPTIONS, channels=""))
    assert named(ledger, "ambiguous-labels")


def test_objects_on_two_channels_that_draw_one_structure_are_refused(case: Case, tmp_path: Path) -> None:
    case.t1.structures("Core", SMALL)
    case.flair.segments("Core", SMALL)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert named(ledger, "conflicting-labels")
    assert ledger.exit_code == 1
    assert not list((tmp_path / "out").glob("labelsTr/*.nii.gz"))
    assert len(list((tmp_path / "out/imagesTs").glob("*.nii.gz"))) == 2


def test_objects_of_a_case_that_lacks_a_channel_are_skipped(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.t1.structures("Core", SMALL)
    original = conversion.load_values

    def load_values(series: object, **more: object) -> object:
        if series.order == 2:  # type: ignore[attr-defined]
            raise OSError("gone")
        return original(series, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "load_values", load_values)
    ledger = convert(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    assert named(ledger, "labels-of-refused-series")
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_an_interrupted_run_leaves_a_ledger_of_whole_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for study in (1, 2):
        Case(tmp_path / "dicom" / str(study), study).t1.structures("Core", SMALL)
    original, calls = conversion.load_values, []

    def load_values(series: object, **more: object) -> object:
        calls.append(series)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(series, **more)  # type: ignore[arg-type]

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(conversion, "load_values", load_values)
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "dicom", out, OPTIONS)
    assert len(list(out.glob("imagesTs/*.nii.gz"))) == 3
    ledger = Ledger.read(out / LEDGER_FILE)
    assert ledger is not None
    assert len({one.case[:-5] for one in ledger.outcomes}) == 1
    assert len(ledger.outcomes) == 2
    ledger = convert(tmp_path / "dicom", out, OPTIONS)
    assert ledger.exit_code == 0
    assert sorted(outcome.code for outcome in ledger.outcomes) == ["already-done"] * 3 + ["done"]
    data = read_dataset(out)
    assert not [fault for fault in data.faults if fault.is_error]
    assert [one.label is not None for one in data.cases] == [True, True]


def test_names_overwriting_and_masks_of_somebodys_hand(case: Case, tmp_path: Path) -> None:
    case.t1.structures("Core", SMALL)
    out, options = tmp_path / "out", replace(OPTIONS, name="{PatientID}")
    convert(tmp_path / "dicom", out, options)
    assert sorted(path.name for path in out.rglob("*.nii.gz")) == [
        "TRAP.nii.gz",
        "TRAP_0000.nii.gz",
        "TRAP_0001.nii.gz",
    ]
    case.flair.structures("Edema", BIG)
    assert named(convert(tmp_path / "dicom", out, options), "exists")
    ledger = convert(tmp_path / "dicom", out, replace(options, overwrite=True))
    assert "Mask of 2 structures" in ledger.outcomes[0].message
    path = out / "labelsTr/TRAP.nii.gz"
    drawn = read_mask(path)
    write_mask(path, np.roll(drawn.array, 1, axis=0), out / "imagesTr/TRAP_0000.nii.gz")
    case.flair.structures("More", SMALL)
    by_hand = path.read_bytes()
    ledger = convert(tmp_path / "dicom", out, replace(options, overwrite=True))
    assert named(ledger, "mask-changed")
    assert path.read_bytes() == by_hand


def test_a_preview_shows_each_object_once(case: Case, tmp_path: Path) -> None:
    case.t1.structures("Edema", BIG)
    case.flair.structures("Core", SMALL, also=case.t1.images)
    rows, found = preview(tmp_path / "dicom", tmp_path / "out", OPTIONS)
    actions = sorted(row.action for row in rows if row.modality == "RTSTRUCT")
    assert [action.split(": ")[1] for action in actions] == ["Core", "Edema"]
    assert all(action.startswith("drawn on study") for action in actions)
    assert not found.skipped_kinds


@pytest.mark.parametrize("change", ["files", "spacing"])
def test_a_mask_that_stays_on_an_image_made_anew_is_told_of(tmp_path: Path, change: str) -> None:
    study, out = Study(tmp_path / "dicom"), tmp_path / "out"
    objects = study.segments(study.pixels(study.centre()), "Liver")
    convert(study.root, out, NATIVE)
    kept = objects.rename(tmp_path / "kept")
    options = replace(NATIVE, overwrite=True, spacing=(2.0,) if change == "spacing" else NATIVE.spacing)
    if change == "files":
        write_stack(study.root / "a/ct", replace(study.stack, origin_mm=(-3.9, -4.1, 202.3)))
    for overwrite in (True, False):  # and told again as long as it lies there
        (outcome,) = convert(study.root, out, replace(options, overwrite=overwrite)).outcomes
        assert sum("drawn on the image as it was before" in text for text in outcome.warnings) == 1
    if change == "spacing":
        kept.rename(objects)
        (outcome,) = convert(study.root, out, options).outcomes
        assert not outcome.warnings


def test_an_image_that_somebody_turned_gets_no_mask_in_the_order_that_it_had(tmp_path: Path) -> None:
    study, out = Study(tmp_path / "dicom"), tmp_path / "out"
    objects = study.structures(Roi("Liver", study.contours(study.centre(6.0, (5.0, 3.0)))))
    kept = objects.rename(tmp_path / "kept")
    convert(study.root, out, NATIVE)
    (image,) = out.glob("imagesTs/*.nii.gz")
    nibabel.save(nibabel.as_closest_canonical(nibabel.load(image)), image)
    kept.rename(objects)
    told = convert(study.root, out, NATIVE).outcomes
    assert [one.code for one in told if one.status is Status.REFUSED] == ["image-edited"]
    assert not list(out.glob("labelsTr/*.nii.gz"))
    assert convert(study.root, out, replace(NATIVE, overwrite=True)).exit_code == 0
    assert len(list(out.glob("labelsTr/*.nii.gz"))) == 1
