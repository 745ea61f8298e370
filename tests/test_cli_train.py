"""``volseg train``: what it prints, its exit codes, Ctrl-C and full disks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.conftest import uncounted
from tests.zoo import write_zoo_bundle
from volseg.cli.main import main
from volseg.errors import DiskFullError
from volseg.training import budget, validations
from volseg.training.autocast import AutocastInferer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle


def last_of(bundle: Path) -> dict[str, Any]:
    content = torch.load(bundle / "runs" / "fold_0" / "last.pt", weights_only=True)
    assert isinstance(content, dict)
    return content


def files_of(bundle: Path) -> dict[Path, bytes]:
    """All but the record of the run, which tells of every call."""
    return {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file() and path.name != "training.json"}


def spoil(monkeypatch: pytest.MonkeyPatch, step: int, how: BaseException | float) -> None:
    """Raise in the training step of that number, or multiply its logits."""
    whole = AutocastInferer.__call__
    passes = 0

    def spoiled(self: AutocastInferer, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        logits = whole(self, inputs, network, *args, **kwargs)
        if network.training:
            passes += 1
            if passes == step:
                if isinstance(how, BaseException):
                    raise how
                return logits * how
        return logits

    monkeypatch.setattr(AutocastInferer, "__call__", spoiled)


def test_it_says_what_was_trained_and_how_well(copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = copy_bundle(trained=True)
    capsys.readouterr()
    assert main(["train", str(bundle), "--epochs", "13"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].startswith("fold_0: complete after ")
    assert lines[0].endswith("and 52 steps; 8 cases trained, 2 held out.")
    assert lines[1].startswith("  best validation, epoch ")
    assert [line.split(":")[0] for line in lines[2:4]] == ["    shell", "    core"]
    assert all(0.5 < float(line.split(":")[1]) <= 1 for line in lines[2:4])
    assert lines[4:] == [f"  {bundle / 'runs' / 'fold_0' / 'curve.png'}", "The bundle's model is that of fold_0."]
    assert "Training: done, 100 %" in shown.err
    assert "Preparing: done, 8/8 cases in" in shown.err
    assert "loss " in shown.err


def test_a_complete_run_does_nothing_and_says_so(copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = copy_bundle(trained=True)
    capsys.readouterr()
    before = (bundle / "runs" / "fold_0" / "last.pt").read_bytes()
    assert main(["train", str(bundle)]) == 0
    shown = capsys.readouterr()
    assert "fold_0: already complete after " in shown.out
    assert "give more --minutes or --epochs, or --fresh" in shown.out
    assert "Training" not in shown.err
    assert (bundle / "runs" / "fold_0" / "last.pt").read_bytes() == before


def test_a_complete_run_of_another_config_or_seed_is_told_apart(
    copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle(trained=True)
    path = bundle / "configs" / "train.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.", "learning_rate: 0.0", 1) + "# by hand\n")
    assert main(["train", str(bundle), "--seed", "5"]) == 0
    shown = capsys.readouterr()
    assert "warning: the train config was changed since fold_0 was trained, which stays as it is. --fresh" in shown.err
    assert "fold_0 was trained with --seed 0 and keeps it" in shown.err
    assert "already complete" in shown.out


def test_minutes_and_all_cases(copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = copy_bundle(steps_per_epoch=2, batch_size=1)
    assert main(["train", str(bundle), "--minutes", "0.03", "--all-cases"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("all_cases: complete after ")
    assert "10 cases trained, 0 held out." in shown
    assert "best validation" not in shown


def test_scores_of_some_of_the_cases_held_out_are_told_as_such(
    copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validations, "time_validation", lambda *_: 80.0)
    monkeypatch.setattr(budget, "SHORT_SECONDS", 40.0)  # one of two
    bundle = copy_bundle(steps_per_epoch=2, batch_size=1)
    assert main(["train", str(bundle), "--minutes", "0.0001"]) == 0
    shown = capsys.readouterr()
    assert "A validation of the 2 cases held out takes about 1.3 minutes, too long for the 0.0001" in shown.err
    assert "best validation, epoch 1, of 1 of the 2 held out: mean Dice" in shown.out
    assert json.loads((bundle / "runs" / "fold_0" / "training.json").read_bytes())["validated"] == 1
    assert "That of fold_0 is of the first 1 of 2 cases alone" in (bundle / "docs" / "README.md").read_text()
    assert main(["train", str(bundle), "--minutes", "0.0001"]) == 0
    assert "of 1 of the 2 held out: mean Dice" in capsys.readouterr().out


def test_a_model_of_a_few_steps_is_published_and_told_as_a_trial(
    copy_bundle: CopyBundle, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = "The model is a trial: it was trained for 1 step only"
    bundle = copy_bundle(steps_per_epoch=2)
    assert main(["train", str(bundle), "--minutes", "0.0001"]) == 0
    shown = capsys.readouterr()
    assert f"warning: {trial}" in shown.err
    assert re.match(r"fold_0: complete after [0-9.]+ minutes and 1 step; 8 cases trained, 2 held out\.", shown.out)
    assert f"warning: {trial}" in shown.out
    assert json.loads((bundle / "models" / "published.json").read_bytes())["steps"] == 1
    assert trial in (bundle / "docs" / "README.md").read_text()
    before = files_of(bundle)
    assert main(["train", str(bundle), "--minutes", "0.0001"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("fold_0: already complete after ")
    assert "train config" not in shown.err
    assert f"warning: {trial}" in shown.out
    assert files_of(bundle) == before
    assert main(["check", str(bundle)]) == 0
    assert trial in capsys.readouterr().out
    for words in ([], ["--fold", "0"]):
        out = tmp_path / f"masks{len(words)}"
        assert main(["predict", str(bundle), str(next((cohort / "imagesTs").iterdir())), str(out), *words]) == 0
        assert f"warning: {trial}" in capsys.readouterr().out
        (outcome,) = json.loads((out / "prediction.json").read_bytes())["outcomes"]
        assert any(trial in warning for warning in outcome["warnings"])


def test_folds_are_summed_up(copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = copy_bundle(steps_per_epoch=1, batch_size=1)
    assert main(["train", str(bundle), "--cv", "--epochs", "1", "--at-once", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The bundle's model is that of fold_0."
    assert sum(line.startswith("fold_") for line in lines) == 5
    (head,) = [n for n, line in enumerate(lines) if line.startswith("5 folds, 10 cases")]
    assert lines[head].split()[4:] == ["Dice", "spread", *(w for n in range(5) for w in ("fold", str(n))), "HD95", "mm"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[head + 1 : head + 4]}
    assert list(rows) == ["shell", "core", "mean"]
    assert float(rows["mean"][0]) == pytest.approx((float(rows["shell"][0]) + float(rows["core"][0])) / 2, abs=1e-4)


def test_a_fold_that_ends_does_not_cost_the_others(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle(steps_per_epoch=1, batch_size=1)
    spoil(monkeypatch, 2, float("nan"))  # the second fold's only step
    assert main(["train", str(bundle), "--cv", "--epochs", "1", "--at-once", "1"]) == 1
    shown = capsys.readouterr()
    assert "fold_1: ended: The loss became nan at step 1" in shown.out
    assert sum(": complete after " in line for line in shown.out.splitlines()) == 4
    assert "fold_1 ended: The loss became nan at step 1" in shown.err
    assert not (bundle / "models" / "folds").exists()
    assert not (bundle / "runs" / "cross_validation.json").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--fold", "5"], "There is no fold 5: the folds are 0 to 4."),
        (["--minutes", "1", "--epochs", "1"], "--minutes and --epochs both say how long to train"),
        (["--cv", "--all-cases"], "--cv holds out every case once and --all-cases none"),
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_options_that_make_no_sense(
    planned_bundle: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["train", str(planned_bundle), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (planned_bundle / "runs").exists()


def test_a_data_set_that_is_gone(copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = copy_bundle(dataset_dir="../gone")
    assert main(["train", str(bundle)]) == 2
    assert "does not exist. Name it with --data." in capsys.readouterr().err
    assert not (bundle / "runs").exists()
    assert main(["train", str(bundle), "--data", str(tmp_path / "nowhere")]) == 2
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "file", "no bundle"])
def test_what_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    place = tmp_path / "bundle"
    if kind == "file":
        place.write_text("x")
    elif kind == "no bundle":
        place.mkdir()
    assert main(["train", str(place)]) == 2
    shown = capsys.readouterr().err
    assert len(shown.strip().splitlines()) == 1
    assert str(place) in shown


def test_an_untrusted_bundle_is_3_and_lists_what_it_would_run(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_zoo_bundle(tmp_path / "bundle", cohort, epochs=1)
    assert main(["train", str(bundle)]) == 3
    shown = capsys.readouterr()
    assert "volseg trust" in shown.err
    assert "train: images: expression $list(sorted(glob.glob" in shown.err
    assert not (bundle / "runs").exists()
    assert main(["trust", str(bundle), "--yes"]) == 0
    capsys.readouterr()
    assert main(["train", str(bundle)]) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if "train_loss" in line] == []
    assert shown.out.startswith("fold_0: complete")


def test_ctrl_c_inside_a_step_is_130_and_the_next_call_goes_on(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle()
    with monkeypatch.context() as patched:
        spoil(patched, 3, KeyboardInterrupt())
        assert main(["train", str(bundle), "--epochs", "2"]) == 130
    shown = capsys.readouterr()
    assert "Stopped after 2 steps; the same command goes on from there." in shown.err
    assert shown.err.rstrip().endswith("interrupted")
    assert shown.out == ""
    assert last_of(bundle)["step"] == 2
    assert main(["train", str(bundle)]) == 0
    assert last_of(bundle)["step"] == 8
    assert "and 8 steps" in capsys.readouterr().out


def test_a_loss_that_is_no_number_is_one_sentence(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle()
    spoil(monkeypatch, 2, float("nan"))
    assert main(["train", str(bundle), "--epochs", "1"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("volseg:")]
    assert "The loss became nan at step 2" in line
    assert "--fresh" in line
    assert not (bundle / "models" / "model.pt").exists()
    # What was learned before is kept, and nothing else.
    assert {path.name for path in (bundle / "runs" / "fold_0").iterdir()} == {"training.json", "last.pt"}


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle(trained=True)
    before = files_of(bundle)

    def full(path: Path, content: object) -> None:
        del content
        raise DiskFullError(f"No space is left on the disk to write {path}. Free some space and run the command again.")

    monkeypatch.setattr("volseg.training.checkpoint._save", full)  # of whatever is written first
    assert main(["train", str(bundle), "--epochs", "13"]) == 2
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if line.startswith("volseg:")]
    assert line.startswith(f"volseg: No space is left on the disk to write {bundle}")
    assert "Traceback" not in shown.err
    assert files_of(bundle) == before


def test_a_disk_that_is_really_full(
    copy_bundle: CopyBundle, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a file system with room for the bundle, and for half a checkpoint."""
    bundle = copy_bundle(steps_per_epoch=1, batch_size=1)
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user can't mount a small file system")
    try:
        shutil.copytree(bundle, place / "bundle")
        assert main(["train", str(place / "bundle"), "--data", str(cohort), "--epochs", "1"]) == 2
        shown = capsys.readouterr()
        (line,) = [line for line in shown.err.splitlines() if line.startswith("volseg:")]
        assert line.startswith("volseg: No space is left on the disk to write ")
        assert "Traceback" not in shown.err
        left = {path.name for path in (place / "bundle").rglob("*") if path.is_file()}
        assert not any("partial" in name or name.endswith(".pt") for name in left)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_real_ctrl_c_leaves_a_checkpoint_that_loads(copy_bundle: CopyBundle, tmp_path: Path) -> None:
    bundle = copy_bundle(steps_per_epoch=100)
    log, script = tmp_path / "log", tmp_path / "volseg"
    script.write_text(
        "import sys\nimport volseg.console\nvolseg.console.SPARSE_SECONDS = 0.1\n"  # to see soon that it trains
        "from volseg.cli.main import main\nsys.exit(main())\n"
    )
    with log.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, str(script), "train", str(bundle), "--epochs", "1000"],
            env=uncounted(), stdout=subprocess.PIPE, stderr=err, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 240
            while "Training:" not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    shown = log.read_text()
    assert process.returncode == 130, shown
    assert out == ""
    assert shown.rstrip().endswith("interrupted")
    assert "Traceback" not in shown
    content = last_of(bundle)
    assert not content["complete"]
    assert f"Stopped after {content['step']} steps" in shown


