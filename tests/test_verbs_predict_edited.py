"""Masks that somebody edited, taken as they are by --accept-edited: what follows them, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.label_study import names_of
from tests.weighed import weighed
from tests.zoo import write_sigmoid_bundle
from volseg.cli.main import main
from volseg.errors import UsageError
from volseg.kept import file_digest
from volseg.labels import LabelTable
from volseg.outcomes import Ledger, Outcome
from volseg.verbs.convert import ConvertOptions, convert
from volseg.verbs.evaluate import evaluate
from volseg.verbs.predict import PredictOptions, predict, preview
from volseg.verbs.predict.segmenting import Segmented
from volseg.verbs.trust import trust

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from tests.conftest import MakeBundle, MakePlan, WriteImage, WriteSeries
    from volseg.verbs.predict.segmenting import Ready

AFFINE = np.diag([-1.5, 1.0, 1.25, 1.0])
SHAPE = (18, 14, 12)
ASKED = PredictOptions(precision="float32", statistics=True, formats=("nifti", "slicer"))


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    """A bundle of two labels."""
    return weighed(make_bundle())


@pytest.fixture
def image(tmp_path: Path, write_image: WriteImage) -> Path:
    values = np.random.default_rng(0).normal(50, 80, SHAPE).astype(np.int16)
    return write_image(tmp_path / "images" / "a.nii.gz", values, AFFINE)


@pytest.fixture
def dicom(write_series: WriteSeries, tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 2000, (9, 14, 16)).astype(np.uint16)
    write_series(tmp_path / "dicom", positions=[(0, 0, 2.0 * k) for k in range(9)], array=values)
    return tmp_path / "dicom"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each image a mask of two slabs in place of what its network would."""

    def segment(ready: Ready, *_: object, **__: object) -> Segmented:
        mask = np.zeros(ready.checked.grid.shape, np.uint8)
        mask[:3], mask[3:6] = 1, 2
        return Segmented((mask,), ready.checked.grid, ())

    monkeypatch.setattr("volseg.verbs.predict.case.segment", segment)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def load(*_: object) -> None:
            raise AssertionError("the network was loaded")

        monkeypatch.setattr("volseg.bundle.weights.load_into", load)
        monkeypatch.setattr("volseg.verbs.predict.case.make_ready", load)

    return forbid


def ran(bundle: Path, source: Path, out: Path, **options: Any) -> Outcome:
    (outcome,) = predict(bundle, source, out, PredictOptions(**({"precision": "float32"} | options))).outcomes
    return outcome


def accepted(bundle: Path, source: Path, out: Path, **options: Any) -> Outcome:
    return ran(bundle, source, out, accept_edited=True, **options)


def voxels(path: Path) -> NDArray[Any]:
    return np.asarray(nibabel.load(path).dataobj)


