"""The search of ``volseg tune``: what it tries, keeps, goes on with, and writes."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import optuna
import pytest
import yaml

import volseg.workflows.tune.study as study_module
from tests.conftest import _edit_config, adopted
from tests.heard import Heard
from tests.tuning import patch_of, plainly, score_by
from volseg.bundle.faults import find_faults
from volseg.bundle.folder import Bundle
from volseg.bundle.rules_config import with_rules, without_rules
from volseg.bundle.weights import inference_network
from volseg.bundle.write import SCORES_BEGIN, SCORES_END, cell, write_config
from volseg.dataset.dataset import read_dataset
from volseg.errors import BundleError, DiskFullError, FileError, UsageError, VolsegError
from volseg.planning.fingerprint import measure
from volseg.postprocessing import FillHoles, PostprocessingRules
from volseg.training.cross_validation import CrossValidation, HeldOut
from volseg.training.history import Epoch, Validation, read_history
from volseg.workflows.tune import Tuned, TuneOptions, budget, search, tune
from volseg.workflows.tune.options import Length
from volseg.workflows.tune.space import Space
from volseg.workflows.tune.study import told
from volseg.workflows.tune.trial import Ended, Judge, TrialRunner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.conftest import CopyBundle

COUNTED = {"trial_epochs": 1, "trials": 4}


@pytest.fixture
def bundle(copy_bundle: CopyBundle) -> Path:
    return copy_bundle(steps_per_epoch=2)


def run(bundle: Path, **more: object) -> Tuned:
    return tune(bundle, TuneOptions(**(COUNTED | more)))  # type: ignore[arg-type]


def rate(config: Mapping[str, object]) -> float:
    found = config["learning_rate"]
    assert isinstance(found, float)
    return found


def by_rate(config: Mapping[str, object], seed: int) -> float:
    """Best at 0.01, five times the plan's."""
    return 0.8 - 0.1 * abs(math.log10(rate(config) / 0.01)) + 0.001 * seed


def configs_of(bundle: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (bundle / "configs").iterdir()}


def test_trials_are_trainings_of_the_plan_and_of_others(bundle: Path) -> None:
    _edit_config(bundle / "configs" / "train.yaml", steps_per_epoch=1)
    before = configs_of(bundle)
    found = run(bundle, trials=2)
    folder = bundle / "runs" / "tune"
    first, second = (yaml.safe_load((folder / f"trial_00{n}/configs/train.yaml").read_text()) for n in (0, 1))
    assert first == yaml.safe_load(before["train.yaml"])
    assert second != first
    for trial in found.trials:
        rows, _ = read_history(folder / f"trial_00{trial.number}" / "runs" / "fold_0" / "history.csv")
        assert rows[-1].validation is not None
        assert trial.score == pytest.approx(rows[-1].validation.score, abs=1e-5)
        assert trial.steps == rows[-1].step == 1
    assert not list(folder.rglob("*.pt"))
    assert not list((bundle / "models").iterdir())
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    assert len((folder / "search.csv").read_text().splitlines()) == 3
    assert found.spread is None
    assert found.best == (1 if found.trials[1].score > found.trials[0].score else 0)  # type: ignore[operator]
    if not found.best:
        assert configs_of(bundle) == before


def test_all_that_is_searched_lies_around_the_plan(bundle: Path, cohort: Path) -> None:
    dataset = read_dataset(cohort)
    space = Space(Bundle(bundle), dataset, measure(dataset))
    assert {one.name for one in space.parameters} == {
        "learning rate", "weight of ce", "patch", "width", "augmentation",
    }  # fmt: skip
    assert space.of(space.planned) == space.configs
    strides = space.plan.network.topology.strides if space.plan else ()
    for one in space.parameters:
        assert one.holds(one.planned)
        for value in one.choices or (one.low, one.high):
            configs = space.of({one.name: value})
            assert (configs == space.configs) == (value == one.planned)
            assert configs.train["steps_per_epoch"] == 2  # a person's own
            for axis, side in enumerate(patch_of(configs.train)):
                assert side % math.prod(stride[axis] for stride in strides) == 0
            assert configs.inference["inferer"]["roi_size"] == list(patch_of(configs.train))  # type: ignore[index, call-overload]
    narrow = space.of({"width": 0.5})
    assert narrow.train["network_def"]["filters"][0] * 2 == space.configs.train["network_def"]["filters"][0]  # type: ignore[index, call-overload]
    assert narrow.inference["network_def"]["filters"] == narrow.train["network_def"]["filters"]  # type: ignore[index, call-overload]