def test_a_kill_inside_an_epoch_costs_a_moment_and_its_leftovers_go(
    copy_bundle: CopyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(steps_per_epoch=100_000)
    program = (
        "import volseg.training.run as run; run.SAVE_SECONDS, run.SAVE_SHARE = 0.2, 1e9\n"
        "from volseg.cli.main import main\n"
        f"main(['train', {str(bundle)!r}, '--minutes', '600'])\n"
    )
    last = bundle / "runs" / "fold_0" / "last.pt"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", program], env=uncounted(), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 240
            while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.5)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    before = last_of(bundle)
    assert 0 < before["step"] < 100_000
    assert before["epoch"] == 0
    assert before["history"] == ()
    assert len(before["losses"]) == before["step"]
    leftovers = [bundle / "models" / ".model.partial-0123abcd.pt", last.with_name(".last.partial-0123abcd.pt")]
    for path in leftovers:
        path.write_bytes(b"half")
    monkeypatch.setattr(budget.Budget, "is_spent", property(lambda self: self.steps >= before["step"] + 3))
    assert main(["train", str(bundle), "--minutes", "600"]) == 0
    assert last_of(bundle)["step"] == before["step"] + 3
    assert [row["epoch"] for row in last_of(bundle)["history"]] == [1]
    assert not any(path.exists() for path in leftovers)


def test_memory_that_runs_out_is_a_sentence_with_the_need_and_the_remedy(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle()
    said = (
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 34359738368 bytes. Error code 12 (Cannot allocate memory)"
    )
    spoil(monkeypatch, 2, RuntimeError(said))
    assert main(["train", str(bundle), "--epochs", "1"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("volseg:")]
    assert line.startswith("volseg: Memory ran out: 32 GiB more were needed at once. A step of 2 patches takes about ")
    assert "--preset fast" in line
