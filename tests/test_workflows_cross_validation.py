"""Cross-validation from end to end: two folds side by side, their scores, the rules, the ensemble, MONAI's own runner."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser

import volseg
from tests.conftest import _edit_config, adopted
from tests.heard import Heard
from tests.nifti import voxels
from volseg.bundle.ensemble import member_path
from volseg.bundle.faults import find_faults
from volseg.bundle.folder import Bundle
from volseg.bundle.model_digest import MODEL
from volseg.cli.main import main
from volseg.errors import BundleError
from volseg.outcomes import Ledger, Status
from volseg.postprocessing import PostprocessingRules
from volseg.training.cross_validation import CrossValidation
from volseg.verbs.evaluate import evaluate
from volseg.verbs.plan import PlanOptions, plan
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.train import TrainOptions
from volseg.workflows.training import train_and_validate

if TYPE_CHECKING:
    from pathlib import Path


def options(cohort: Path, **more: object) -> TrainOptions:
    return TrainOptions(cv=True, data=cohort, folds=cohort.parent / "two.csv", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(cohort: Path, planned_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    """A bundle whose two folds were trained side by side for a dozen steps; copy it before anything is written."""
    bundle = tmp_path_factory.mktemp("cv") / "bundle"
    shutil.copytree(planned_bundle, bundle)
    _edit_config(bundle / "configs" / "train.yaml", learning_rate=0.01)
    rows = "".join(f"case_{case:02d},{case % 2}\n" for case in range(10))
    (cohort.parent / "two.csv").write_text(f"case,fold\n{rows}")
    heard = Heard()
    found = train_and_validate(bundle, options(cohort, epochs=5, at_once=2), heard)
    assert all(fold.complete for fold in found.folds)
    return bundle, heard


@pytest.fixture
def bundle(trained: tuple[Path, Heard], tmp_path: Path) -> Path:
    return adopted(shutil.copytree(trained[0], tmp_path / "bundle"))


def test_folds_side_by_side_are_told_apart_and_the_first_is_the_model(trained: tuple[Path, Heard]) -> None:
    bundle, heard = trained
    assert any(line.startswith("2 folds side by side, ") for line in heard.lines)
    assert json.loads((bundle / "models" / "published.json").read_text())["run"] == "fold_0"
    assert {path.name for path in (bundle / "models" / "folds").iterdir()} == {
        "ensemble.json",
        "fold_0.pt",
        "fold_1.pt",
    }
    assert (bundle / "runs" / "cross_validation.png").read_bytes().startswith(b"\x89PNG")


def test_each_case_is_scored_as_predict_and_evaluate_score_it(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    found = CrossValidation.read(bundle / "runs")
    assert found is not None
    assert sorted(case.case for case in found.cases) == [f"case_{case:02d}" for case in range(10)]
    for fold in range(2):
        predict(bundle, cohort, tmp_path / f"{fold}", PredictOptions(fold=fold))
        scored = {case.case: case for case in evaluate(tmp_path / f"{fold}", cohort).cases}
        ours = {case.case: case for case in found.cases if case.fold == fold}
        assert scored.keys() == ours.keys()
        for name, case in ours.items():
            assert case.dice == tuple(score.dice for score in scored[name].scores)
            assert case.hd95_mm == tuple(score.hd95_mm for score in scored[name].scores)
    dice = [[value for case in found.cases if (value := case.dice[place]) is not None] for place in range(2)]
    assert found.dice(0).mean == pytest.approx(np.mean(dice[0]))
    assert found.dice(1).standard_deviation == pytest.approx(np.std(dice[1], ddof=1))
    assert found.mean() == pytest.approx((np.mean(dice[0]) + np.mean(dice[1])) / 2)


def test_the_rules_lie_where_inference_takes_them_with_the_gain_of_each(bundle: Path) -> None:
    found = CrossValidation.read(bundle / "runs")
    assert found is not None
    assert found.rules
    config = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text())
    steps = config["postprocessing"]["transforms"][:-1]
    rules = PostprocessingRules.from_transforms(steps, (1, 2))[1]
    rules += PostprocessingRules.from_config(config["volseg_postprocessing"])
    assert tuple(rules.to_config()) == found.bundle_rules
    readme = (bundle / "docs" / "README.md").read_text()
    for rule in found.rules:
        assert f"| {rule.rule} | {rule.before:.4f} | {rule.after:.4f} | {rule.gain:+.4f} |" in readme
    for rule in rules.rules:
        assert rule.words(Bundle(bundle).labels) in readme.partition("<!--")[0]  # under Masks
    assert find_faults(Bundle(bundle)) == ()


def test_a_second_call_does_nothing(bundle: Path, cohort: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*") if path.is_file()}
    heard = Heard()
    again = train_and_validate(bundle, options(cohort), heard)
    assert again.cross_validation == CrossValidation.read(bundle / "runs")
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*") if path.is_file()} == before


def test_rules_of_a_person_stay(bundle: Path, cohort: Path) -> None:
    path = bundle / "configs" / "inference.yaml"
    own = "volseg_postprocessing:\n- rule: remove_small\n  labels: all\n  connectivity: 26\n  minimum_mm3: 5.0\n"
    text = path.read_text()
    path.write_text(text[: text.index("volseg_postprocessing:")] + own)
    written, heard = path.read_text(), Heard()
    (fault,) = find_faults(Bundle(bundle))
    assert fault.code == "ensemble"  # the config of the folds is of the rules of before
    found = train_and_validate(bundle, options(cohort), heard).cross_validation
    assert found is not None
    assert path.read_text() == written
    assert any("has rules of your own, so it stays as it is" in line for line in heard.lines)
    assert found.bundle_rules[-1]["minimum_mm3"] == 5
    assert not any(rule.kept for rule in found.rules)
    assert find_faults(Bundle(bundle)) == ()


def test_the_ensemble_gives_the_mask_of_monais_own_runner(
    bundle: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(bundle, cohort, tmp_path / "ours", PredictOptions(folds="all", precision="float32"))
    files = {"meta_file": "configs/metadata.json", "config_file": "configs/inference_folds.yaml"}
    with monkeypatch.context() as inside, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own
        inside.chdir(bundle)
        monai.bundle.run(**files, dataset_dir=str(cohort), output_dir=str(tmp_path / "theirs"))
    one = tmp_path / "one"
    predict(bundle, cohort, one, PredictOptions(fold=None, precision="float32"))
    names = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    assert names == ["case_10.nii.gz", "case_11.nii.gz"]
    differing = 0
    for name in names:
        ours = voxels(tmp_path / "ours" / name)
        assert np.array_equal(ours, voxels(tmp_path / "theirs" / name))
        differing += int((ours != voxels(one / name)).sum())
    assert differing  # it is no single model's


def test_an_ensemble_that_changed_hands_predicts_nothing(
    bundle: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(member_path(Bundle(bundle), 1), member_path(Bundle(bundle), 0))
    assert main(["predict", str(bundle), str(cohort), str(tmp_path / "masks"), "--folds", "all"]) == 2
    assert "is not the file that the ensemble was made with" in capsys.readouterr().err
    assert main(["predict", str(bundle), str(cohort), str(tmp_path / "masks"), "--folds", "1", "--fold", "1"]) == 2
    assert "--fold names the model of one fold and --folds several" in capsys.readouterr().err
    assert main(["check", str(bundle)]) == 1
    weights = torch.load(bundle / "runs" / "fold_1" / "best.pt", weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in weights.items()}, bundle / "runs" / "fold_1" / "best.pt")
    assert main(["predict", str(bundle), str(cohort), str(tmp_path / "masks"), "--folds", "1"]) == 0
    assert "warning: fold 1 was trained on since the ensemble was made" in capsys.readouterr().err


def test_folds_of_another_network_or_preprocessing_are_no_ensemble(bundle: Path, cohort: Path) -> None:
    record = bundle / "runs" / "fold_1" / "training.json"
    content = json.loads(record.read_text())
    content["sessions"][-1]["checksums"][MODEL] = "0" * 64
    record.write_text(json.dumps(content))
    found = train_and_validate(bundle, options(cohort))
    assert all(fold.complete for fold in found.folds)
    with pytest.raises(BundleError, match=r"fold_1 of .* had another network or preprocessing"):
        volseg.train(bundle, options=options(cohort))


def test_data_that_only_the_config_names_are_not_read(bundle: Path, cohort: Path) -> None:
    _edit_config(bundle / "configs" / "train.yaml", dataset_dir=str(cohort))
    (bundle / "runs" / "cross_validation.json").unlink()
    before = set(bundle.rglob("*"))
    error = train_and_validate(bundle, TrainOptions(cv=True)).error
    assert error is not None
    assert "did not plan it there for that" in str(error)
    assert set(bundle.rglob("*")) == before


def test_another_data_set_with_the_same_names_is_told(
    bundle: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cases may be those that trained the fold that is scored by them."""
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "other" / part).mkdir(parents=True)
        for case in range(10):
            name = f"case_{(case + 1) % 10:02d}.nii.gz"
            shutil.copyfile(cohort / part / f"case_{case:02d}.nii.gz", tmp_path / "other" / part / name)
    shutil.copyfile(cohort / "dataset.json", tmp_path / "other" / "dataset.json")
    (bundle / "runs" / "cross_validation.json").unlink()

    def stop(*_: object) -> None:
        raise BundleError("far enough")

    monkeypatch.setattr("volseg.workflows.cross_validation._Work.predict", stop)
    heard = Heard()
    found = train_and_validate(bundle, TrainOptions(cv=True, data=tmp_path / "other", epochs=4), heard)
    assert str(found.error) == "far enough"
    assert sum("10 cases changed after fold_" in line for line in heard.lines) == 2