def drawn(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """A mask that no network makes: a block of each label, beside each other."""
    mask = np.zeros(shape, np.uint8)
    mask[2:7, 3:8, 2:6] = 1
    mask[7:11, 3:8, 2:6] = 2
    return mask


def save(path: Path, array: NDArray[Any], affine: NDArray[Any] = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def bytes_of(out: Path) -> dict[str, bytes]:
    """All files but the ledger, which says what the last run was asked."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "prediction.json")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def rows(out: Path) -> dict[int, dict[str, str]]:
    with (out / "statistics.csv").open() as file:
        return {int(row["label"]): row for row in csv.DictReader(file)}


def test_outputs_follow_the_mask_and_a_later_edit_is_seen_again(
    bundle: Path,
    image: Path,
    tmp_path: Path,
    no_network: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, asked = tmp_path / "out", ["--statistics", "--workspace", "--surface", "stl", "--formats", "nifti,slicer"]
    command = ["predict", str(bundle), str(image), str(out), *asked]
    assert main([*command, "--probabilities"]) == 0
    no_network()
    mask = drawn()
    edited = save(out / "a.nii.gz", mask).read_bytes()
    before = bytes_of(out)
    capsys.readouterr()
    assert main(command) == 0
    assert "Add --accept-edited to make it of the mask as it is now" in capsys.readouterr().out
    assert bytes_of(out) == before
    assert main([*command, "--accept-edited", "--dry-run"]) == 0
    assert "its edited mask is taken as it is; made of it: slicer/a.seg.nrrd" in capsys.readouterr().out
    assert bytes_of(out) == before
    assert main([*command, "--accept-edited", "--probabilities"]) == 0
    said = capsys.readouterr().out
    assert "Removed, since they were of the mask as it was before: probabilities/a/1-" in said
    assert "none were written of this case" in said
    after = bytes_of(out)
    assert after["a.nii.gz"] == edited
    assert not (out / "probabilities").exists() or not list((out / "probabilities").rglob("*.nii.gz"))
    values = voxels(image)
    for label, row in rows(out).items():
        inside = values[mask == label]
        assert (int(row["voxels"]), float(row["mean"])) == (inside.size, pytest.approx(inside.mean(), rel=1e-5))
    slicer = sitk.GetArrayFromImage(sitk.ReadImage(out / "slicer" / "a.seg.nrrd")).T
    np.testing.assert_array_equal(slicer, mask)
    volumes = [line.split(",")[6] for line in (out / "stl" / "a" / "surfaces.csv").read_text().splitlines()[1:]]
    assert [float(one) for one in volumes] == pytest.approx([100 * 1.875e-3, 80 * 1.875e-3])
    (outcome,) = Ledger.read(out / "prediction.json").outcomes  # type: ignore[union-attr]
    assert outcome.edited == ("a.nii.gz",)
    assert outcome.made is not None
    assert {name: file_digest(out / name) for name in outcome.made.files} == outcome.made.files
    assert set(outcome.made.files) == set(outcome.outputs)
    ledger = b""
    for _ in range(2):
        assert main(command) == 0
        assert "1 was there already" in capsys.readouterr().out
        assert bytes_of(out) == after
        assert (out / "prediction.json").read_bytes() == (ledger or (ledger := (out / "prediction.json").read_bytes()))
    # Another edit is one again; a label that is gone takes its surface along.
    mask[mask == 2] = 0
    save(out / "a.nii.gz", mask)
    capsys.readouterr()
    assert main(command) == 0
    assert "Add --accept-edited" in capsys.readouterr().out
    assert main([*command, "--accept-edited"]) == 0
    assert (rows(out)[1]["voxels"], rows(out)[2]["voxels"]) == ("100", "0")
    assert len(list((out / "stl" / "a").glob("*.stl"))) == 1
    reference = save(tmp_path / "reference.nii.gz", drawn())
    (scored,) = evaluate(out / "a.nii.gz", reference).cases
    assert [score.dice for score in scored.scores] == [1.0, 0.0]  # type: ignore[attr-defined]


def predicted(bundle: Path, image: Path, out: Path, names: Collection[str]) -> Path:
    """The folder of images called so, whose masks lie there, with statistics and 3D Slicer's files."""
    for name in names:
        shutil.copy(image, image.parent / f"{name}.nii.gz")
    image.unlink()
    assert predict(bundle, image.parent, out, ASKED).exit_code == 0
    return image.parent


@pytest.mark.usefixtures("quick")
def test_what_lies_otherwise_is_taken_where_it_is_certain(
    bundle: Path, image: Path, tmp_path: Path, no_network: Callable[[], None]
) -> None:
    """Types, voxel orders and roundings of other programs, a label of the person's own, and no label at all."""
    out, mask = tmp_path / "out", drawn()
    moved = AFFINE.copy()
    moved[:3, 3] += 1e-5
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[0] - 1
    swap = np.eye(4)[[2, 1, 0, 3]]
    added, empty = mask.copy(), np.zeros_like(mask)
    added[0, 0, :5] = 7
    cases: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any], str]] = {
        "float64": (mask.astype(np.float64), AFFINE, mask, ""),
        "nearly-whole": (mask * np.float32(0.99999994), AFFINE, mask, ""),
        "int16": (mask.astype(np.int16), AFFINE, mask, ""),
        "a-hair-off": (mask, moved, mask, ""),
        "flipped": (mask[::-1].copy(), AFFINE @ flip, mask, "run in another order than its image's"),
        "other-axes": (mask.transpose(2, 1, 0).copy(), AFFINE @ swap, mask, "run in another order than its image's"),
        "a-label-more": (added, AFFINE, added, "has the values 7, which the bundle's labels don't name"),
        "empty": (empty, AFFINE, empty, "it has none of the labels"),
    }
    images = predicted(bundle, image, out, cases)
    no_network()
    lie = {
        what: save(out / f"{what}.nii.gz", array, affine).read_bytes() for what, (array, affine, *_) in cases.items()
    }
    with_option = predict(bundle, images, out, replace(ASKED, accept_edited=True))
    assert [one.code for one in with_option.outcomes] == ["done"] * len(cases)
    with (out / "statistics.csv").open() as file:
        table = list(csv.DictReader(file))
    for outcome in with_option.outcomes:
        *_, wanted, told = cases[outcome.case]
        assert (out / f"{outcome.case}.nii.gz").read_bytes() == lie[outcome.case]
        slicer = sitk.GetArrayFromImage(sitk.ReadImage(out / "slicer" / f"{outcome.case}.seg.nrrd")).T
        np.testing.assert_array_equal(slicer, wanted, outcome.case)
        assert {int(row["label"]): int(row["voxels"]) for row in table if row["case"] == outcome.case} == {
            label: int((wanted == label).sum()) for label in (1, 2, *((7,) if 7 in wanted else ()))
        }, outcome.case
        about = [one for one in outcome.warnings if "order" in one or "values" in one or "none of" in one]
        assert (len(about), told in "".join(about)) == (bool(told), True), (outcome.case, outcome.warnings)
    assert LabelTable.read(out / "labels.txt").indices == (1, 2, 7)
    assert {one.code for one in predict(bundle, images, out, ASKED).outcomes} == {"already-done"}


