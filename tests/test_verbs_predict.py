"""Predicting through the Python function: masks on their images' own grids, whatever goes in; what is refused, and how."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml

from tests.conftest import uncounted
from tests.nifti import save, voxels
from tests.zoo import write_zoo_bundle
from volseg.errors import (
    BundleError,
    DiskFullError,
    OutputExistsError,
    TrustError,
)
from volseg.labels import LabelTable
from volseg.outcomes import Status
from volseg.verbs.check import check
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.train import train
from volseg.verbs.trust import trust

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.conftest import CopyBundle, WriteImage


def dice(first: NDArray[Any], second: NDArray[Any], label: int) -> float:
    a, b = first == label, second == label
    return float(2 * np.sum(a & b) / (a.sum() + b.sum()))


def ledger_of(out: Path) -> dict[str, Any]:
    content = json.loads((out / "prediction.json").read_text())
    assert isinstance(content, dict)
    return content


def test_held_out_cases_get_good_masks_of_their_own_geometry(
    trained_bundle: Path, cohort: Path, tmp_path: Path
) -> None:
    ledger = predict(trained_bundle, cohort, tmp_path / "out", PredictOptions(fold=0))
    assert ledger.exit_code == 0
    held_out = json.loads((trained_bundle / "runs" / "fold_0" / "training.json").read_text())["cases"]["validation"]
    assert [outcome.case for outcome in ledger.outcomes] == held_out
    for case in held_out:
        path = tmp_path / "out" / f"{case}.nii.gz"
        mask = voxels(path)
        assert mask.dtype == np.uint8
        truth = voxels(cohort / "labelsTr" / f"{case}.nii.gz")
        assert dice(mask, truth, 1) > 0.8
        assert dice(mask, truth, 2) > 0.8
        image = sitk.ReadImage(str(cohort / "imagesTr" / f"{case}.nii.gz"))
        found = sitk.ReadImage(str(path))
        assert found.GetSpacing() == image.GetSpacing()
        assert found.GetOrigin() == image.GetOrigin()
        assert found.GetDirection() == image.GetDirection()
    labels = LabelTable.from_itksnap((tmp_path / "out" / "labels.txt").read_text())
    assert labels.names == ("shell", "core")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*(f"{case}.nii.gz" for case in held_out), "labels.txt", "prediction.json"]
    )


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_weights_that_are_not_finite_make_no_mask(
    copy_bundle: CopyBundle, cohort: Path, tmp_path: Path, bad: str
) -> None:
    bundle = copy_bundle(trained=True)
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    name = next(name for name, tensor in state.items() if tensor.ndim == 5)
    state[name][0, 0, 1, 1, 1] = float(bad)
    torch.save(state, bundle / "models" / "model.pt")
    with pytest.raises(BundleError, match=name) as caught:
        predict(bundle, cohort / "imagesTs" / "case_10.nii.gz", tmp_path / "out")
    assert caught.value.code == "not-finite"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.nii.gz"))
    found = [fault for fault in check(bundle).errors if fault.code == "not-finite"]
    assert [(fault.case, name in fault.message) for fault in found] == [("models/model.pt", True)]


def test_convert3d_reads_the_same_geometry(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    module = pytest.importorskip("picsl_c3d", reason="Convert3D is not installed")
    oblique = voxels(cohort / "imagesTs" / "case_10.nii.gz")
    angle = np.radians(17)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] *= (0.98765, 1.01, 1.2345)
    affine[:3, 3] = -31.41592, 12.3, 7.77
    image = save(tmp_path / "oblique.nii.gz", oblique, affine)
    predict(trained_bundle, image, tmp_path / "out")
    seen = []
    for path in (image, tmp_path / "out" / "oblique.nii.gz"):
        c3d = module.Convert3D()
        c3d.execute(f'"{path}" -as X')
        found = c3d.peek(-1)
        seen.append((found.GetSpacing(), found.GetOrigin(), found.GetDirection()))
    assert seen[0] == seen[1]


def test_the_voxel_order_of_an_image_changes_nothing_in_the_world(
    trained_bundle: Path, cohort: Path, tmp_path: Path
) -> None:
    source = nibabel.load(cohort / "imagesTs" / "case_10.nii.gz")
    values, affine = np.asarray(source.dataobj), source.affine
    (tmp_path / "images").mkdir()
    turns = {
        "as_it_is": ((0, 1, 2), (1, 1, 1)),
        "turned": ((2, 0, 1), (-1, 1, -1)),
        "mirrored": ((0, 1, 2), (-1, -1, 1)),
    }
    for name, (order, signs) in turns.items():
        turned = values.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for axis, (old, sign) in enumerate(zip(order, signs, strict=True)):
            matrix[old, axis] = sign
            matrix[old, 3] = 0 if sign > 0 else turned.shape[axis] - 1
        save(tmp_path / "images" / f"{name}.nii.gz", turned, affine @ matrix)
    assert predict(trained_bundle, tmp_path / "images", tmp_path / "out").exit_code == 0
    masks = {}
    for name, (order, signs) in turns.items():
        back = voxels(tmp_path / "out" / f"{name}.nii.gz")[tuple(slice(None, None, sign) for sign in signs)]
        masks[name] = back.transpose(np.argsort(order))
    for name in turns:
        assert np.sum(masks[name] != masks["as_it_is"]) <= 5
    assert np.sum(masks["as_it_is"] == 2) > 50


@pytest.mark.parametrize(("modality", "warned"), [("CT", True), ("MR", False), ("words", False), (None, False)])
def test_an_image_of_another_modality_is_warned_of(
    trained_bundle: Path, cohort: Path, tmp_path: Path, modality: str | None, warned: bool
) -> None:
    image = tmp_path / "images" / "case_10.nii.gz"
    image.parent.mkdir()
    shutil.copy(cohort / "imagesTs" / image.name, image)
    (tmp_path / "images" / "case_10.json").write_text(json.dumps({} if modality is None else {"modality": modality}))
    (outcome,) = predict(trained_bundle, image, tmp_path / "out").outcomes
    assert outcome.status is Status.DONE
    assert any("is CT, and the bundle was made for MR" in told for told in outcome.warnings) is warned


def test_one_bad_image_never_costs_the_others(
    trained_bundle: Path, cohort: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    images = tmp_path / "images"
    shutil.copytree(cohort / "imagesTs", images)
    values = voxels(images / "case_10.nii.gz").copy()
    values[3, 4, 5] = np.nan
    write_image(images / "nan.nii.gz", values)
    write_image(images / "two.nii.gz", np.ones((9, 9, 9, 2), np.float32))
    (images / "cut.nii.gz").write_bytes((images / "case_11.nii.gz").read_bytes()[:2000])
    (images / "text.nii.gz").write_bytes(gzip.compress(b"no image" * 100))
    ledger = predict(trained_bundle, images, tmp_path / "out")
    assert ledger.exit_code == 1
    assert {outcome.case: outcome.code for outcome in ledger.outcomes} == {
        "case_10": "done",
        "case_11": "done",
        "cut": "damaged-file",
        "nan": "not-finite",
        "text": "damaged-file",
        "two": "channels",
    }
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"case_10.nii.gz", "case_11.nii.gz"}
    recorded = {outcome["case"]: outcome["status"] for outcome in ledger_of(tmp_path / "out")["outcomes"]}
    assert recorded["nan"] == "refused"
    assert str(tmp_path) not in (tmp_path / "out" / "prediction.json").read_text()
    assert recorded["case_10"] == "done"


def test_a_second_run_changes_no_byte_and_makes_what_is_missing(
    trained_bundle: Path, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, cohort, out)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.nii.gz")}
    ledger = (out / "prediction.json").read_bytes()
    again = predict(trained_bundle, cohort, out)
    assert [outcome.code for outcome in again.outcomes] == ["already-done", "already-done"]
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.nii.gz")} == before
    assert (out / "prediction.json").read_bytes() == ledger
    (out / "case_11.nii.gz").unlink()
    third = predict(trained_bundle, cohort, out)
    assert [outcome.code for outcome in third.outcomes] == ["already-done", "done"]
    assert (out / "case_11.nii.gz").read_bytes() == before["case_11.nii.gz"][1]
    assert (out / "prediction.json").read_bytes() == ledger


def test_overwriting_makes_every_mask_anew(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, cohort, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    ledger = predict(trained_bundle, cohort, out, PredictOptions(overwrite=True))
    assert [outcome.code for outcome in ledger.outcomes] == ["done", "done"]
    assert all(path.stat().st_mtime_ns > before[path.name] for path in out.glob("*.nii.gz"))


def test_masks_of_another_model_never_pass_for_this_one_s(
    trained_bundle: Path, copy_bundle: CopyBundle, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, cohort, out)
    other = copy_bundle(trained=True)
    weights = torch.load(other / "models" / "model.pt", weights_only=True)
    torch.save({name: tensor * 1.01 for name, tensor in weights.items()}, other / "models" / "model.pt")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for bundle, options in ((other, PredictOptions()), (trained_bundle, PredictOptions(raw=True))):
        with pytest.raises(OutputExistsError, match="holds masks of another model"):
            predict(bundle, cohort, out, options)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert predict(other, cohort, out, PredictOptions(overwrite=True)).exit_code == 0
    checksums = ledger_of(out)["provenance"]["checksums"]
    assert checksums != json.loads(before["prediction.json"])["provenance"]["checksums"]


def test_images_that_are_predicted_one_by_one_share_a_ledger(
    trained_bundle: Path, cohort: Path, tmp_path: Path
) -> None:
    for case in ("case_11", "case_10"):
        predict(trained_bundle, cohort / "imagesTs" / f"{case}.nii.gz", tmp_path / "out")
    assert [outcome["case"] for outcome in ledger_of(tmp_path / "out")["outcomes"]] == ["case_10", "case_11"]


def test_an_interrupted_run_leaves_whole_masks_and_says_whose_they_are(
    trained_bundle: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volseg.inference.segmenter import Segmenter

    whole = Segmenter.segment
    calls = 0

    def interrupted(self: Segmenter, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(Segmenter, "segment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(trained_bundle, cohort, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "case_10.nii.gz",
        "labels.txt",
        "prediction.json",
    ]
    assert ledger_of(tmp_path / "out")["provenance"]["checksums"]["weights"]
    ledger = predict(trained_bundle, cohort, tmp_path / "out")
    assert [outcome.code for outcome in ledger.outcomes] == ["already-done", "done"]


def test_a_full_disk_ends_the_run_at_once(
    trained_bundle: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise DiskFullError(f"No space is left on the disk to write {path}.")

    monkeypatch.setattr("volseg.writers.nifti.write_mask", full)
    with pytest.raises(DiskFullError):
        predict(trained_bundle, cohort, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["labels.txt", "prediction.json"]


def test_masks_never_go_where_the_images_are(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(cohort / "imagesTs", images)
    (tmp_path / "link").symlink_to(images)
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    for out in (images, tmp_path / "link", images / ".." / "images"):
        for options in (PredictOptions(), PredictOptions(overwrite=True)):
            with pytest.raises(OutputExistsError, match="holds the images themselves"):
                predict(trained_bundle, images, out, options)
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_the_rules_of_the_bundle_are_applied_unless_the_mask_is_to_be_raw(
    copy_bundle: CopyBundle, cohort: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(trained=True)
    path = bundle / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    config["volseg_postprocessing"] = [{"rule": "remove_small", "minimum_mm3": 1e9}]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    (outcome, _) = predict(bundle, cohort, tmp_path / "tidy").outcomes
    assert not voxels(tmp_path / "tidy" / "case_10.nii.gz").any()
    assert any("removed all of the labels 1 (shell), 2 (core)" in warning for warning in outcome.warnings)
    predict(bundle, cohort, tmp_path / "raw", PredictOptions(raw=True))
    assert set(np.unique(voxels(tmp_path / "raw" / "case_10.nii.gz"))) == {0, 1, 2}
    config["volseg_postprocessing"] = ["largest"]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(BundleError, match="A postprocessing rule is a mapping"):
        predict(bundle, cohort, tmp_path / "other")


class TestWeights:
    def test_without_any_it_says_what_to_do(self, planned_bundle: Path, cohort: Path, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"has no weights yet\. Train it with volseg train") as caught:
            predict(planned_bundle, cohort, tmp_path / "out")
        assert caught.value.code == "no-weights"
        with pytest.raises(BundleError, match=r"no model of fold 3\. Train it with volseg train --fold 3"):
            predict(planned_bundle, cohort, tmp_path / "out", PredictOptions(fold=3))
        assert not (tmp_path / "out").exists()

    def test_another_network_s_are_refused(self, copy_bundle: CopyBundle, cohort: Path, tmp_path: Path) -> None:
        bundle = copy_bundle(trained=True)
        torch.save({"layer.weight": torch.zeros(3)}, bundle / "models" / "model.pt")
        with pytest.raises(BundleError, match="of another network") as caught:
            predict(bundle, cohort, tmp_path / "out")
        assert caught.value.code == "weights-differ"

    def test_a_damaged_file_is_refused(self, copy_bundle: CopyBundle, cohort: Path, tmp_path: Path) -> None:
        bundle = copy_bundle(trained=True)
        path = bundle / "models" / "model.pt"
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(BundleError, match="is damaged") as caught:
            predict(bundle, cohort, tmp_path / "out")
        assert caught.value.code == "bad-weights"

    def test_a_fold_without_a_record_of_its_cases_is_refused(
        self, copy_bundle: CopyBundle, cohort: Path, tmp_path: Path
    ) -> None:
        bundle = copy_bundle(trained=True)
        (bundle / "runs" / "fold_0" / "training.json").unlink()
        with pytest.raises(BundleError, match="keeps no record of the cases that fold 0 held out"):
            predict(bundle, cohort, tmp_path / "out", PredictOptions(fold=0))


def test_a_bundle_of_another_make_predicts_once_it_is_trusted(cohort: Path, tmp_path: Path) -> None:
    bundle = write_zoo_bundle(tmp_path / "bundle", cohort)
    trust(bundle)
    train(bundle)
    ledger = predict(bundle, cohort, tmp_path / "out")
    assert ledger.exit_code == 0
    image = nibabel.load(cohort / "imagesTs" / "case_11.nii.gz")  # stored in another voxel order
    mask = nibabel.load(tmp_path / "out" / "case_11.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape
    assert LabelTable.from_itksnap((tmp_path / "out" / "labels.txt").read_text()).names == ("shell", "core")
    assert not (bundle / "eval").exists()  # its own saving step is left out
    (bundle / "configs" / "inference.json").write_text((bundle / "configs" / "inference.json").read_text() + " ")
    with pytest.raises(TrustError):
        predict(bundle, cohort, tmp_path / "out")


def test_monai_s_own_command_gives_the_very_masks(copy_bundle: CopyBundle, cohort: Path, tmp_path: Path) -> None:
    """The largest component among them: MONAI's transform there, volseg's rule here."""
    bundle = copy_bundle(trained=True)
    stock = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text())["postprocessing"]["transforms"][-2]
    assert stock["_target_"].endswith("KeepLargestConnectedComponentd")
    # Two of the phantom side by side, one cut smaller, so that each label is in pieces.
    images = tmp_path / "data" / "imagesTs"
    images.mkdir(parents=True)
    for case in ("case_10", "case_11"):
        image = nibabel.load(cohort / "imagesTs" / f"{case}.nii.gz")
        array = np.asarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.concatenate([array, array[:-6]]), image.affine), images / f"{case}.nii.gz")
    command = [
        sys.executable, "-m", "monai.bundle", "run",
        "--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml",
        "--dataset_dir", str(images.parent), "--output_dir", str(tmp_path / "theirs"),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=bundle, capture_output=True, text=True, timeout=300, check=False, env=uncounted()
    )
    assert done.returncode == 0, done.stderr
    # MONAI's runner computes in float32.
    predict(bundle, images, tmp_path / "ours", PredictOptions(precision="float32"))
    predict(bundle, images, tmp_path / "raw", PredictOptions(precision="float32", raw=True))
    tidied = 0
    for case in ("case_10", "case_11"):
        theirs = nibabel.load(tmp_path / "theirs" / f"{case}.nii.gz")
        ours = nibabel.load(tmp_path / "ours" / f"{case}.nii.gz")
        np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
        assert set(np.unique(ours.dataobj)) == {0, 1, 2}
        tidied += int(np.sum(np.asarray(ours.dataobj) != voxels(tmp_path / "raw" / f"{case}.nii.gz")))
    assert tidied > 0  # the rule had something to do
    assert not (bundle / "eval").exists()
