"""Regions and an ignore label from the data set to the scores, with masks that are mostly not drawn."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser

import volseg
from tests.nifti import save, voxels
from volseg.bundle.folder import open_bundle
from volseg.bundle.trust import judge
from volseg.errors import BundleError
from volseg.verbs.plan import PlanOptions, plan
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.train import TrainOptions, train

if TYPE_CHECKING:
    from pathlib import Path

LISTED = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
    "regions_class_order": [1, 2],
    "file_ending": ".nii.gz",
}


@pytest.fixture
def sparse(cohort: Path, tmp_path: Path) -> Path:
    """The cohort in nnU-Net's layout; of three cases little more than every tenth voxel is judged, as by scribbles."""
    root = tmp_path / "sparse"
    random = np.random.default_rng(5)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
        for path in sorted((cohort / folder).iterdir()):
            name = path.name.replace(".nii", "_0000.nii") if folder != "labelsTr" else path.name
            if folder == "labelsTr" and path.name[5:7] in ("01", "04", "06"):
                image = nibabel.load(path)
                mask = np.asarray(image.dataobj).copy()
                mask[random.random(mask.shape) < 0.9] = 3
                save(root / folder / name, mask, image.affine)
            else:
                shutil.copy(path, root / folder / name)
    (root / "dataset.json").write_text(json.dumps(LISTED))
    return root


def test_regions_are_planned_trained_and_predicted(sparse: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    found = plan(sparse, bundle)
    assert [region.value for region in found.target.regions] == [1, 2]
    assert found.target.ignore == 3
    assert judge(open_bundle(bundle)).findings == ()
    config = bundle / "configs" / "train.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"steps_per_epoch": 4, "batch_size": 2, "learning_rate": 0.01}))
    (result,) = train(bundle, TrainOptions(data=sparse, epochs=6))
    best = max((row for row in result.history if row.validation), key=lambda row: row.validation.score)
    assert best.validation is not None
    assert best.validation.score == pytest.approx(np.mean(best.validation.per_label), abs=0.05)
    assert len(best.validation.per_label) == 2
    header, *_ = (bundle / "runs" / "fold_0" / "history.csv").read_text().splitlines()
    assert header.endswith("dice_whole,dice_core")
    assert "| whole |" in (bundle / "docs" / "README.md").read_text()

    # MONAI alone, from the same config, and each region by itself.
    predict(bundle, sparse / "imagesTs", tmp_path / "ours", PredictOptions(precision="float32"))
    predict(bundle, sparse / "imagesTs", tmp_path / "apart", PredictOptions(precision="float32", regions=True))
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser.read_meta(str(bundle / "configs" / "metadata.json"))
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(sparse)
    parser["output_dir"] = str(tmp_path / "theirs")
    parser["device"] = "cpu"
    parser.parse()
    parser.get_parsed_content("run")
    for case in ("case_10", "case_11"):
        ours = voxels(tmp_path / "ours" / f"{case}.nii.gz")
        (theirs,) = (tmp_path / "theirs").glob(f"{case}*.nii.gz")
        np.testing.assert_array_equal(ours, voxels(theirs))
        whole, core = (voxels(tmp_path / "apart" / name / f"{case}.nii.gz") for name in ("whole", "core"))
        np.testing.assert_array_equal(ours, np.where(core == 1, 2, whole))
    assert '"core"' in (tmp_path / "ours" / "labels.txt").read_text()

    # Scores leave out what nobody judged, by the regions that the data set names.
    predict(bundle, sparse / "imagesTr", tmp_path / "own", PredictOptions(precision="float32"))
    scored = volseg.evaluate(tmp_path / "own", sparse)
    assert scored.labels.names == ("whole", "core")
    assert any("ignore label" in warning for warning in scored.warnings)
    for case in scored.cases:
        p, r = voxels(tmp_path / "own" / f"{case.case}.nii.gz"), voxels(sparse / "labelsTr" / f"{case.case}.nii.gz")
        for score, labels in zip(case.scores, ([1, 2], [2]), strict=True):
            one, other = np.isin(p, labels) & (r != 3), np.isin(r, labels)
            assert score.dice == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), nan_ok=True)

    # What the bundle was not planned for.
    (sparse / "dataset.json").write_text(json.dumps(LISTED | {"labels": LISTED["labels"] | {"ignore": 4}}))  # type: ignore[operator]
    for path in (sparse / "labelsTr").iterdir():
        image = nibabel.load(path)
        mask = np.asarray(image.dataobj)
        save(path, np.where(mask == 3, 4, mask).astype(np.uint8), image.affine)
    with pytest.raises(BundleError, match="ignore label 4"):
        train(bundle, TrainOptions(data=sparse, epochs=7))


def test_regions_by_the_command_line_of_a_data_set_that_names_labels(cohort: Path, tmp_path: Path) -> None:
    found = plan(cohort, tmp_path / "bundle", PlanOptions(regions="both=shell,core; core=core"))
    table = open_bundle(tmp_path / "bundle").labels
    assert [(region.name, region.value) for region in found.target.regions] == [("both", 1), ("core", 2)]
    assert table.indices == (1, 2)


def test_a_prediction_of_the_ignore_label_is_refused(sparse: Path, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    shutil.copy(sparse / "labelsTr" / "case_01.nii.gz", tmp_path / "same")
    found = volseg.evaluate(tmp_path / "same", sparse)
    assert [outcome.code for outcome in found.ledger.outcomes if outcome.case == "case_01"] == ["ignore-predicted"]