@pytest.mark.usefixtures("quick")
def test_what_is_no_mask_of_its_image_is_refused_and_nothing_changes(
    bundle: Path, image: Path, tmp_path: Path, no_network: Callable[[], None]
) -> None:
    out, mask = tmp_path / "out", drawn()
    far = AFFINE.copy()
    far[:3, 3] += 0.5
    blurred = mask + np.float32(0.25) * (mask > 0)
    many = np.arange(mask.size).reshape(mask.shape).astype(np.int16) % 1500
    mirrored = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    cases: dict[str, tuple[NDArray[Any], NDArray[Any], str, str]] = {
        "another-shape": (mask[:-1], AFFINE, "grids-differ", "Resample it onto the image's"),
        "another-place": (mask, far, "grids-differ", "apart in the patient"),
        "mirrored": (mask, mirrored, "grids-differ", "another grid"),
        "interpolated": (blurred, AFFINE, "mask-values", "between whole numbers"),
        "not-a-number": (np.where(mask, mask, np.nan).astype(np.float32), AFFINE, "mask-values", "not numbers"),
        "negative": (mask.astype(np.int16) - 1, AFFINE, "mask-values", "from -1"),
        "several-channels": (np.stack([mask, mask], 3), AFFINE, "mask-channels", "several channels"),
        "an-image": (many, AFFINE, "mask-values", "as an image has"),
        "truncated": (mask, AFFINE, "damaged-file", "cut short"),
        "nothing": (mask, AFFINE, "damaged-file", ""),
    }
    images = predicted(bundle, image, out, cases)
    no_network()
    for what, (array, affine, *_) in cases.items():
        path = save(out / f"{what}.nii.gz", array, affine)
        if what in ("truncated", "nothing"):
            path.write_bytes(path.read_bytes()[:60] if what == "truncated" else gzip.compress(b""))
    before = bytes_of(out)
    option = replace(ASKED, accept_edited=True)
    _, planned = preview(bundle, images, out, option)
    done = predict(bundle, images, out, option)
    assert done.exit_code == 1
    for ledger in (planned, done):
        for outcome in ledger.outcomes:
            *_, code, words = cases[outcome.case]
            assert (outcome.code, words in outcome.message) == (code, True), outcome
            assert str(out) not in outcome.message
            assert "\n" not in outcome.message
    assert bytes_of(out) == before


