"""Training through the Python function: what it leaves, goes on from, refuses; bundles of ours and of others."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import uncounted
from tests.heard import Heard
from tests.zoo import write_zoo_bundle
from volseg.errors import BundleError, DataSetError, TrustError, UsageError
from volseg.training import PreparedDataset
from volseg.training.autocast import AutocastInferer
from volseg.training.record import RunRecord
from volseg.verbs.plan import PlanOptions, plan
from volseg.verbs.train import TrainOptions, train
from volseg.verbs.trust import trust

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle, MakeDataset, WriteSeries


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Raises an error inside the step of that number, counted from now."""
    whole = AutocastInferer.__call__

    def at(step: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        passes = 0

        def stopped(self: AutocastInferer, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal passes
            if network.training:
                passes += 1
                if passes == step:
                    raise error
            return whole(self, inputs, network, *args, **kwargs)

        monkeypatch.setattr(AutocastInferer, "__call__", stopped)

    return at


def rows_of(bundle: Path, run: str = "fold_0") -> list[dict[str, str]]:
    with (bundle / "runs" / run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    assert isinstance(content, dict)
    return content


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_fold_is_learned_and_published(trained_bundle: Path) -> None:
    run = trained_bundle / "runs" / "fold_0"
    assert {path.name for path in run.iterdir()} - {"previous.pt"} == {
        "best.pt", "curve.png", "final.pt", "history.csv", "last.pt", "training.json",
    }  # fmt: skip
    rows = rows_of(trained_bundle)
    assert [int(row["step"]) for row in rows] == [4 * epoch for epoch in range(1, 13)]
    scores = [float(row["validation"]) for row in rows if row["validation"]]
    assert max(scores) > 0.8
    best = max((row for row in rows if row["validation"]), key=lambda row: float(row["validation"]))
    assert float(best["validation"]) == pytest.approx(
        (float(best["dice_shell"]) + float(best["dice_core"])) / 2, abs=2e-3
    )
    assert float(rows[-1]["learning_rate"]) < 0.01 * 0.05
    cases = RunRecord.read(run / "training.json").cases
    assert (len(cases.training), len(cases.validation)) == (8, 2)
    assert equal(weights_of(run / "best.pt"), weights_of(trained_bundle / "models" / "model.pt"))


def test_a_complete_run_does_nothing_even_without_its_data(copy_bundle: CopyBundle, tmp_path: Path) -> None:
    bundle = copy_bundle(trained=True, dataset_dir=str(tmp_path / "gone"))
    before = files_of(bundle)
    for options in (TrainOptions(), TrainOptions(epochs=12), TrainOptions(epochs=5), TrainOptions(minutes=0.001)):
        (result,) = train(bundle, options)
        assert result.already
        assert result.complete
        assert (result.training, result.validation) == (8, 2)
        assert result.best is not None
    assert files_of(bundle) == before


def test_minutes_are_a_total_over_resumed_runs(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle()
    (first,) = train(bundle, TrainOptions(minutes=0.05))
    assert first.complete
    again = Heard()
    assert train(bundle, TrainOptions(minutes=0.05), again)[0].already
    minutes = first.history[-1].minutes + 0.1
    (second,) = train(bundle, TrainOptions(minutes=minutes), again)
    assert second.complete
    assert not second.already
    assert any(line.startswith("Going on after 0.") for line in again.lines)
    steps = [row.step for row in second.history]
    assert steps == sorted(steps)
    assert steps[-1] > first.history[-1].step
    assert second.history[: len(first.history)] == first.history
    # Stopped in time, up to a step and a validation on a busy machine.
    assert second.history[-1].minutes < minutes + 0.25
    for result, before in ((first, 0), (second, first.history[-1].step)):
        # The last step begins with its share of the time left: on a busy machine one of few, so not near to 0.
        made = result.history[-1].step - before
        assert result.history[-1].learning_rate < 2 * 2e-3 / made + 2e-4
        assert result.history[-1].validation is not None


def test_an_interrupted_run_goes_on_where_it_stopped(copy_bundle: CopyBundle, interrupt_at: Any) -> None:
    bundle = copy_bundle()
    interrupt_at(6)
    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        train(bundle, TrainOptions(epochs=3, fresh=True), heard)
    assert heard.lines[-2:] == [
        "Stopped after 5 steps; the same command goes on from there.",
        "Leave --fresh out then: it starts over again.",
    ]
    last = weights_of(bundle / "runs" / "fold_0" / "last.pt")
    assert last["step"] == 5
    assert not last["complete"]
    interrupt_at(-1)
    with (bundle / "configs" / "train.yaml").open("a") as file:
        file.write("# a person was here\n")
    again = Heard()
    (result,) = train(bundle, progress=again)  # its length is the one that it was begun with
    assert any(line.startswith("warning: the train config was changed since") for line in again.lines)
    assert result.complete
    assert result.history[-1].step == 12
    assert [row.step for row in result.history] == [4, 8, 12]
    assert weights_of(bundle / "runs" / "fold_0" / "last.pt")["complete"]


def test_a_damaged_checkpoint_is_said_and_the_one_before_it_gone_on_from(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle(trained=True)
    run = bundle / "runs" / "fold_0"
    content = (run / "last.pt").read_bytes()
    (run / "previous.pt").write_bytes(content)
    (run / "last.pt").write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    heard = Heard()
    (result,) = train(bundle, TrainOptions(epochs=13), heard)
    assert [row.step for row in result.history][-2:] == [48, 52]
    (line,) = [line for line in heard.lines if "is damaged" in line]
    assert "The checkpoint before it is whole" in line
    for name in ("last.pt", "previous.pt"):
        (run / name).write_bytes(b"")
    with pytest.raises(BundleError, match="--fresh"):
        train(bundle, TrainOptions(epochs=14))


def test_a_run_that_goes_on_reads_no_source(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from monai.transforms import LoadImaged

    monkeypatch.setenv("VOLSEG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("volseg.stamps.RACY_SECONDS", -1.0)
    bundle = copy_bundle(steps_per_epoch=1)
    train(bundle, TrainOptions(epochs=1))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a source was read")

    monkeypatch.setattr("volseg.stamps.file_digest", refuse)
    monkeypatch.setattr(LoadImaged, "__call__", refuse)
    (result,) = train(bundle, TrainOptions(epochs=2))
    assert result.history[-1].step == 2


def test_a_fresh_start_forgets_the_run(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle(trained=True)
    before = weights_of(bundle / "models" / "model.pt")
    (result,) = train(bundle, TrainOptions(fresh=True, epochs=1))
    assert [row.step for row in result.history] == [4]
    assert not equal(before, weights_of(bundle / "models" / "model.pt"))


def test_a_fresh_start_that_can_t_begin_forgets_nothing(copy_bundle: CopyBundle, tmp_path: Path) -> None:
    bundle = copy_bundle(trained=True, dataset_dir=str(tmp_path / "gone"))
    before = files_of(bundle)
    with pytest.raises(UsageError, match=r"does not exist\. Name it with --data"):
        train(bundle, TrainOptions(fresh=True))
    assert files_of(bundle) == before


def test_more_epochs_go_on_from_a_complete_run(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle()
    train(bundle, TrainOptions(epochs=1))
    (result,) = train(bundle, TrainOptions(epochs=2))
    assert [row.step for row in result.history] == [4, 8]


def test_the_same_seed_gives_the_same_weights(copy_bundle: CopyBundle) -> None:
    final = []
    for name, seed, threads in (("a", 1, 0), ("b", 1, 2), ("c", 2, 0)):
        bundle = copy_bundle(name, num_workers=threads)
        train(bundle, TrainOptions(epochs=1, seed=seed))
        final.append(weights_of(bundle / "runs" / "fold_0" / "final.pt"))
    assert equal(final[0], final[1])
    assert not equal(final[0], final[2])


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    copy_bundle: CopyBundle, interrupt_at: Any
) -> None:
    final = []
    for name, stops in (("whole", ()), ("parts", (2, 1, 3))):
        bundle = copy_bundle(name, steps_per_epoch=3)
        for stop in stops:
            interrupt_at(stop)
            with pytest.raises(KeyboardInterrupt):
                train(bundle, TrainOptions(epochs=2, seed=5))
        interrupt_at(-1)
        train(bundle, TrainOptions(epochs=2, seed=5 if not stops else 0))  # its seed is the one that it was begun with
        final.append(weights_of(bundle / "runs" / "fold_0" / "final.pt"))
    assert equal(*final)


def test_cross_validation_trains_every_fold_and_prepares_each_case_once(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOLSEG_CACHE_DIR", str(tmp_path / "cache"))
    made = []
    whole = PreparedDataset._make

    def counted(self: PreparedDataset, index: int) -> Any:
        made.append((len(self.transform.transforms), self.name(index)))
        return whole(self, index)

    monkeypatch.setattr(PreparedDataset, "_make", counted)
    bundle = copy_bundle(steps_per_epoch=1)
    heard = Heard()
    results = train(bundle, TrainOptions(cv=True, epochs=1, at_once=1), heard)
    assert [result.name for result in results] == [f"fold_{fold}" for fold in range(5)]
    assert len(made) == len(set(made)) == 20  # each for training and for validation
    held_out = [
        RunRecord.read(bundle / "runs" / f"fold_{fold}" / "training.json").cases.validation for fold in range(5)
    ]
    assert sorted(name for names in held_out for name in names) == [f"case_{case:02d}" for case in range(10)]
    assert [line for line in heard.lines if line.startswith("Fold")] == [
        f"Fold {fold} ({fold + 1} of 5 to train)" for fold in range(5)
    ]
    first = weights_of(bundle / "runs" / "fold_0" / "best.pt")
    assert equal(first, weights_of(bundle / "models" / "model.pt"))
    before = files_of(bundle)
    assert all(result.already for result in train(bundle, TrainOptions(cv=True)))
    assert files_of(bundle) == before


def test_all_cases_hold_out_none(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle(steps_per_epoch=2)
    (result,) = train(bundle, TrainOptions(all_cases=True, epochs=1))
    assert (result.name, result.training, result.validation) == ("all_cases", 10, 0)
    assert result.best is None
    assert rows_of(bundle, "all_cases")[-1]["validation"] == ""
    final = weights_of(bundle / "runs" / "all_cases" / "final.pt")
    assert equal(final, weights_of(bundle / "models" / "model.pt"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TrainOptions(cv=True, all_cases=True), "Choose one of them"),
        (TrainOptions(cv=True, fold=0), "--cv trains every fold"),
        (TrainOptions(at_once=2), "--at-once is for --cv"),
        (TrainOptions(cv=True, at_once=-1), "at least 1"),
        (TrainOptions(all_cases=True, fold=2), "--all-cases holds out none"),
        (TrainOptions(minutes=1, epochs=1), "Choose one of them"),
        (TrainOptions(minutes=0), "above 0"),
        (TrainOptions(minutes=math.nan), "above 0"),
        (TrainOptions(minutes=math.inf), "above 0"),
        (TrainOptions(epochs=0), "at least 1"),
        (TrainOptions(all_cases=True, folds="folds.json"), "Choose one of them"),
        (TrainOptions(cv=True, publish=True), "Name one with --fold"),
        (TrainOptions(keep_rules=True), "--keep-rules is for --cv"),
        (TrainOptions(seed=-1), "--seed must be from 0"),
        (TrainOptions(patience=0), "--patience must be at least 1"),
        (TrainOptions(patience=2, all_cases=True), "--patience looks at validations"),
        (TrainOptions(memory_for_data="much"), "--memory-for-data"),
        (TrainOptions(taken_rate=2.0), "--taken-rate must be above 0"),
        (TrainOptions(freeze="decoder"), "--freeze takes encoder"),
        (TrainOptions(track="paper"), "--track takes tensorboard"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: TrainOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        train(tmp_path / "bundle", options)


@pytest.mark.parametrize("fold", [5, -1])
def test_there_is_no_such_fold(planned_bundle: Path, fold: int) -> None:
    with pytest.raises(UsageError, match=f"no fold {fold}: the folds are 0 to 4"):
        train(planned_bundle, TrainOptions(fold=fold))


def test_another_place_of_the_data_may_be_named(copy_bundle: CopyBundle, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "an#other pl@ce")
    bundle = copy_bundle(steps_per_epoch=1, dataset_dir="gone")
    (result,) = train(bundle, TrainOptions(data=tmp_path / "an#other pl@ce", epochs=1))
    assert result.complete


def test_a_folder_without_a_data_set_is_told(copy_bundle: CopyBundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no data set"):
        train(copy_bundle(), TrainOptions(data=tmp_path))


def test_faults_are_refused_all_at_once(copy_bundle: CopyBundle, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "data")
    (tmp_path / "data" / "labelsTr" / "case_01.nii.gz").unlink()
    (tmp_path / "data" / "imagesTr" / "case_02.nii.gz").write_bytes(b"")
    with pytest.raises(DataSetError, match="has 2 faults") as caught:
        train(copy_bundle(dataset_dir=str(tmp_path / "data")))
    assert "case_01" in caught.value.message
    assert "case_02" in caught.value.message


def test_a_run_keeps_to_its_cases(copy_bundle: CopyBundle, cohort: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    bundle = copy_bundle(steps_per_epoch=1, dataset_dir=str(data))
    train(bundle, TrainOptions(epochs=1))
    before = RunRecord.read(bundle / "runs" / "fold_0" / "training.json").cases
    for folder in ("imagesTr", "labelsTr"):
        shutil.copy(cohort / folder / "case_00.nii.gz", data / folder / "new.nii.gz")
    image = data / "imagesTr" / "new.nii.gz"
    _shift(image)
    heard = Heard()
    (result,) = train(bundle, TrainOptions(epochs=2), heard)
    assert (result.training, result.validation) == (8, 2)
    assert any(line.startswith("1 case came to the data set after it was split: no fold") for line in heard.lines)
    assert RunRecord.read(bundle / "runs" / "fold_0" / "training.json").cases == before
    for folder in ("imagesTr", "labelsTr"):
        (data / folder / "case_04.nii.gz").unlink()
    with pytest.raises(DataSetError, match=r"no longer has 1 of the cases .* such as case_04"):
        train(bundle, TrainOptions(epochs=3))
    heard = Heard()
    (result,) = train(bundle, TrainOptions(epochs=1, fresh=True), heard)
    assert result.training + result.validation == 9  # the split stays
    assert any(line.startswith("1 case came out of the data set after it was split") for line in heard.lines)


def test_a_run_that_never_made_a_step_takes_the_cases_that_are_there(
    copy_bundle: CopyBundle, cohort: Path, tmp_path: Path, interrupt_at: Any
) -> None:
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    bundle = copy_bundle(steps_per_epoch=1, dataset_dir=str(data))
    interrupt_at(1, RuntimeError)
    with pytest.raises(RuntimeError):
        train(bundle, TrainOptions(epochs=1))
    for folder in ("imagesTr", "labelsTr"):
        (data / folder / "case_04.nii.gz").unlink()
    interrupt_at(-1)
    (result,) = train(bundle, TrainOptions(epochs=1))
    assert result.training + result.validation == 9


def _shift(path: Path) -> None:
    import nibabel

    image = nibabel.load(path)
    values = np.asarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Image(values + 1, image.affine, image.header), path)


def test_structures_that_were_added_since_need_a_new_plan(
    copy_bundle: CopyBundle, cohort: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    listing = json.loads((data / "dataset.json").read_text())
    listing["labels"]["vessel"] = 3
    (data / "dataset.json").write_text(json.dumps(listing))
    with pytest.raises(BundleError, match=r"was not planned for: 3 \(vessel\). Plan a new bundle") as caught:
        train(copy_bundle(dataset_dir=str(data)))
    assert caught.value.code == "labels-differ"


def test_other_channels_need_a_new_plan(copy_bundle: CopyBundle, make_dataset: MakeDataset) -> None:
    data = make_dataset(6, channels=2)
    with pytest.raises(BundleError, match=r"have 2 channels, and .* was planned for 1") as caught:
        train(copy_bundle(), TrainOptions(data=data))
    assert caught.value.code == "channels"


def test_channels_gaps_in_labels_and_crops_go_through(make_dataset: MakeDataset, tmp_path: Path) -> None:
    import nibabel

    data = make_dataset(6, channels=2)
    for path in (data / "labelsTr").iterdir():
        image = nibabel.load(path)
        values = np.array([0, 3, 700], np.uint16)[np.asarray(image.dataobj).astype(int)]
        nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    for path in data.glob("*/case_5*"):  # far larger than the patch
        image = nibabel.load(path)
        values = np.pad(np.asarray(image.dataobj), ((0, 0), (0, 0), (0, 40)))
        nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    chosen = plan(data, tmp_path / "bundle")
    assert not chosen.whole_volumes
    config = tmp_path / "bundle" / "configs" / "train.yaml"
    config.write_text(config.read_text().replace("steps_per_epoch: 50", "steps_per_epoch: 2"))
    (result,) = train(tmp_path / "bundle", TrainOptions(epochs=2))
    assert result.labels == ("label_3", "label_700")
    assert result.best is not None
    assert len(result.best.validation.per_label) == 2  # type: ignore[union-attr]


def test_heads_of_deep_supervision_are_trained_and_left_out_of_the_model(cohort: Path, tmp_path: Path) -> None:
    plan(cohort, tmp_path / "bundle", PlanOptions(preset="full"))
    path = tmp_path / "bundle" / "configs" / "train.yaml"
    config = yaml.safe_load(path.read_text())
    config |= {"steps_per_epoch": 1, "batch_size": 2}
    config["network_def"]["filters"] = [4, 8, 16]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(BundleError, match="doesn't fit the network of the inference config") as caught:
        train(tmp_path / "bundle", TrainOptions(epochs=1))  # told before, not after the training
    assert caught.value.code == "networks-differ"
    assert not (tmp_path / "bundle" / "models" / "model.pt").exists()

    inference = tmp_path / "bundle" / "configs" / "inference.yaml"
    described = yaml.safe_load(inference.read_text())
    described["network_def"]["filters"] = [4, 8, 16]
    inference.write_text(yaml.safe_dump(described, sort_keys=False))
    (result,) = train(tmp_path / "bundle", TrainOptions(epochs=1))
    assert result.complete
    heads = (
        weights_of(result.folder / "best.pt").keys() - weights_of(tmp_path / "bundle" / "models" / "model.pt").keys()
    )
    assert heads
    assert all("head" in name for name in heads)


def test_a_batch_size_edited_by_hand_keeps_the_length_of_an_epoch(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle(batch_size=3, steps_per_epoch=2)
    (result,) = train(bundle, TrainOptions(epochs=2))
    assert [row.step for row in result.history] == [2, 4]


def test_no_thread_is_left_behind_when_a_case_can_t_be_prepared(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python aborts, with another exit code, when it ends while a thread computes in torch."""
    from monai.transforms import LoadImaged

    started = threading.Event()

    def slow(*_: object) -> None:
        if not started.is_set():
            started.set()
            time.sleep(0.1)
            raise ValueError("broken")
        time.sleep(0.7)
        raise ValueError("broken")

    monkeypatch.setattr(LoadImaged, "__call__", slow)
    before = set(threading.enumerate())
    with pytest.raises(BundleError, match="can't be built"):
        train(copy_bundle(), TrainOptions(epochs=1))
    assert set(threading.enumerate()) <= before


def test_a_damaged_checkpoint_is_told(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle(trained=True)
    path = bundle / "runs" / "fold_0" / "last.pt"
    path.write_bytes(path.read_bytes()[:1000])
    path.with_name("previous.pt").unlink(missing_ok=True)
    with pytest.raises(BundleError, match=r"last\.pt is damaged"):
        train(bundle)


class TestBundleOfAnotherMake:
    def test_it_runs_once_it_is_trusted_and_stays_trusted(self, cohort: Path, tmp_path: Path) -> None:
        bundle = write_zoo_bundle(tmp_path / "bundle", cohort)
        before = files_of(bundle)
        with pytest.raises(TrustError, match=r"scripts\.window\.Windowd"):
            train(bundle)
        assert files_of(bundle) == before
        trust(bundle)
        (result,) = train(bundle)
        assert result.complete
        assert [row.step for row in result.history] == [4, 8]
        assert all(row.validation is not None and len(row.validation.per_label) == 2 for row in result.history)
        assert [row.learning_rate for row in result.history] == pytest.approx([0.005, 0.0025])  # its own scheduler's
        assert (result.training, result.validation) == (8, 2)
        assert weights_of(bundle / "models" / "model.pt").keys() == weights_of(result.folder / "best.pt").keys()
        # It splits its data by itself, so nothing is noted of what it held out.
        assert not (result.folder / "training.json").exists()
        # Its own training revoked no trust; the scheduler goes on from where it was.
        (more,) = train(bundle, TrainOptions(epochs=3))
        assert more.history[-1].learning_rate == pytest.approx(0.00125)
        (bundle / "scripts" / "window.py").write_text((bundle / "scripts" / "window.py").read_text() + "\n")
        with pytest.raises(TrustError):
            train(bundle, TrainOptions(epochs=4))

    @pytest.mark.parametrize("options", [TrainOptions(cv=True), TrainOptions(all_cases=True), TrainOptions(fold=2)])
    def test_it_has_no_folds_that_could_be_chosen(self, cohort: Path, tmp_path: Path, options: TrainOptions) -> None:
        bundle = write_zoo_bundle(tmp_path / "bundle", cohort)
        trust(bundle)
        with pytest.raises(UsageError, match="splits its data in its own way"):
            train(bundle, options)

    def test_its_own_saver_does_not_replace_a_model_that_was_there(self, cohort: Path, tmp_path: Path) -> None:
        bundle = write_zoo_bundle(tmp_path / "bundle", cohort, epochs=1)
        trust(bundle)
        train(bundle)
        (bundle / "models" / "published.json").unlink()
        before = (bundle / "models" / "model.pt").read_bytes()
        trust(bundle)
        train(bundle, TrainOptions(fresh=True, seed=7))
        assert (bundle / "models" / "model.pt").read_bytes() == before
        train(bundle, TrainOptions(publish=True))
        assert (bundle / "models" / "model.pt").read_bytes() != before

    def test_its_data_may_be_elsewhere(self, cohort: Path, tmp_path: Path) -> None:
        bundle = write_zoo_bundle(tmp_path / "bundle", tmp_path / "gone", epochs=1)
        trust(bundle)
        with pytest.raises(UsageError, match=r"does not exist\. Name it with --data"):
            train(bundle)
        assert train(bundle, TrainOptions(data=cohort))[0].complete

    def test_a_data_set_that_is_named_is_split_and_the_config_s_own_list_never_read(
        self, cohort: Path, tmp_path: Path
    ) -> None:
        bundle = write_zoo_bundle(tmp_path / "bundle", tmp_path / "gone", epochs=1)
        path = bundle / "configs" / "train.json"
        config = json.loads(path.read_text())
        reads = f"$open({str(tmp_path / 'read')!r}, 'w').close() or [{{'image': 'gone', 'label': 'gone'}}]"
        for part, kind in (("train", "PersistentDataset"), ("validate", "PersistentDataset")):
            config[part]["dataset"] = {
                "_target_": kind, "data": reads, "transform": f"@{part}#preprocessing",
                "cache_dir": "$@bundle_root + '/cache'",
            }  # fmt: skip
        path.write_text(json.dumps(config))
        trust(bundle)
        (result,) = train(bundle, TrainOptions(data=cohort))
        assert result.complete
        assert not (tmp_path / "read").exists()
        assert not (bundle / "cache").exists()
        record = RunRecord.read(bundle / "runs" / "fold_0" / "training.json")
        assert (len(record.cases.training), len(record.cases.validation)) == (8, 2)
        assert (result.training, result.validation) == (8, 2)
        split = json.loads((bundle / "runs" / "folds.json").read_text())
        assert sorted(split[0]["val"]) == sorted(record.cases.validation)
        with pytest.raises(UsageError, match=r"begun with a data set\. Name it again with --data"):
            train(bundle, TrainOptions(epochs=2))
        assert train(bundle, TrainOptions(epochs=2, data=cohort))[0].complete


def test_masks_drawn_in_itk_snap_on_a_converted_folder_are_trained_on(
    write_series: WriteSeries, tmp_path: Path
) -> None:
    """Nobody edits JSON: a mask saved as labelsTr/CASE.nii.gz makes its image a case to learn from."""
    import SimpleITK as sitk

    from volseg.verbs.check import check
    from volseg.verbs.convert import ConvertOptions, convert

    random = np.random.default_rng(5)
    for seed in range(7):
        slices = random.integers(900, 1100, (10, 12, 14)).astype(np.uint16)
        slices[3:8, 3:9, 4:11] += 500
        positions = [(0.0, 0.0, 2.0 * number) for number in range(10)]
        write_series(tmp_path / "dicom" / str(seed), positions=positions, array=slices, seed=seed)
    data = tmp_path / "data"
    convert(tmp_path / "dicom", data, ConvertOptions(spacing=("native",)))
    images = sorted((data / "imagesTs").glob("*.nii.gz"))
    assert len(images) == 7
    (data / "labelsTr").mkdir()
    for path in images[:-1]:
        # As ITK-SNAP saves a segmentation: the image's geometry by ITK, 16-bit labels, compressed.
        image = sitk.ReadImage(str(path))
        drawn = (sitk.GetArrayFromImage(image) > 200).astype(np.uint16)
        mask = sitk.GetImageFromArray(drawn)
        mask.CopyInformation(image)
        sitk.WriteImage(mask, str(data / "labelsTr" / path.name), useCompression=True)

    report = check(data)
    assert report.errors == ()
    assert report.summary == "6 cases with a mask, 1 without"
    chosen = plan(data, tmp_path / "bundle")
    assert (chosen.training_cases, chosen.labels.indices, chosen.channels) == (6, (1,), ("CT",))
    config = tmp_path / "bundle" / "configs" / "train.yaml"
    config.write_text(config.read_text().replace("steps_per_epoch: 50", "steps_per_epoch: 1"))
    (result,) = train(tmp_path / "bundle", TrainOptions(epochs=1))
    assert result.complete
    assert result.training + result.validation == 6


def test_a_plain_script_without_a_main_guard_trains(copy_bundle: CopyBundle, tmp_path: Path) -> None:
    bundle = copy_bundle(steps_per_epoch=1)
    script = tmp_path / "script.py"
    script.write_text(
        f"import volseg\n(result,) = volseg.train({str(bundle)!r}, epochs=1)\nprint(result.history[-1].step)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env=uncounted(), capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_what_ends_a_thread_that_makes_batches_is_told(
    tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MONAI's loader in a thread would take it for the end of the data, and print a traceback."""
    from volseg.bundle.folder import Bundle
    from volseg.bundle.trust import judge, record_trust
    from volseg.cli.main import main

    root = write_zoo_bundle(tmp_path / "bundle", cohort, epochs=1)
    path = root / "configs" / "train.json"
    config = json.loads(path.read_text())
    config["train"]["dataloader"]["_target_"] = "ThreadDataLoader"
    config["train"]["random_transforms"][0]["spatial_size"] = [500, 16, 16]
    path.write_text(json.dumps(config))
    record_trust(judge(Bundle(root)))
    assert main(["train", str(root), "--data", str(cohort)]) == 2
    told = capsys.readouterr().err
    assert "training ended: patches of (500, 16, 16) voxels are to be cut out of an image of" in told
    assert "(in the step RandCropByPosNegLabeld)" in told
    assert "Traceback" not in told