def test_a_plan_that_is_not_of_the_network_breaks_nothing(bundle: Path, cohort: Path) -> None:
    path = bundle / "configs" / "plan.json"
    content = json.loads(path.read_text())
    content["chosen"]["strides"] = [[4096] * 3] * 2  # which no network can be built of
    path.write_text(json.dumps(content))
    with (bundle / "configs" / "train.yaml").open("a") as file:
        file.write("changed: 2026-01-01\n1: one\n")
    dataset = read_dataset(cohort)
    space = Space(Bundle(bundle), dataset, measure(dataset))
    assert space.configs.texts()
    for one in space.parameters:
        for value in one.choices or (one.low, one.high):
            assert space.lacks_memory({one.name: value}) == ""


def test_the_best_is_written_into_every_config_and_the_rest_stays(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = patch_of(yaml.safe_load((bundle / "configs" / "train.yaml").read_text()))
    score_by(monkeypatch, lambda config, _: 0.7 if patch_of(config) != planned else 0.5)
    (bundle / "models" / "model.pt").write_bytes(b"weights of before")
    readme = bundle / "docs" / "README.md"
    readme.write_text(readme.read_text().replace(f"{SCORES_BEGIN}\n", f"{SCORES_BEGIN}\n\n| mean | 0.9 |\n"))
    before = configs_of(bundle)
    found = run(bundle, trials=8)
    patch = found.trials[found.best].settings["patch"]
    assert found.best > 0
    assert found.gain == pytest.approx(0.2)
    config = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    inference = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text())
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    sides = [int(side) for side in str(patch).split("x")]
    assert list(patch_of(config)) == inference["inferer"]["roi_size"] == sides
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == sides
    assert config["steps_per_epoch"] == 2
    plan = json.loads((bundle / "configs" / "plan.json").read_text())
    rows = {one["choice"]: one["reason"] for one in plan["choices"]}
    batch = plan["chosen"]["batch"]
    assert rows[f"patch {' x '.join(map(str, sides))} voxels"] == "found by volseg tune"
    assert rows[f"batch {batch}"] == f"{batch * math.prod(sides):,} voxels a step"
    assert sum("of memory for a step" in choice for choice in rows) == 1
    (spacing,) = (one for one in json.loads(before["plan.json"])["choices"] if one["choice"].startswith("spacing "))
    assert rows[spacing["choice"]] == spacing["reason"]
    table = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
    assert table[1 : 1 + len(rows)] == [f"| {cell(choice)} | {cell(reason)} |" for choice, reason in rows.items()]
    # Weights of another patch are no longer the bundle's, nor are their scores.
    assert f"{SCORES_BEGIN}\n{SCORES_END}\n" in readme.read_text()
    assert found.kept == bundle / "before_tune"
    assert not (bundle / "models" / "model.pt").exists()
    assert (found.kept / "models" / "model.pt").read_bytes() == b"weights of before"
    assert {path.name: path.read_text() for path in (found.kept / "configs").iterdir()} == before
    assert inference_network(Bundle(bundle)) is not None
    assert not [fault for fault in find_faults(Bundle(bundle)) if fault.is_error]
    # What was found is a plan that another search can begin from.
    again = run(bundle, fresh=True, trials=1)
    assert again.best == 0
    assert again.left_out == ()
    assert again.trials[0].settings["patch"] == patch