def test_dicom_objects_say_that_a_person_had_a_hand_in_them_and_give_back_the_mask(
    bundle: Path, dicom: Path, tmp_path: Path, no_network: Callable[[], None]
) -> None:
    out = tmp_path / "out"
    asked = {"dicom_seg": True, "dicom_labelmap": True, "rtstruct": True}
    outcome = ran(bundle, dicom, out, **asked, dicom_fractional=True)
    case = outcome.case
    assert (out / f"{case}.fractional.dcm").exists()
    seg, structures = f"{case}.seg.dcm", f"{case}.rtstruct.dcm"
    old = pydicom.dcmread(out / seg)
    assert {one.SegmentAlgorithmType for one in old.SegmentSequence} == {"AUTOMATIC"}
    no_network()
    read = nibabel.load(out / f"{case}.nii.gz")
    mask = drawn(read.shape)
    mask[0, 0, 0] = 9
    save(out / f"{case}.nii.gz", mask.astype(np.float32), read.affine)
    # The archive holds the same series; its image is lost, and made again.
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", dicom)
    (out / "images" / f"{case}.nii.gz").unlink()
    assert ran(bundle, Path(archive), out, **asked).code == "edited"
    outcome = accepted(bundle, Path(archive), out, **asked, dicom_fractional=True)
    assert outcome.code == "done"
    assert not (out / f"{case}.fractional.dcm").exists()
    assert any("fractional.dcm" in one for one in outcome.warnings)
    assert nibabel.load(out / "images" / f"{case}.nii.gz").shape == mask.shape
    for name in (seg, f"{case}.labelmap.dcm"):
        data = pydicom.dcmread(out / name)
        assert {one.SegmentAlgorithmType for one in data.SegmentSequence} == {"SEMIAUTOMATIC"}
        assert data.SegmentSequence[-1].SegmentLabel == "label 9"
        assert data.SOPInstanceUID != old.SOPInstanceUID
    found = {
        one.ROIName: one.ROIGenerationAlgorithm for one in pydicom.dcmread(out / structures).StructureSetROISequence
    }
    assert found.keys() == {"label 1", "label 2", "label 9"} or len(found) == 3
    assert {*found.values()} == {"SEMIAUTOMATIC"}
    # What is asked for later is made of the edited mask, too.
    before = (out / seg).read_bytes()
    (out / seg).unlink()
    assert ran(bundle, dicom, out, **asked, dicom_fractional=True).code == "already-done"
    assert (out / seg).read_bytes() == before
    assert not (out / f"{case}.fractional.dcm").exists()
    for name in (seg, structures):
        shutil.copytree(dicom, tmp_path / name / "source")
        shutil.copy(out / name, tmp_path / name / "source")
        convert(tmp_path / name / "source", tmp_path / name / "back", ConvertOptions(spacing=("native",), jobs=1))
        (path,) = (tmp_path / name / "back" / "labelsTr").glob("*.nii.gz")
        back, numbers = voxels(path), names_of(tmp_path / name / "back")
        for label in LabelTable.read(out / "labels.txt").labels:
            np.testing.assert_array_equal(back == numbers[label.name], mask == label.index)