def test_folds_of_regions_are_scored_and_predict_together(cohort: Path, tmp_path: Path) -> None:
    few, bundle = tmp_path / "few", tmp_path / "bundle"
    for relative in (
        "imagesTr/case_00",
        "imagesTr/case_01",
        "labelsTr/case_00",
        "labelsTr/case_01",
        "imagesTs/case_11",
    ):
        (few / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cohort / f"{relative}.nii.gz", few / f"{relative}.nii.gz")
    shutil.copy(cohort / "dataset.json", few)
    plan(few, bundle, PlanOptions(regions="both=shell,core; core=core"))
    _edit_config(bundle / "configs" / "train.yaml", steps_per_epoch=3, batch_size=2, learning_rate=0.02)
    (tmp_path / "two.csv").write_text("case,fold\ncase_00,0\ncase_01,1\n")
    asked = TrainOptions(cv=True, data=few, folds=tmp_path / "two.csv", epochs=1, at_once=1)
    found = train_and_validate(bundle, asked, Heard()).cross_validation
    assert found is not None
    assert found.labels == ("both", "core")
    assert {fault.code for fault in find_faults(Bundle(bundle))} == {"trial"}

    # Dice of each region by definition, of the held-out masks.
    fold = {case.case: case for case in found.cases if case.fold == 1}["case_01"]
    for place, (name, labels) in enumerate({"both": [1, 2], "core": [2]}.items()):
        p = voxels(bundle / "runs" / "fold_1" / "held_out" / name / "case_01.nii.gz") == 1
        r = np.isin(voxels(few / "labelsTr" / "case_01.nii.gz"), labels)
        assert fold.dice[place] == pytest.approx(2 * (p & r).sum() / (p.sum() + r.sum()))

    predict(bundle, few / "imagesTs", tmp_path / "ours", PredictOptions(folds="all", precision="float32"))
    predict(
        bundle, few / "imagesTs", tmp_path / "apart", PredictOptions(folds="all", precision="float32", regions=True)
    )
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference_folds.yaml"))
    parser.read_meta(str(bundle / "configs" / "metadata.json"))
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(few)
    parser["output_dir"], parser["device"] = str(tmp_path / "theirs"), "cpu"
    parser.parse()
    parser.get_parsed_content("run")
    ours = voxels(tmp_path / "ours" / "case_11.nii.gz")
    assert np.array_equal(ours, voxels(tmp_path / "theirs" / "case_11.nii.gz"))
    both, core = (voxels(tmp_path / "apart" / region / "case_11.nii.gz") for region in ("both", "core"))
    assert np.array_equal(ours, np.where(core == 1, 2, both))
    assert ours.any()


