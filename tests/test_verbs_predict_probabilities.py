"""Probabilities and thresholds through predict: what is written beside the masks, and when it is made again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml

from tests.dicom_traps.stack import Stack, write_stack
from tests.nifti import voxels
from tests.weighed import SHAPE, noise, weighed
from tests.zoo import INVERTED, THRESHOLDED, write_sigmoid_bundle
from volseg.cli.main import main
from volseg.errors import OutputExistsError, UsageError
from volseg.outcomes import Ledger
from volseg.planning.augmentations import SmallChanges
from volseg.verbs.convert import ConvertOptions, convert
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.trust import trust

if TYPE_CHECKING:
    from tests.conftest import MakeBundle, MakePlan, WriteImage, WriteSeries

PARTS = [f"pred_{number}" for number in range(3)]
BITS: tuple[dict[str, Any], ...] = (
    {"_target_": "SplitDimd", "keys": "pred", "output_postfixes": ["0", "1", "2"], "dim": 0, "keepdim": True},
    {"_target_": "MeanEnsembled", "keys": PARTS, "output_key": "pred", "weights": [1, 2, 4]},
    {"_target_": "ScaleIntensityRanged", "keys": "pred", "a_min": 0, "a_max": 1, "b_min": 0, "b_max": 7},
    {"_target_": "AsDiscreted", "keys": "pred", "rounding": "torchrounding"},
)
"""Steps that merge three regions into one mask: 1, 2 and 4, added."""
HALF_A_STEP = 0.5 / 2**15 + 1e-6


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    """A bundle of two labels."""
    return weighed(make_bundle())


@pytest.fixture
def image(tmp_path: Path, write_image: WriteImage) -> Path:
    return noise(write_image, tmp_path / "images" / "a.nii.gz")


def ran(bundle: Path, image: Path, out: Path, **options: Any) -> Ledger:
    options = {"precision": "float32"} | options
    ledger = predict(bundle, image, out, PredictOptions(**options))
    assert ledger.exit_code == 0, ledger
    return ledger


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != "labels.txt")


def named(out: Path) -> dict[int, Path]:
    return {int(path.name.partition("-")[0]): path for path in (out / "probabilities" / "a").iterdir()}


def test_the_likeliest_label_is_that_of_the_mask_and_others_open_the_files(
    bundle: Path, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (outcome,) = ran(bundle, image, out, raw=True, probabilities="all").outcomes
    ran(bundle, image, tmp_path / "plain", raw=True)
    assert (out / "a.nii.gz").read_bytes() == (tmp_path / "plain" / "a.nii.gz").read_bytes()
    found = named(out)
    assert sorted(found) == [1, 2]
    assert outcome.made is not None
    assert {f"probabilities/a/{path.name}" for path in found.values()} <= set(outcome.made.files)
    mask, header = voxels(out / "a.nii.gz"), nibabel.load(image).header
    p = np.stack([voxels(found[1]), voxels(found[2])])
    for path in found.values():
        read = nibabel.load(path)
        assert read.header.get_data_dtype() == np.uint16
        assert (read.dataobj.slope, read.dataobj.inter) == (2.0**-15, 0)
        assert all(np.array_equal(read.header[name], header[name]) for name in ("srow_x", "quatern_b", "qoffset_x"))
        itk = sitk.ReadImage(str(path))
        assert itk.GetSpacing() == sitk.ReadImage(str(image)).GetSpacing()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, read.get_fdata().astype(np.float32))
    every = np.concatenate([1 - p.sum(axis=0, keepdims=True), p])
    chosen = np.take_along_axis(every, mask[None].astype(int), 0)[0]
    assert (every.max(axis=0) - chosen).max() < 4 * HALF_A_STEP
    assert len(np.unique(mask)) > 1


def require_likeliest(mask: np.ndarray, p: np.ndarray) -> None:
    """Each voxel's label is one of the likeliest, and all that labels have (label, i, j, k) is 1 together."""
    assert np.abs(p.sum(axis=0) - 1).max() < 4 * HALF_A_STEP
    chosen = np.take_along_axis(p, mask[None].astype(int), 0)[0]
    assert (p.max(axis=0) - chosen).max() < 3 * HALF_A_STEP
    assert len(np.unique(mask)) > 1