@pytest.mark.usefixtures("quick")
def test_no_run_takes_an_accepted_mask_for_its_own(
    bundle: Path, image: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    out = tmp_path / "out"
    ran(bundle, image, out, statistics=True)
    mask = save(out / "a.nii.gz", drawn()).read_bytes()
    assert accepted(bundle, image, out, statistics=True).code == "done"
    after = bytes_of(out)
    values = voxels(image)
    write_image(image, values[::-1].copy(), AFFINE)
    for option in (False, True):
        outcome = ran(bundle, image, out, statistics=True, accept_edited=option)
        assert (outcome.code, bytes_of(out)) == ("edited", after)
    write_image(image, values, AFFINE)
    (out / "statistics" / "a.csv").unlink()
    assert ran(bundle, image, out, statistics=True).code == "already-done"
    assert bytes_of(out) == after
    with pytest.raises(UsageError, match="Choose one of them"):
        accepted(bundle, image, out, overwrite=True)
    assert ran(bundle, image, out, overwrite=True).edited == ()
    assert (out / "a.nii.gz").read_bytes() != mask


@pytest.mark.usefixtures("quick")
def test_a_kill_loses_no_edited_mask(bundle: Path, image: Path, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", {"statistics": True, "workspace": True, "surface": ("stl",)}
    ran(bundle, image, out, **asked)
    ledger = (out / "prediction.json").read_bytes()
    mask = drawn()
    mask[mask == 2] = 5
    edited = save(out / "a.nii.gz", mask).read_bytes()
    assert accepted(bundle, image, out, **asked).code == "done"
    after, told = bytes_of(out), Ledger.read(out / "prediction.json")
    # All was in its place and not recorded yet; or a part of it was. A run without the option forgets nothing.
    for lost in ((), ("statistics/a.csv", "stl/a/surfaces.csv")):
        (out / "prediction.json").write_bytes(ledger)
        for name in lost:
            (out / name).unlink()
        (out / ".a.partial-killed").mkdir()
        assert ran(bundle, image, out, **asked).code == "edited"
        assert (out / "a.nii.gz").read_bytes() == edited
        outcome = accepted(bundle, image, out, **asked)
        assert told is not None
        assert (outcome.made, outcome.edited) == (told.outcomes[0].made, told.outcomes[0].edited)
        assert bytes_of(out) == after
    # A run that was killed while it replaced image and mask had written no such mask.
    (out / "prediction.json").write_bytes(ledger)
    left = out / ".a.partial-killed"
    left.mkdir()
    (left / ".placing").write_text(json.dumps({"a.nii.gz": "0" * 32}))
    (out / "a.itksnap").unlink()
    assert ran(bundle, image, out, **asked).code == "edited"
    assert (out / "a.nii.gz").read_bytes() == edited


@pytest.mark.usefixtures("quick")
def test_what_else_somebody_changed_is_not_replaced(bundle: Path, image: Path, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", {"statistics": True, "workspace": True}
    ran(bundle, image, out, **asked)
    save(out / "a.nii.gz", drawn())
    (out / "a.itksnap").write_text("saved by ITK-SNAP")
    (out / "statistics" / "a.csv").write_text("mine")
    outcome = accepted(bundle, image, out, **asked)
    assert (outcome.code, "statistics/a.csv" in outcome.message) == ("edited", True)
    assert (out / "statistics" / "a.csv").read_text() == "mine"
    (out / "statistics" / "a.csv").unlink()
    assert accepted(bundle, image, out, **asked).code == "done"
    assert (out / "a.itksnap").read_text() == "saved by ITK-SNAP"  # which names the mask, and has nothing of it
    assert ran(bundle, image, out, **asked).warnings == accepted(bundle, image, out, **asked).warnings
    # A file of somebody else's where an output would go stays, too.
    save(out / "a.nii.gz", drawn()[::-1].copy())
    (out / "previews").mkdir()
    (out / "previews" / "a.png").write_text("mine")
    assert accepted(bundle, image, out, **asked, preview=True).code == "exists"
    assert (out / "previews" / "a.png").read_text() == "mine"


@pytest.mark.usefixtures("quick")
def test_other_cases_of_the_cohort_are_predicted_as_ever(
    bundle: Path, image: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    out, asked = tmp_path / "out", PredictOptions(precision="float32", statistics=True, accept_edited=True)
    random = np.random.default_rng(1)
    write_image(image.parent / "b.nii.gz", random.normal(50, 80, SHAPE), AFFINE)
    predict(bundle, image.parent, out, PredictOptions(precision="float32"))
    write_image(image.parent / "c.nii.gz", random.normal(50, 80, SHAPE), AFFINE)
    save(out / "a.nii.gz", drawn())
    plan, _ = preview(bundle, image.parent, out, asked)
    assert [row.action.partition(";")[0] for row in plan] == [
        "its edited mask is taken as it is", "18 x 14 x 12 at 1.5 x 1 x 1.25 mm", "18 x 14 x 12 at 1.5 x 1 x 1.25 mm",
    ]  # fmt: skip
    ledger = predict(bundle, image.parent, out, asked)
    assert [(one.case, one.code, one.edited) for one in ledger.outcomes] == [
        ("a", "done", ("a.nii.gz",)), ("b", "already-done", ()), ("c", "done", ()),
    ]  # fmt: skip
    table = (out / "statistics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == list("aabbcc")


def test_the_mask_of_one_region_is_edited(tmp_path: Path, write_series: WriteSeries) -> None:
    values = np.random.default_rng(5).integers(1024, 1424, (8, 13, 11)).astype(np.uint16)
    write_series(tmp_path / "dicom", positions=[(0, 0, 2.0 * k) for k in range(8)], array=values)
    bundle, out = write_sigmoid_bundle(tmp_path / "bundle"), tmp_path / "out"
    trust(bundle)
    asked = {"regions": True, "dicom_seg": True, "rtstruct": True, "statistics": True}
    case = ran(bundle, tmp_path / "dicom", out, **asked).case
    path, other = (out / region / f"{case}.nii.gz" for region in ("tumor-core", "whole-tumor"))
    read = nibabel.load(path)
    whole, mask = voxels(other), np.zeros(read.shape, np.int16)
    mask[2:6, 2:6, 2:6] = 1
    save(path, mask, read.affine)
    outcome = accepted(bundle, tmp_path / "dicom", out, **asked)
    assert (outcome.code, outcome.edited) == ("done", (f"tumor-core/{case}.nii.gz",))
    data = pydicom.dcmread(out / f"{case}.seg.dcm")
    numbers = np.array([group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
                        for group in data.PerFrameFunctionalGroupsSequence])  # fmt: skip
    frames = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    frames = frames[: len(numbers) * 13 * 11].reshape(-1, 13, 11)
    assert [frames[numbers == number].sum() for number in (1, 2)] == [64, whole.sum()]
    kinds = {}
    for region in ("tumor-core", "whole-tumor"):
        (one,) = pydicom.dcmread(out / region / f"{case}.rtstruct.dcm").StructureSetROISequence
        kinds[region] = one.ROIGenerationAlgorithm
    assert kinds == {"tumor-core": "SEMIAUTOMATIC", "whole-tumor": "AUTOMATIC"}
    assert ran(bundle, tmp_path / "dicom", out, **asked).code == "already-done"
    # A region has one value; and none of its masks may be gone.
    mask[8, 8, 4] = 2
    save(path, mask, read.affine)
    assert accepted(bundle, tmp_path / "dicom", out, **asked).code == "not-a-region"
    other.unlink()
    assert accepted(bundle, tmp_path / "dicom", out, **asked).code == "edited"
    assert not other.exists()


@pytest.mark.usefixtures("quick")
def test_a_box_of_a_case_of_two_channels(
    make_bundle: MakeBundle, make_plan: MakePlan, tmp_path: Path, write_image: WriteImage
) -> None:
    bundle, out = weighed(make_bundle(make_plan(channels=("T1", "T2")))), tmp_path / "out"
    random = np.random.default_rng(2)
    channels = [random.normal(100, 20, SHAPE).astype(np.float32) for _ in range(2)]
    for number, values in enumerate(channels):
        write_image(tmp_path / "images" / f"a_000{number}.nii.gz", values, AFFINE)
    asked = {"roi": "1:12,1:12,1:9", "statistics": True}
    ran(bundle, tmp_path / "images", out, **asked)
    mask = drawn()
    mask[15:17, 12, 10] = 2  # also beside the box
    save(out / "a.nii.gz", mask)
    assert accepted(bundle, tmp_path / "images", out, **asked).code == "done"
    for label, row in rows(out).items():
        for name, values in zip(("t1", "t2"), channels, strict=True):
            assert float(row[f"{name}_mean"]) == pytest.approx(values[mask == label].mean(), rel=1e-5)
