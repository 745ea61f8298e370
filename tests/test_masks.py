"""Masks from segmentations and structure sets, through ``convert``: their place, their pairing, and what is remembered."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dicom_traps.stack import OBLIQUE, Stack
from tests.drawn import Roi
from tests.label_study import NATIVE, STACK, Ball, Study, by_code, content_of, done, names_of, the_mask
from volseg.dataset.dataset import read_dataset
from volseg.dataset.faults import find_faults
from volseg.labels import Label, LabelTable
from volseg.outcomes import Status
from volseg.verbs.convert import convert, preview
from volseg.volume import Volume, read_mask, read_volume, write_mask

if TYPE_CHECKING:
    from conftest import RealData


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "dicom")


def lps_of(volume: Volume) -> np.ndarray:
    i, j, k = np.meshgrid(*map(np.arange, volume.grid.shape), indexing="ij")
    return volume.grid.to_world(np.stack((i, j, k), axis=-1)) * (-1, -1, 1)


def test_a_structure_set_becomes_a_mask_beside_its_image(study: Study, tmp_path: Path) -> None:
    ball = study.centre()
    study.structures(Roi("Liver", study.contours(ball), (12, 34, 56)))
    out = tmp_path / "out"
    ledger = convert(study.root, out, NATIVE)
    assert ledger.exit_code == 0
    case = done(ledger).case
    assert done(ledger).outputs == (
        f"imagesTr/{case}.nii.gz", f"imagesTr/{case}.json", f"labelsTr/{case}.nii.gz", f"labelsTr/{case}.json",
    )  # fmt: skip
    assert not list((out / "imagesTs").iterdir())
    mask = the_mask(out, ledger)
    # A polygon of 72 corners is a little smaller than its circle.
    inside, edge = ball.holds(lps_of(mask), -0.05), ball.holds(lps_of(mask))
    assert mask.array[inside].all()
    assert not mask.array[~edge].any()
    assert f"Mask of 1 structure from 1 RTSTRUCT: Liver ({mask.array.sum()} voxels)." in done(ledger).message
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["labels"] == {"0": "background", "1": "Liver"}
    assert dataset["label_details"] == {"1": {"colour": [12, 34, 56]}}
    assert dataset["training"] == [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}]
    assert (dataset["numTraining"], dataset["numTest"], dataset["test"]) == (1, 0, [])
    (label,) = LabelTable.from_itksnap((out / "labelsTr/labels.txt").read_text()).labels
    assert (label.name, label.colour) == ("Liver", (12, 34, 56))
    assert not any(fault.is_error for fault in find_faults(out))
    assert [one.name for one in read_dataset(out).training] == [case]


def test_image_and_mask_agree_to_the_last_bit_for_itk(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("Liver", study.contours(study.centre())))
    for options in (NATIVE, replace(NATIVE, spacing=(0.9,))):
        out = tmp_path / str(options.spacing[0])
        case = done(convert(study.root, out, options)).case
        image, mask = (sitk.ReadImage(str(out / folder / f"{case}.nii.gz")) for folder in ("imagesTr", "labelsTr"))
        assert image.GetSpacing() == mask.GetSpacing()
        assert image.GetOrigin() == mask.GetOrigin()
        assert image.GetDirection() == mask.GetDirection()
        assert image.GetSize() == mask.GetSize()


@pytest.mark.parametrize(
    ("stack", "change"),
    [
        (STACK, ""),
        (replace(STACK, orientation=OBLIQUE), ""),
        (replace(STACK, drift=(0.05, 0.33)), "tilt-straightened"),
        (replace(STACK, gaps_mm=(1.5,) * 6 + (2.5,) * 6), "spacing-evened"),
    ],
    ids=["axial", "oblique", "tilted", "uneven"],
)
@pytest.mark.parametrize("spacing", ["native", 1.0])
@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_the_mask_goes_the_way_of_its_image(
    kind: str, spacing: object, stack: Stack, change: str, tmp_path: Path
) -> None:
    study = Study(tmp_path / "dicom", stack)
    ball = study.centre()
    if kind == "SEG":
        study.segments(study.pixels(ball), "Ball")
    else:
        study.structures(Roi("Ball", study.contours(ball)))
    out = tmp_path / "out"
    ledger = convert(study.root, out, replace(NATIVE, spacing=(spacing,)))  # type: ignore[arg-type]
    case = done(ledger).case
    assert json.loads((out / f"imagesTr/{case}.json").read_text())["changes"] == ([change] if change else [])
    mask = the_mask(out, ledger)
    assert mask.grid.difference(read_volume(out / f"imagesTr/{case}.nii.gz").grid, 0) is None
    places, filled = lps_of(mask), mask.array == 1
    # The slices cut the ball into discs as thick as their gap, and the nearest voxel is half a diagonal away.
    margin = max(stack.gaps_mm) / 2 + 0.7
    assert filled[ball.holds(places, -margin)].all()
    assert not filled[~ball.holds(places, margin)].any()
    volume = filled.sum() * mask.grid.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * ball.radius**3, rel=0.06)
    middle = places[filled].mean(axis=0)
    np.testing.assert_allclose(middle, ball.lps_mm, atol=0.35)


def test_a_second_run_changes_no_byte(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("Liver", study.contours(study.centre())), Roi("Marker", [np.zeros((1, 3))], kind="POINT"))
    out = tmp_path / "out"
    first = convert(study.root, out, NATIVE)
    before = content_of(out)
    second = convert(study.root, out, NATIVE)
    assert done(second).code == "already-done"
    assert done(second).message == done(first).message
    assert second.skipped_kinds == first.skipped_kinds == {"structure of points or open lines": 1}
    assert content_of(out) == before
    # Nor without the structure set, since what was drawn stays.
    (study.root / "a" / "rs").unlink()
    third = convert(study.root, out, NATIVE)
    assert done(third).outputs == done(first).outputs
    assert {name: raw for name, raw in content_of(out).items() if name != "conversion.json"} == {
        name: raw for name, raw in before.items() if name != "conversion.json"
    }


def test_labels_that_come_later_move_the_image_to_those_with_masks(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    case = done(convert(study.root, out, NATIVE)).case
    image, sidecar = ((out / "imagesTs" / f"{case}{suffix}").read_bytes() for suffix in (".nii.gz", ".json"))
    assert json.loads((out / "dataset.json").read_text())["test"] == [f"./imagesTs/{case}.nii.gz"]
    study.structures(Roi("Liver", study.contours(study.centre())))
    ledger = convert(study.root, out, NATIVE)
    assert (done(ledger).code, done(ledger).case) == ("already-done", case)
    assert not list((out / "imagesTs").iterdir())
    assert (out / "imagesTr" / f"{case}.nii.gz").read_bytes() == image
    assert (out / "imagesTr" / f"{case}.json").read_bytes() == sidecar
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["test"] == []
    assert [entry["image"] for entry in dataset["training"]] == [f"./imagesTr/{case}.nii.gz"]
    assert not any(fault.is_error for fault in find_faults(out))


def test_other_labels_are_refused_until_overwrite(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("A", study.contours(study.centre())), Roi("B", study.contours(study.centre(4))))
    out = tmp_path / "out"
    convert(study.root, out, NATIVE)
    before = content_of(out)
    changed = replace(NATIVE, labels="B")
    ledger = convert(study.root, out, changed)
    assert by_code(ledger)["exists"].status is Status.REFUSED
    assert "--overwrite" in by_code(ledger)["exists"].message
    assert {n: raw for n, raw in content_of(out).items() if n.endswith(".gz")} == {
        n: raw for n, raw in before.items() if n.endswith(".gz")
    }
    ledger = convert(study.root, out, replace(changed, overwrite=True))
    assert ledger.exit_code == 0
    assert set(np.unique(the_mask(out, ledger).array)) == {0, 2}
    assert find_faults(out)[0].code == "label-unused"


def test_a_mask_that_somebody_drew_or_changed_is_never_replaced(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("A", study.contours(study.centre())))
    out = tmp_path / "out"
    case = done(convert(study.root, out, NATIVE)).case
    path = out / "labelsTr" / f"{case}.nii.gz"
    drawn = read_mask(path).array.copy()
    drawn[0, 0, 0] = 1
    write_mask(path, drawn, out / "imagesTr" / f"{case}.nii.gz")
    # The same labels again: what was changed by hand simply stays.
    assert done(convert(study.root, out, NATIVE)).code == "already-done"
    ledger = convert(study.root, out, replace(NATIVE, labels="B=A", overwrite=True))
    assert by_code(ledger)["mask-changed"].status is Status.REFUSED
    np.testing.assert_array_equal(read_mask(path).array, drawn)
    path.with_name(f"{case}.json").unlink()
    ledger = convert(study.root, out, replace(NATIVE, overwrite=True))
    assert "somebody drew" in by_code(ledger)["exists"].message
    np.testing.assert_array_equal(read_mask(path).array, drawn)
    path.unlink()
    assert convert(study.root, out, NATIVE).exit_code == 0
    assert read_mask(path).array[0, 0, 0] == 0


def test_objects_of_one_organ_each_are_merged_and_the_smaller_wins(study: Study, tmp_path: Path) -> None:
    large, small = study.centre(), study.centre(4, (3, 2))
    study.segments(study.pixels(large), "Liver", file="one")
    study.segments(study.pixels(small), "Tumour", file="two")
    study.structures(Roi("Marker", study.contours(study.centre(3, (-9, -8)))))
    out = tmp_path / "out"
    ledger = convert(study.root, out, NATIVE)
    assert "Mask of 3 structures from 1 RTSTRUCT and 2 SEG" in done(ledger).message
    assert names_of(out) == {"Liver": 1, "Marker": 2, "Tumour": 3}
    labels = the_mask(out, ledger).array.T
    np.testing.assert_array_equal(labels == 3, study.pixels(small) > 0)
    marker = labels == 2
    claims = int((study.pixels(large) & study.pixels(small)).sum()) + int((marker & (study.pixels(large) > 0)).sum())
    np.testing.assert_array_equal(labels == 1, (study.pixels(large) > 0) & (study.pixels(small) == 0) & ~marker)
    assert f"{claims} times two structures claimed" in done(ledger).message


def test_objects_that_draw_one_structure_alike_are_merged_and_otherwise_refused(study: Study, tmp_path: Path) -> None:
    pixels = study.pixels(study.centre())
    study.segments(pixels, "Liver", file="one")
    study.segments(pixels, "LIVER", file="two")
    out = tmp_path / "out"
    np.testing.assert_array_equal(the_mask(out, convert(study.root, out, NATIVE)).array.T, pixels)
    study.segments(study.pixels(study.centre(8)), "liver", file="two")
    ledger = convert(study.root, tmp_path / "other", NATIVE)
    assert ledger.exit_code == 1
    refused = by_code(ledger)["conflicting-labels"]
    assert (refused.status, refused.private) == (
        Status.REFUSED,
        next(p for p in ("a/one", "a/two") if p == refused.private),
    )
    assert "Liver" in refused.message or "liver" in refused.message
    assert by_code(ledger)["labels-incomplete"].status is Status.SKIPPED
    assert done(ledger).outputs[0].startswith("imagesTs/")
    assert not list((tmp_path / "other/labelsTr").glob("*.nii.gz"))


def test_one_bad_object_costs_the_mask_and_not_the_image(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("A", study.contours(study.centre())))
    far = [contour + np.array((0, 0, 500)) for contour in study.contours(study.centre(4))]
    study.structures(Roi("B", far), file="far")
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert ledger.exit_code == 1
    assert by_code(ledger)["contours-off-slices"].private == "a/far"
    assert by_code(ledger)["labels-incomplete"].private == "a/rs"
    assert by_code(ledger)["done"].outputs[0].startswith("imagesTs/")
    ledger = convert(study.root, tmp_path / "chosen", replace(NATIVE, labels="A"))
    assert ledger.exit_code == 0
    assert by_code(ledger)["no-chosen-label"].private == "a/far"
    assert the_mask(tmp_path / "chosen", ledger).array.any()


def test_a_segmentation_on_another_grid_is_resampled_and_told(study: Study, tmp_path: Path) -> None:
    import highdicom as hd

    ball = study.centre()
    shape = (30, 36, 32)
    affine = np.array([[0, 0, 1.1, 0], [0, 1.2, 0, 0], [1.3, 0, 0, 0], [0, 0, 0, 1.0]])
    affine[:3, 3] = ball.lps_mm - affine[:3, :3] @ (np.array(shape) - 1) / 2
    volume = hd.Volume(
        np.zeros(shape, np.uint8), affine, coordinate_system="PATIENT",
        frame_of_reference_uid=study.images[0].FrameOfReferenceUID,
    )  # fmt: skip
    places = volume.map_indices_to_reference(np.argwhere(volume.array == 0))
    volume.array.reshape(-1)[:] = ball.holds(places)
    study.segments(volume, "Ball")
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert any("another grid" in warning for warning in done(ledger).warnings)
    mask = the_mask(tmp_path / "out", ledger)
    # SimpleITK's nearest neighbour, in world space.
    source = sitk.GetImageFromArray(volume.array)
    source.SetSpacing((1.1, 1.2, 1.3))
    source.SetOrigin(affine[:3, 3].tolist())
    target = sitk.ReadImage(str(tmp_path / "out" / done(ledger).outputs[0]))
    expected = sitk.GetArrayFromImage(sitk.Resample(source, target, sitk.Transform(), sitk.sitkNearestNeighbor)).T
    assert np.mean(mask.array != expected) < 2e-3  # each new voxel asks all that it covers, and not its centre alone
    assert mask.array.sum() == pytest.approx(expected.sum(), rel=0.01)
    outside = done(convert(study.root, tmp_path / "out", NATIVE)).warnings
    assert outside == done(ledger).warnings


def test_a_flipped_segmentation_comes_out_exactly_and_is_not_called_resampled(study: Study, tmp_path: Path) -> None:
    import highdicom as hd

    pixels = study.pixels(study.centre(shift=(3, 2)))
    stack, affine = study.stack, np.eye(4)
    affine[:3, 0] = stack.positions_mm[1] - stack.positions_mm[0]
    affine[:3, 1], affine[:3, 2] = stack.pixel_mm[1] * stack.axes[1], stack.pixel_mm[0] * stack.axes[0]
    affine[:3, 3] = stack.positions_mm[0]
    volume = hd.Volume(
        pixels, affine, coordinate_system="PATIENT", frame_of_reference_uid=study.images[0].FrameOfReferenceUID
    )
    study.segments(volume.permute_spatial_axes((2, 0, 1)).flip_spatial([0, 2]), "Ball")
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    np.testing.assert_array_equal(the_mask(tmp_path / "out", ledger).array.T, pixels)
    assert done(ledger).warnings == ()


def test_a_mask_that_would_be_empty_is_refused(study: Study, tmp_path: Path) -> None:
    beside = [contour + np.array((300, 0, 0)) for contour in study.contours(study.centre())]
    study.structures(Roi("A", beside))
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    assert by_code(ledger)["empty-mask"].status is Status.REFUSED
    assert done(ledger).outputs[0].startswith("imagesTs/")


def test_a_structure_that_leaves_no_voxel_is_told(study: Study, tmp_path: Path) -> None:
    ball = study.centre()
    study.structures(Roi("A", study.contours(ball)), Roi("a dot", study.contours(Ball(ball.lps_mm + 0.1, 1.5))))
    ledger = convert(study.root, tmp_path / "out", replace(NATIVE, spacing=(5.0,)))
    assert any("a dot left no voxel" in warning for warning in done(ledger).warnings)


def test_what_lies_outside_the_image_is_cut_off_and_told(study: Study, tmp_path: Path) -> None:
    import highdicom as hd

    ball = study.centre()
    affine = np.diag((1.0, 1.0, 1.0, 1.0))[[2, 1, 0, 3]] * (1.3, 1.1, 1.2, 1.0)
    affine[:3, 3] = ball.lps_mm
    pixels = np.ones((30, 4, 5), np.uint8)
    volume = hd.Volume(
        pixels, affine, coordinate_system="PATIENT", frame_of_reference_uid=study.images[0].FrameOfReferenceUID
    )
    study.segments(volume, "Rod")
    ledger = convert(study.root, tmp_path / "out", NATIVE)
    image = read_volume(tmp_path / "out" / done(ledger).outputs[0]).grid
    places = image.to_voxel(volume.map_indices_to_reference(np.argwhere(pixels)) * (-1, -1, 1))
    outside = ((places < -0.5) | (places > np.array(image.shape) - 0.5)).any(axis=1).sum()
    assert 0 < outside < pixels.size
    assert any(warning.startswith(f"{outside} voxels of Rod lie outside") for warning in done(ledger).warnings)


def test_colours_that_somebody_chose_in_itksnap_stay(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("A", study.contours(study.centre()), (1, 2, 3)))
    out = tmp_path / "out"
    convert(study.root, out, NATIVE)
    path = out / "labelsTr/labels.txt"
    path.write_text(LabelTable((Label(1, "A", (9, 8, 7)),)).to_itksnap())
    convert(study.root, out, replace(NATIVE, labels="A;B", overwrite=True))
    found = LabelTable.from_itksnap(path.read_text()).labels
    assert [label.name for label in found] == ["A", "B"]
    assert found[0].colour == (9, 8, 7)
    path.write_text("something else")
    convert(study.root, out, replace(NATIVE, labels="A;B;C", overwrite=True))
    assert path.read_text() == "something else"


def test_nothing_but_the_names_of_structures_is_kept(
    study: Study, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from volseg.cli.main import main

    study.structures(Roi("Left lung", study.contours(study.centre())), Roi("Right <b>lung</b>", []))
    study.segments(study.pixels(study.centre(4)), "Heart [red]")
    out = tmp_path / "out"
    for argv in (["--dry-run"], [], []):
        assert main(["convert", str(study.root), str(out), "--spacing", "native", "--jobs", "1", *argv]) == 0
    shown = "".join(capfd.readouterr())
    assert "Left lung" in shown
    assert "Heart [red]" in shown
    uids = {str(ds[name].value) for ds in study.images for name in ("SOPInstanceUID", "SeriesInstanceUID")}
    everything = {**content_of(out), "shown": shown.encode()}
    for name, raw in everything.items():
        text = gzip.decompress(raw) if name.endswith(".gz") else raw
        for word in (b"SECRET", b"Doe", b"TRAP", b"Phantom", *(uid.encode() for uid in uids)):
            assert word not in text, (name, word)
            assert word.decode() not in name


def test_a_preview_shows_what_would_be_drawn(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("Liver", study.contours(study.centre())), Roi("Spleen", study.contours(study.centre(4))))
    study.structures(Roi("Marker", [np.zeros((1, 3))], kind="POINT"), file="points")
    rows, found = preview(study.root, tmp_path / "out", NATIVE)
    shown = {row.source: row for row in rows}
    assert shown["a/rs"].action.startswith("drawn on ct_")
    assert shown["a/rs"].action.endswith(": Liver, Spleen")
    assert (shown["a/rs"].modality, shown["a/rs"].images) == ("RTSTRUCT", 2)
    assert shown["a/points"].action.startswith("skipped [nothing-to-draw]")
    assert found.skipped_kinds == {"structure of points or open lines": 1}
    assert not (tmp_path / "out").exists()


def test_masks_are_drawn_in_processes_as_well(tmp_path: Path) -> None:
    root = tmp_path / "dicom"
    for number in (1, 2):
        study = Study(root, replace(STACK, study=number, offset=float(number)), f"s{number}")
        study.structures(Roi("A", study.contours(study.centre())))
        study.segments(study.pixels(study.centre(4)), "B")
    ledger = convert(root, tmp_path / "out", replace(NATIVE, jobs=2))
    assert [len(outcome.outputs) for outcome in ledger.outcomes] == [4, 4]


def test_real_segmentations_become_masks_that_check_finds_no_fault_with(real_data: RealData, tmp_path: Path) -> None:
    source, out = tmp_path / "dicom", tmp_path / "out"
    real = real_data("dicom/segmentation-objects/dcmqi")
    # The same images lie there as enhanced multi-frame once more, which check would call duplicates.
    shutil.copytree(real, source, ignore=shutil.ignore_patterns("multiframe"))
    ledger = convert(source, out, NATIVE)
    assert ledger.exit_code == 0
    assert not any(fault.is_error for fault in find_faults(out))
    assert len(read_dataset(out).training) == 3
    assert set(names_of(out)) == {"DARK_BLUE", "GREEN", "LIGHT_BLUE", "Liver", "ORANGE", "PURPLE"}
    for outcome in ledger.outcomes:
        image, mask = (sitk.ReadImage(str(out / name)) for name in (outcome.outputs[0], outcome.outputs[2]))
        assert image.GetOrigin() == mask.GetOrigin()
        assert image.GetSize() == mask.GetSize()


def test_turned_axes_and_named_cases_keep_mask_and_image_together(study: Study, tmp_path: Path) -> None:
    ball = study.centre(shift=(4, 3))
    study.segments(study.pixels(ball), "Ball")
    plain = the_mask(tmp_path / "plain", convert(study.root, tmp_path / "plain", NATIVE))
    turned = the_mask(tmp_path / "turned", convert(study.root, tmp_path / "turned", replace(NATIVE, orientation="SAR")))
    assert turned.grid.orientation == "SAR"
    assert turned.array.sum() == plain.array.sum() == study.pixels(ball).sum()
    assert (turned.array == ball.holds(lps_of(turned))).all()


def test_labels_in_an_archive_are_read_as_well(study: Study, tmp_path: Path) -> None:
    study.structures(Roi("A", study.contours(study.centre())))
    archive = shutil.make_archive(str(tmp_path / "scan"), "zip", study.root)
    ledger = convert(Path(archive), tmp_path / "out", NATIVE)
    assert the_mask(tmp_path / "out", ledger).array.any()
    assert not any(fault.is_error for fault in find_faults(tmp_path / "out"))