def test_with_mirroring_they_are_of_the_mean(
    make_bundle: MakeBundle, make_plan: MakePlan, image: Path, tmp_path: Path
) -> None:
    bundle = weighed(make_bundle(make_plan(augmentation=SmallChanges((1.0, 1.0, 1.0), (1,)))))
    every = {"raw": True, "probabilities": ("0", "1", "2")}
    ran(bundle, image, tmp_path / "out", tta=True, **every)
    ran(bundle, image, tmp_path / "plain", **every)
    p, plain = (
        np.stack([voxels(path) for _, path in sorted(named(tmp_path / out).items())]) for out in ("out", "plain")
    )
    require_likeliest(voxels(tmp_path / "out" / "a.nii.gz"), p)
    assert np.abs(p - plain).max() > 0.01


@pytest.mark.parametrize("drift", [(0.0, 0.3), (0.0, 0.0)])
def test_of_tilted_and_uneven_series_they_lie_on_the_image_and_go_back_to_the_slices(
    drift: tuple[float, float], bundle: Path, tmp_path: Path
) -> None:
    gaps_mm = (2.0,) * 7 if any(drift) else (2.0,) * 4 + (3.5,) * 3
    write_stack(tmp_path / "dicom", Stack(size=(12, 10), gaps_mm=gaps_mm, drift=drift))
    out = tmp_path / "out"
    every = {"raw": True, "probabilities": ("0", "1", "2"), "dicom_fractional": True}
    (outcome,) = ran(bundle, tmp_path / "dicom", out, **every).outcomes
    paths = sorted((out / "probabilities" / outcome.case).iterdir())
    p = np.stack([voxels(path) for path in paths])
    require_likeliest(voxels(out / f"{outcome.case}.nii.gz"), p)
    image = nibabel.load(out / "images" / f"{outcome.case}.nii.gz")
    assert np.array_equal(nibabel.load(paths[0]).affine, image.affine)
    data = pydicom.dcmread(out / f"{outcome.case}.fractional.dcm")
    shared = data.SharedFunctionalGroupsSequence[0]
    right, down = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    rows, columns = np.indices((data.Rows, data.Columns))[..., None]
    compared = 0
    for group, frame in zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        lps = corner + columns * between_columns * right + rows * between_rows * down
        places = nibabel.affines.apply_affine(np.linalg.inv(image.affine), lps * (-1, -1, 1))
        sure = (np.abs(places - np.floor(places) - 0.5) > 1e-3).all(axis=-1)  # no pixel between two voxels
        i, j, k = np.moveaxis(np.rint(places).astype(int), -1, 0)
        sure &= (i >= 0) & (j >= 0) & (k >= 0) & (i < p.shape[1]) & (j < p.shape[2]) & (k < p.shape[3])
        label = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.abs(p[label, i[sure], j[sure], k[sure]] - frame[sure] / 255).max() < 0.5 / 255 + HALF_A_STEP
        compared += int(sure.sum())
    assert compared > data.pixel_array.size / 2