def test_rules_stay_where_a_person_asks_for_it_or_has_written_into_the_config(bundle: Path, cohort: Path) -> None:
    path = bundle / "configs" / "inference.yaml"
    before, tried = path.read_text(), CrossValidation.read(bundle / "runs")
    assert tried is not None
    heard = Heard()
    kept = train_and_validate(bundle, options(cohort, keep_rules=True), heard).cross_validation
    assert kept is not None
    assert path.read_text() == before
    assert not any(rule.kept for rule in kept.rules)
    (bundle / "runs" / "cross_validation.json").unlink()
    path.write_text(
        before[: before.index("volseg_postprocessing:")] + "# a person was here\nvolseg_postprocessing: []\n"
    )
    written = path.read_text()
    found = train_and_validate(bundle, options(cohort), heard).cross_validation
    assert found is not None
    assert path.read_text() == written
    assert not any(rule.kept for rule in found.rules)


def test_a_held_out_mask_that_somebody_edited_is_made_anew(bundle: Path, cohort: Path) -> None:
    mask = bundle / "runs" / "fold_0" / "held_out" / "case_00.nii.gz"
    before, image = voxels(mask), nibabel.load(mask)
    nibabel.save(nibabel.Nifti1Image(np.ones_like(before), image.affine, image.header), mask)
    (bundle / "runs" / "cross_validation.json").unlink()
    assert train_and_validate(bundle, options(cohort)).cross_validation is not None
    assert np.array_equal(voxels(mask), before)


def test_a_held_out_case_that_can_not_be_predicted_ends_it(
    bundle: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object) -> Ledger:
        ledger = predict(*args)  # type: ignore[arg-type]
        first, *rest = ledger.outcomes
        return replace(ledger, outcomes=(replace(first, status=Status.FAILED, message="No room."), *rest))

    (bundle / "runs" / "cross_validation.json").unlink()
    monkeypatch.setattr("volseg.workflows.cross_validation.predict", failing)
    error = train_and_validate(bundle, options(cohort)).error
    assert "fold_0: 1 of the cases that it held out can't be predicted, case_00 for one: No room." in str(error)