def test_weights_stay_where_inference_stays(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_by(monkeypatch, lambda config, _: rate(config))
    monkeypatch.setattr(Space, "_patch", lambda *_: None)
    monkeypatch.setattr(Space, "_width", lambda *_: None)
    (bundle / "models" / "model.pt").write_bytes(b"weights")
    trained = bundle / "runs" / "fold_0" / "best.pt"
    trained.parent.mkdir(parents=True)
    trained.write_bytes(b"of the rate before")
    inference = (bundle / "configs" / "inference.yaml").read_bytes()
    found = run(bundle, trials=6)
    assert found.written == ("train.yaml",)
    # Called again, volseg train would say of that run that it is complete.
    assert not trained.parent.exists()
    assert (bundle / "before_tune" / "runs" / "fold_0" / "best.pt").read_bytes() == b"of the rate before"
    assert (bundle / "models" / "model.pt").read_bytes() == b"weights"
    assert (bundle / "configs" / "inference.yaml").read_bytes() == inference


def test_nothing_changes_where_nothing_is_better(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = rate(yaml.safe_load((bundle / "configs" / "train.yaml").read_text()))
    score_by(monkeypatch, lambda config, _: 0.5 if rate(config) == planned else 0.4)
    before = configs_of(bundle)
    found = run(bundle)
    assert (found.best, found.gain, found.written, found.kept) == (0, 0.0, (), None)
    assert configs_of(bundle) == before


def test_what_only_one_seed_found_better_is_not_written(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = rate(yaml.safe_load((bundle / "configs" / "train.yaml").read_text()))
    score_by(monkeypatch, lambda config, seed: 0.5 if rate(config) == planned else 0.6 - 0.3 * seed)
    before = configs_of(bundle)
    found = run(bundle, trials=6)
    assert [one.repeats for one in found.trials] == [None, None, None, None, 0, 1]
    assert [one.seed for one in found.trials] == [0, 0, 0, 0, 1, 1]
    assert found.trials[5].settings == found.trials[1].settings
    assert (found.best, found.spread) == (0, pytest.approx(0.3))
    assert configs_of(bundle) == before


def test_a_search_that_was_stopped_goes_on_as_if_it_was_not(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bundle.with_name("other")
    shutil.copytree(bundle, other)
    score_by(monkeypatch, by_rate)
    whole = run(other, trials=5, data=yaml.safe_load((bundle / "configs" / "train.yaml").read_text())["dataset_dir"])
    count = 0

    def stopped(config: Mapping[str, object], seed: int) -> float:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return by_rate(config, seed)

    score_by(monkeypatch, stopped)
    with pytest.raises(KeyboardInterrupt):
        run(bundle, trials=5)
    rest = score_by(monkeypatch, by_rate)
    heard = Heard()
    found = tune(bundle, TuneOptions(trials=5), heard)
    assert any(line.startswith("Going on after 3 trials") for line in heard.lines)
    assert len(rest) == 3
    assert [(one.number, one.settings, one.score) for one in found.trials] == [
        (one.number, one.settings, one.score) for one in whole.trials
    ]
    again = tune(bundle, TuneOptions(trials=5))
    assert again.already
    assert again.trials == found.trials
    more = tune(bundle, TuneOptions(trials=6))
    assert not more.already
    assert more.trials[:5] == found.trials


def test_a_trial_that_ends_its_process_is_not_begun_for_ever(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException): ...

    def killing(config: Mapping[str, object], seed: int) -> float:
        if rate(config) != 0.002:
            raise KilledError
        return by_rate(config, seed)

    score_by(monkeypatch, killing)
    for _ in range(3):
        with pytest.raises(KilledError):
            run(bundle, trials=2)
    found = run(bundle, trials=2)
    assert [(one.state, one.reason) for one in found.trials] == [("complete", ""), ("failed", "ended")]


def test_a_kill_between_two_settings_of_a_trial_loses_nothing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException): ...

    score_by(monkeypatch, by_rate)
    first = run(bundle, trials=1)

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as context:
        context.setattr(optuna.Trial, "suggest_categorical", killed)
        with pytest.raises(KilledError):
            run(bundle, trials=3)
    found = run(bundle, trials=3)
    assert [one.state for one in found.trials] == ["complete"] * 3
    assert found.trials[:1] == first.trials


def test_trials_of_others_are_not_gone_on_with(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = bundle / "runs" / "tune" / "trial_000" / "runs" / "fold_0" / "history.csv"
    there.parent.mkdir(parents=True)
    there.write_text("of others")
    score_by(monkeypatch, by_rate)
    run(bundle, trials=1)
    assert not there.exists()


def test_a_run_of_a_trial_that_somebody_else_made_is_not_gone_on_with(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        score_by(context, stopped)
        with pytest.raises(KeyboardInterrupt):
            run(bundle, trials=1)
    there = bundle / "runs" / "tune" / "trial_000" / "runs" / "fold_0" / "last.pt"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"of others")
    plainly(monkeypatch)
    monkeypatch.setattr(TrialRunner, "_train", lambda *_: Ended("complete", 0.5))
    heard = Heard()
    tune(bundle, TuneOptions(trials=1), heard)
    assert not there.exists()
    assert any("Trial 0 begins anew" in line for line in heard.lines)


def test_what_sqlite_cant_do_is_told_and_the_search_goes_on(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "BUSY_SECONDS", 0.05)
    path = bundle / "runs" / "tune" / "search.sqlite"
    others = []

    def locking(config: Mapping[str, object], seed: int) -> float:
        others.append(sqlite3.connect(path))
        others[0].execute("BEGIN EXCLUSIVE")
        return by_rate(config, seed)

    score_by(monkeypatch, locking)
    with pytest.raises(FileError, match=r"Another program holds .*the same command goes on") as error:
        run(bundle, trials=1)
    assert error.value.code == "in-use"
    others[0].close()
    score_by(monkeypatch, by_rate)
    assert len(run(bundle, trials=1).trials) == 1


def test_each_fault_of_the_file_has_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "search.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE kept (value)")
    with (
        closing(sqlite3.connect(":memory:")) as small,
        pytest.raises(DiskFullError, match=r"No space is left .*search\.sqlite"),
        told(path),
    ):
        small.executescript(
            "PRAGMA max_page_count = 2; CREATE TABLE kept (value); INSERT INTO kept VALUES (zeroblob(100000))"
        )
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as readable,
        pytest.raises(FileError, match="can't be written: Read-only"),
        told(path),
    ):
        readable.execute("INSERT INTO kept VALUES (1)")
    path.write_bytes(b"not a database" * 1000)
    with (
        closing(sqlite3.connect(path)) as damaged,
        pytest.raises(BundleError, match="--fresh begins another") as error,
        told(path),
    ):
        damaged.execute("SELECT * FROM kept")
    assert error.value.code == "bad-search"


def test_rules_that_another_networks_masks_chose_give_way_to_the_plans(bundle: Path, cohort: Path) -> None:
    labels = (1, 2)
    planned, bare = without_rules(Bundle(bundle).read_config("inference"), labels)
    chosen = PostprocessingRules((FillHoles(labels=(1,)),))
    assert chosen != planned
    write_config(bundle / "configs" / "inference.yaml", with_rules(bare, chosen, labels))
    dataset = read_dataset(cohort)
    fingerprint = measure(dataset)
    case = HeldOut("case", 0, (0.9, 0.9), (1.0, 1.0))
    by_person = CrossValidation(("shell", "core"), (case,), (), {}, "", tuple(chosen.to_config()))
    for scored, rules in ((by_person, chosen), (replace(by_person, chosen=True), planned)):
        scored.write(bundle / "runs")
        space = Space(Bundle(bundle), dataset, fingerprint)
        assert without_rules(space.of({"width": 0.5}).inference, labels)[0] == rules
        assert space.of({"augmentation": "none"}).inference == space.configs.inference


def test_trials_that_fail_are_kept_and_the_search_goes_on(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(config: Mapping[str, object], seed: int) -> float | Ended:
        if rate(config) > 0.002:
            return Ended("failed", steps=1, error=BundleError("The loss became nan", code="loss-not-finite"))
        return by_rate(config, seed)

    score_by(monkeypatch, failing)
    found = run(bundle, trials=6)
    assert {"loss-not-finite"} <= {one.reason for one in found.trials}
    assert len(found.trials) == 6
    score_by(monkeypatch, lambda config, seed: failing(config, seed) if rate(config) == 0.002 else Ended(
        "failed", error=VolsegError("Memory is short", code="out-of-memory")
    ))  # fmt: skip
    ended = run(bundle, trials=30, fresh=True)
    assert len(ended.trials) == 6
    assert "out-of-memory" in ended.failed


def test_a_plan_that_cant_be_trained_is_told(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_by(monkeypatch, lambda *_: Ended("failed", error=VolsegError("3 steps make no model.", code="too-short")))
    with pytest.raises(VolsegError, match="3 steps make no model"):
        run(bundle)


def test_trials_that_are_worst_half_way_are_ended(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def train(_: TrialRunner, __: Bundle, ___: int, judge: object) -> Ended:
        nonlocal count
        count += 1
        reached = 0.1 if count == 6 else 0.5 + 0.01 * count
        for epoch in range(1, 5):
            score = Validation(reached * epoch / 4)
            judge.epoch(Epoch(epoch, epoch, 0.1 * epoch, 1e-3, 1.0, score))  # type: ignore[attr-defined]
        return Ended("complete", reached, steps=4)

    plainly(monkeypatch)
    monkeypatch.setattr(TrialRunner, "_train", train)
    found = run(bundle, trials=9, trial_epochs=4)
    assert [one.state for one in found.trials] == ["complete"] * 5 + ["pruned"] + ["complete"] * 3
    assert (found.trials[5].score, found.trials[5].steps) == (None, 2)


@pytest.mark.parametrize("what", ["config", "data", "length", "seed"])
def test_a_search_of_something_else_is_not_gone_on_with(
    what: str, bundle: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_by(monkeypatch, by_rate)
    data = shutil.copytree(cohort, tmp_path / "data")
    run(bundle, data=data, trials=1, seed=3 if what == "seed" else None)
    more: dict[str, object] = {}
    if what == "config":
        _edit_config(bundle / "configs" / "train.yaml", batch_size=1)
    elif what == "data":
        path = data / "labelsTr" / "case_00.nii.gz"
        mask = nibabel.load(path)
        voxels = np.asarray(mask.dataobj).copy()
        voxels[0, 0, 0] = 1
        nibabel.save(nibabel.Nifti1Image(voxels, mask.affine, mask.header), path)
    else:
        more = {"trial_epochs": 2} if what == "length" else {"seed": 0}
    words = {"config": "train.yaml", "data": "the data set", "length": "1 epoch,", "seed": "--seed 3"}[what]
    with pytest.raises((BundleError, UsageError), match=rf"{words}.*--fresh"):
        run(bundle, data=data, **more)
    assert len(run(bundle, data=data, fresh=True, **more | {"trials": 1}).trials) == 1


@pytest.mark.parametrize(
    "what", ["moved", "study alone", "study of others", "no database", "other settings", "view", "link"]
)
def test_the_search_of_a_stranger_is_not_gone_on_with(
    what: str, bundle: Path, tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_by(monkeypatch, by_rate)
    run(bundle, data=cohort, trials=1)
    folder = bundle / "runs" / "tune"
    if what == "moved":
        bundle = adopted(bundle.rename(tmp_path / "moved"))
        folder = bundle / "runs" / "tune"
    elif what == "study alone":
        (folder / "search.json").unlink()
    elif what == "study of others":
        record = json.loads((folder / "search.json").read_text())
        (folder / "search.json").write_text(json.dumps(record | {"token": "0" * 32}))
    elif what == "no database":
        (folder / "search.sqlite").write_bytes(b"not a database" * 1000)
    elif what == "link":
        (folder / "search.sqlite").rename(tmp_path / "search.sqlite")
        (folder / "search.sqlite").symlink_to(tmp_path / "search.sqlite")
    elif what == "view":
        with sqlite3.connect(folder / "search.sqlite") as database:
            database.execute("ALTER TABLE trials RENAME TO real_trials")
            database.execute("CREATE VIEW trials AS SELECT * FROM real_trials, real_trials AS more")
    else:
        with sqlite3.connect(folder / "search.sqlite") as database:
            database.execute("UPDATE trial_params SET param_value = 1e9 WHERE param_name = 'learning rate'")
    with pytest.raises(BundleError) as error:
        run(bundle, data=cohort)
    assert error.value.code in ("foreign-search", "bad-search", "link")
    if what != "link":
        assert len(run(bundle, data=cohort, fresh=True, trials=1).trials) == 1


def test_two_searches_of_a_bundle_dont_run_at_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(config: Mapping[str, object], seed: int) -> float:
        made = bundle / ".configs.tuned"  # what the first is about to put into its place
        made.mkdir()
        with pytest.raises(FileError) as error:
            run(bundle)
        assert error.value.code == "in-use"
        made.rmdir()
        with pytest.raises(FileError) as error:
            run(bundle)
        assert error.value.code == "in-use"
        return by_rate(config, seed)

    score_by(monkeypatch, second)
    assert len(run(bundle, trials=1).trials) == 1


@pytest.mark.parametrize("moment", range(3))
def test_a_kill_while_the_result_is_written_leaves_no_mix(
    moment: int, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException): ...

    planned = patch_of(yaml.safe_load((bundle / "configs" / "train.yaml").read_text()))
    score_by(monkeypatch, lambda config, _: 0.7 if patch_of(config) != planned else 0.5)
    (bundle / "models" / "model.pt").write_bytes(b"weights of before")
    before = configs_of(bundle)
    path = type(bundle)
    replace, made = path.replace, []

    def killed(self: Path, target: Path) -> Path:
        if self.parent == bundle:  # the models, the old configs, the new ones
            if len(made) == moment:
                raise KilledError
            made.append(self)
        return replace(self, target)

    monkeypatch.setattr(path, "replace", killed)
    with pytest.raises(KilledError):
        run(bundle, trials=4)
    monkeypatch.setattr(path, "replace", replace)
    if (bundle / "configs").exists():
        assert configs_of(bundle) == before
    assert (bundle / "models" / "model.pt").exists() == (moment == 0)
    found = run(bundle, trials=4)
    assert found.best > 0
    config = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    inference = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text())
    sides = [int(side) for side in str(found.trials[found.best].settings["patch"]).split("x")]
    assert list(patch_of(config)) == inference["inferer"]["roi_size"] == sides
    assert not (bundle / ".configs.tuned").exists()
    kept = list(bundle.glob("before_tune*/models/model.pt"))
    assert [one.read_bytes() for one in kept] == [b"weights of before"]


def test_what_a_person_wrote_stays_and_is_told(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle / "configs" / "train.yaml"
    config = yaml.safe_load(path.read_text())
    config["loss"] = {"_target_": "monai.losses.FocalLoss", "gamma": 3.0, "to_onehot_y": True, "use_softmax": True}
    config["optimizer"]["lr"] = 0.003
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    score_by(monkeypatch, lambda config, _: 1 - sum(patch_of(config)) / 1000)
    found = run(bundle, trials=6)
    assert set(found.parameters) == {"patch", "width", "augmentation"}
    assert [line.partition(":")[0] for line in found.left_out] == ["learning rate", "weight of ce"]
    after = yaml.safe_load(path.read_text())
    assert found.best > 0
    assert (after["loss"], after["optimizer"]) == (config["loss"], config["optimizer"])


def test_minutes_are_kept(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    for module in (search, budget):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def slow(config: Mapping[str, object], seed: int) -> float:
        clock.now += 33
        return by_rate(config, seed)

    score_by(monkeypatch, slow)
    found = tune(bundle, TuneOptions(minutes=5))
    assert clock.now - 1000 <= 300
    assert len(found.trials) == 9  # of half a minute each, and what they take beside
    assert [one.repeats for one in found.trials if one.repeats is not None] == [0, max(found.trials[:7], key=lambda one: one.score or 0).number]  # fmt: skip
    assert tune(bundle, TuneOptions(minutes=5)).already
    begun = clock.now
    assert len(tune(bundle, TuneOptions(minutes=6)).trials) == 10
    assert clock.now - begun == 33


def test_a_trial_whose_validation_takes_longer_than_its_time_is_refused() -> None:
    judge = Judge(None, Length(minutes=0.5), 20.0, may_prune=False)  # type: ignore[arg-type]
    judge.timed(19.0, None, 0.5)
    with pytest.raises(VolsegError, match=r"no time in 0\.5 minutes .*--trial-minutes 22 --fresh") as error:
        judge.timed(600.0, 3, 20.0)
    assert error.value.code == "too-long"
    with pytest.raises(VolsegError, match=r"--trial-minutes 0\.7"):
        judge.timed(0.0, 39, 0.6)  # of fewer cases than the other trials


def test_lengths_of_trials() -> None:
    assert Length.of(TuneOptions()) == Length(minutes=5.0)
    assert Length.of(TuneOptions(minutes=4)) == Length(minutes=0.5)
    assert Length.of(TuneOptions(minutes=480, trial_minutes=20)) == Length(minutes=20.0)
    assert Length.of(TuneOptions(trials=3, trial_epochs=2)) == Length(epochs=2)
    with pytest.raises(UsageError, match="doesn't fit"):
        Length.of(TuneOptions(minutes=2, trial_minutes=3))
    for bad in ({"minutes": 0}, {"minutes": math.nan}, {"trials": 0}, {"trial_epochs": 1, "minutes": 3}, {"fold": -1},
        {"trial_minutes": 0.00004},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            TuneOptions(**bad).require_sense()  # type: ignore[arg-type]


def test_optuna_that_is_missing_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'volseg\[tune\]'"):
        run(bundle)


def test_a_bundle_of_others_is_not_searched(bundle: Path) -> None:
    path = bundle / "configs" / "train.yaml"
    config = yaml.safe_load(path.read_text())
    del config["cases_record"]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(VolsegError):
        run(bundle)