def test_they_stay_and_are_made_again_without_touching_the_mask(
    bundle: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, command = tmp_path / "out", ["predict", str(bundle), str(image), str(tmp_path / "out"), "--statistics"]
    assert main(command) == 0
    mask = out / "a.nii.gz"
    before, written = mask.read_bytes(), mask.stat().st_mtime_ns
    assert main([*command, "--probabilities"]) == 0  # the network runs again
    all_of = {name: (out / name).read_bytes() for name in files(out)}
    assert sum(name.startswith("probabilities/") for name in all_of) == 2
    capsys.readouterr()
    for words in (["--probabilities"], [], ["--probabilities", "1"]):
        assert main([*command, *words]) == 0
        assert "1 was there already" in capsys.readouterr().out
    for lost in named(out).values():
        lost.unlink()
        assert main([*command, "--probabilities"]) == 0
    assert {name: (out / name).read_bytes() for name in files(out)} == all_of
    assert (mask.read_bytes(), mask.stat().st_mtime_ns) == (before, written)
    (told,) = Ledger.read(out / "prediction.json").outcomes  # type: ignore[union-attr]
    assert not any("came out otherwise" in warning for warning in told.warnings)
    assert not [path for path in out.iterdir() if path.name.startswith(".a")]
    # Another model makes all of them anew, and takes those away that are not asked for.
    weighed(bundle, seed=7)
    assert main([*command, "--probabilities", "1"]) == 2
    assert main([*command, "--probabilities", "1", "--overwrite"]) == 0
    assert list(named(out)) == [1]
    assert mask.read_bytes() != before


def test_beside_an_edited_mask_nothing_is_made(bundle: Path, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran(bundle, image, out)
    edited = nibabel.load(out / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(1 - np.minimum(1, voxels(out / "a.nii.gz")), edited.affine), out / "a.nii.gz")
    (outcome,) = predict(bundle, image, out, PredictOptions(precision="float32", probabilities="all")).outcomes
    assert outcome.code == "edited"
    assert not (out / "probabilities").exists()


def test_labels_are_named_and_what_makes_no_sense_is_refused(bundle: Path, image: Path, tmp_path: Path) -> None:
    ran(bundle, image, tmp_path / "two", probabilities="background,2")
    assert sorted(named(tmp_path / "two")) == [0, 2]
    ran(bundle, image, tmp_path / "some", labels="1", probabilities="all")
    assert sorted(named(tmp_path / "some")) == [1]
    for words, why in (("spleen", "no label 'spleen'"), ("9", "names 9, which no label has")):
        with pytest.raises(UsageError, match=why):
            predict(bundle, image, tmp_path / "no", PredictOptions(probabilities=words))
    assert not (tmp_path / "no").exists()


def test_beside_a_box_they_are_0(bundle: Path, image: Path, tmp_path: Path) -> None:
    ran(bundle, image, tmp_path / "whole", probabilities="all")
    ran(bundle, image, tmp_path / "boxed", probabilities=("0", "1", "2"), roi="2:6,3:9,7:11")
    inside = np.zeros(SHAPE, bool)
    inside[2:6, 3:9, 7:11] = True
    whole, boxed = ({n: voxels(path) for n, path in named(tmp_path / out).items()} for out in ("whole", "boxed"))
    for label in (1, 2):
        assert np.abs(boxed[label] - whole[label])[inside].max() < 3 * HALF_A_STEP
        assert not boxed[label][~inside].any()
    assert (boxed[0][~inside] == 1).all()


def test_thresholds_come_from_the_command_or_the_bundle(bundle: Path, image: Path, tmp_path: Path) -> None:
    ran(bundle, image, tmp_path / "plain", raw=True, probabilities="all")
    mask = voxels(tmp_path / "plain" / "a.nii.gz")
    p = {n: voxels(path) for n, path in named(tmp_path / "plain").items()}
    least = float(np.median(p[1][mask == 1]))
    ledger = ran(bundle, image, tmp_path / "asked", raw=True, threshold=f"1:{least}", probabilities="all")
    found = voxels(tmp_path / "asked" / "a.nii.gz")
    expected = np.where((mask == 1) & (p[1] < least), 0, mask)
    near = np.abs(p[1] - least) < 3 * HALF_A_STEP
    np.testing.assert_array_equal(found[~near], expected[~near])
    assert 0 < (found == 1).sum() < (mask == 1).sum()
    # What is written is what the network gave, before any rule.
    assert named(tmp_path / "asked")[1].read_bytes() == named(tmp_path / "plain")[1].read_bytes()
    assert "rules" in ledger.provenance.checksums
    with pytest.raises(OutputExistsError, match="made with other rules"):
        predict(bundle, image, tmp_path / "asked", PredictOptions(precision="float32", raw=True))
    config = bundle / "configs" / "inference.yaml"
    content = yaml.safe_load(config.read_text())
    content["volseg_postprocessing"] = [{"rule": "threshold", "labels": [1], "minimum": least}]
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(["check", str(bundle)]) == 0
    ran(bundle, image, tmp_path / "raw", raw=True)
    np.testing.assert_array_equal(voxels(tmp_path / "raw" / "a.nii.gz"), mask)
    ran(bundle, image, tmp_path / "own")
    assert ((voxels(tmp_path / "own" / "a.nii.gz") == 1) <= (found == 1)).all()
    (outcome,) = ran(bundle, image, tmp_path / "gone", raw=True, threshold="all:1").outcomes
    assert any("Thresholds left nothing of the labels" in warning for warning in outcome.warnings)


def test_regions_have_files_of_their_own_and_thresholds_by_name(tmp_path: Path, write_image: WriteImage) -> None:
    bundle = write_sigmoid_bundle(tmp_path / "bundle", steps=(INVERTED, THRESHOLDED, *BITS))
    trust(bundle)
    values = np.random.default_rng(5).integers(0, 400, (13, 11, 9)).astype(np.float32)
    image = write_image(tmp_path / "a.nii.gz", values, np.diag([-1.2, 1.0, 2.0, 1.0]))
    out = tmp_path / "out"
    (outcome,) = ran(bundle, image, out, regions=True, probabilities="all", threshold="tumor core:0.9").outcomes
    for folder, above in (("tumor-core", 200.0), ("whole-tumor", 100.0)):
        assert f"{folder}/probabilities/a.nii.gz" in outcome.outputs
        sigmoid = 1 / (1 + np.exp(above - values.astype(np.float64)))
        assert np.abs(voxels(out / folder / "probabilities" / "a.nii.gz") - sigmoid).max() < 3 * HALF_A_STEP
        least = 0.9 if folder == "tumor-core" else 0.5
        np.testing.assert_array_equal(voxels(out / folder / "a.nii.gz"), sigmoid >= least)
    # The same thresholds decide on what is merged, whose labels have no probabilities.
    ran(bundle, image, tmp_path / "merged", threshold="tumor core:0.9")
    merged = voxels(tmp_path / "merged" / "a.nii.gz")
    wanted = (values - 200 >= np.log(9)) + 2 * (values >= 100) + 4 * (values >= 300)
    np.testing.assert_array_equal(merged, wanted)
    for options, code in (
        ({"probabilities": "all"}, "needs-regions"),
        ({"threshold": "1:0.9"}, "no-label"),
        ({"regions": True, "keep_largest": "1"}, "usage"),
    ):
        with pytest.raises(UsageError) as refused:
            predict(bundle, image, tmp_path / "no", PredictOptions(**options))  # type: ignore[arg-type]
        assert refused.value.code == code


def test_a_config_that_is_run_step_by_step_tells_no_probabilities(
    bundle: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = bundle / "configs" / "inference.yaml"
    content = yaml.safe_load(config.read_text())
    content["postprocessing"]["transforms"].insert(1, {"_target_": "monai.transforms.CastToTyped", "keys": "pred"})
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    trust(bundle)
    for words in (["--probabilities"], ["--threshold", "1:0.5"]):
        assert main(["predict", str(bundle), str(image), str(tmp_path / "out"), *words]) == 2
        assert "the probabilities of its labels are not known" in " ".join(capsys.readouterr().err.split())


def test_a_fractional_segmentation_holds_them(bundle: Path, write_series: WriteSeries, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 2000, (7, 10, 12)).astype(np.uint16)
    write_series(tmp_path / "dicom", positions=[(0, 0, 2.0 * k) for k in range(7)], array=array)
    out = tmp_path / "out"
    ran(bundle, tmp_path / "dicom", out, dicom_seg=True)
    (outcome,) = ran(bundle, tmp_path / "dicom", out, dicom_fractional=True, probabilities="all").outcomes
    data = pydicom.dcmread(out / f"{outcome.case}.fractional.dcm")
    assert f"{outcome.case}.seg.dcm" in outcome.outputs
    assert (out / f"{outcome.case}.seg.dcm").is_file()  # what an earlier run wrote stays
    assert [segment.SegmentLabel for segment in data.SegmentSequence] == [
        segment.SegmentLabel for segment in pydicom.dcmread(out / f"{outcome.case}.seg.dcm").SegmentSequence
    ]
    highest = max(float(voxels(path).max()) for path in (out / "probabilities" / outcome.case).iterdir())
    assert data.pixel_array.max() == round(255 * highest)


def test_a_fractional_segmentation_holds_regions_that_overlap(write_series: WriteSeries, tmp_path: Path) -> None:
    bundle = write_sigmoid_bundle(tmp_path / "bundle", steps=(INVERTED, THRESHOLDED, *BITS))
    trust(bundle)
    stored = np.random.default_rng(5).integers(1024, 1424, (8, 13, 11)).astype(np.uint16)
    write_series(tmp_path / "dicom" / "ct", positions=[(0, 0, 2.0 * k) for k in range(8)], array=stored)
    out, hu = tmp_path / "out", stored.astype(np.float64) - 1024
    ran(bundle, tmp_path / "dicom", out, regions=True, dicom_fractional=True, probabilities="all")
    (path,) = out.glob("*.dcm")
    data = pydicom.dcmread(path)
    assert [one.SegmentLabel for one in data.SegmentSequence] == ["Tumor core", "Whole tumor", "Enhancing tumor"]
    for group, frame in zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True):
        above = (200, 100, 300)[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
        k = round(float(group.PlanePositionSequence[0].ImagePositionPatient[2]) / 2)
        assert np.abs(frame / 255 - 1 / (1 + np.exp(above - hu[k]))).max() < 0.5 / 255 + HALF_A_STEP
    assert data.NumberOfFrames == 3 * len(hu)
    # Convert brings all of them back at once.
    shutil.copy(path, tmp_path / "dicom")
    back = tmp_path / "back"
    ledger = convert(tmp_path / "dicom", back, ConvertOptions(spacing=("native",), regions=True, jobs=1))
    assert "each is whole in regions/" in ledger.outcomes[0].message
    for folder in ("tumor-core", "whole-tumor", "enhancing-tumor"):
        (mask,), (found,) = ((root / folder).glob("*.nii.gz") for root in (out, back / "regions"))
        np.testing.assert_array_equal(voxels(found), voxels(mask))
