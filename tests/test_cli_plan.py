"""``volseg plan``: what it prints, and how it ends."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from volseg.cli.main import main
from volseg.planning.presets import REGISTRIES

if TYPE_CHECKING:
    from pathlib import Path


def test_it_says_what_it_chose_and_why(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "bundle"
    assert main(["plan", str(cohort), str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "10 cases, 2 labels: shell, core" in shown
    assert "spacing 1 x 1 x 1.2 mm (R, A, S): the median of the training images" in shown
    assert f"Next: volseg train {bundle}" in shown


def test_folders_in_the_wrong_order_are_told(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path / "bundle"), str(cohort)]) == 2
    assert "Name the data set first" in capsys.readouterr().err


def test_a_spacing_may_be_asked_for(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(cohort), str(tmp_path / "bundle"), "--spacing", "2", "2", "2.5"]) == 0
    assert "spacing 2 x 2 x 2.5 mm (R, A, S): asked for" in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "bundle" / "configs" / "inference.yaml").read_text())
    steps = [step for step in config["preprocessing"]["transforms"] if step["_target_"].endswith("Spacingd")]
    assert [step["pixdim"] for step in steps] == [[2.0, 2.0, 2.5]]


@pytest.mark.parametrize("spacing", [["0", "1", "1"], ["1", "-1", "1"], ["nan", "1", "1"], ["inf", "1", "1"]])
def test_a_spacing_that_makes_no_sense_is_refused(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spacing: list[str]
) -> None:
    # The equals sign keeps a negative number from being read as an option.
    words = [f"--spacing={spacing[0]}", f"--spacing={spacing[1]}", f"--spacing={spacing[2]}"]
    assert main(["plan", str(cohort), str(tmp_path / "bundle"), *words]) == 2
    assert "spacing" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_all_faults_stand_on_lines_of_their_own(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    (data / "labelsTr" / "case_01.nii.gz").unlink()
    (data / "imagesTr" / "case_03.nii.gz").write_bytes(b"no image")
    (data / "imagesTr" / "case_04.nii.gz").unlink()
    assert main(["plan", str(data), str(tmp_path / "bundle")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"volseg: {data} has 3 faults") for line in lines)
    for case in ("case_01", "case_03", "case_04"):
        assert sum(line.startswith(f"  {case}: ") for line in lines) == 1
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_what_is_no_data_set_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    data = tmp_path / "data"
    if kind == "file":
        data.write_text("x")
    elif kind == "empty":
        data.mkdir()
    assert main(["plan", str(data), str(tmp_path / "bundle")]) == 2
    shown = capsys.readouterr()
    assert len(shown.err.strip().splitlines()) == 1
    assert str(data) in shown.err
    assert not shown.out


def test_an_existing_bundle_is_kept(planned_bundle: Path, cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in planned_bundle.rglob("*") if path.is_file()}
    assert main(["plan", str(cohort), str(planned_bundle)]) == 2
    assert "may hold trained weights" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in planned_bundle.rglob("*") if path.is_file()} == before


def test_an_empty_folder_and_the_current_one_take_a_bundle(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", str(cohort), "."]) == 0
    assert (tmp_path / "configs" / "train.yaml").is_file()


def test_one_spacing_holds_for_all_axes(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--spacing", "2", str(cohort), str(tmp_path / "bundle")]) == 0
    assert "spacing 2 x 2 x 2 mm (R, A, S): asked for" in capsys.readouterr().out
    assert main(["plan", str(cohort), str(tmp_path / "other"), "--spacing", "2", "2"]) == 2
    assert "one number for all axes or three" in capsys.readouterr().err


def test_the_help_lists_what_a_plan_chooses_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    headings = ["--network", "--loss, also as weighted sums", "--optimizer", "--schedule", "--augment"]
    for heading, registry in zip(headings, REGISTRIES.values(), strict=True):
        first = next(iter(registry))
        assert f"{heading} • {first}: " in shown
        for name, choice in registry.items():
            assert f"• {name}: {choice.words}" in shown


def test_a_network_may_be_asked_for(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "bundle"
    assert main(["plan", str(cohort), str(bundle), "--network", "unet", "--optimizer", "sgd"]) == 0
    assert "network unet: " in capsys.readouterr().out
    config = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    assert config["network_def"]["_target_"] == "monai.networks.nets.UNet"
    assert (config["optimizer"]["_target_"], config["learning_rate"]) == ("torch.optim.SGD", 0.01)


def test_each_part_may_be_asked_for_by_name(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wishes = ["--loss", "dice-ce", "--schedule", "polynomial", "--augment", "none"]
    assert main(["plan", str(cohort), str(tmp_path / "bundle"), *wishes]) == 0
    shown = capsys.readouterr().out
    for choice in ("loss dice-ce: ", "schedule polynomial: ", "augmentation none: "):
        [line] = [line for line in shown.splitlines() if line.startswith(f"  {choice}")]
        assert line.endswith("asked for")


@pytest.mark.parametrize("option", ["--network", "--loss", "--optimizer", "--schedule", "--augment"])
def test_a_wrong_name_is_answered_with_the_choices(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["plan", str(cohort), str(tmp_path / "bundle"), option, "wrong"]) == 2
    shown = capsys.readouterr().err
    kind = {"--augment": "augmentation"}.get(option, option[2:])
    assert all(name in shown for name in REGISTRIES[kind])
    assert len(shown.strip().splitlines()) == 1
    assert not (tmp_path / "bundle").exists()


def test_what_was_measured_is_shown_and_kept_without_names(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(cohort), str(tmp_path / "bundle"), "--memory", "2GB"]) == 0
    shown = capsys.readouterr().out
    assert "size, voxels (R x A x S)" in shown
    assert "values in structures (0.5, 50, 99.5 %)" in shown
    assert "shell, ml, in 10 of 10 cases" in shown
    assert "within 2GB, asked for" in shown
    text = (tmp_path / "bundle" / "configs" / "plan.json").read_text()
    assert "case_" not in text
    kept = json.loads(text)
    assert kept["measured"]["number_of_cases"] == len(kept["measured"]["shapes_voxels"]) == 10
    assert "\n   [20, 24, 20],\n" in text  # a shape is a line
    assert max(map(len, text.splitlines())) <= 300
    assert sum(kept["measured"]["orientation_counts"].values()) == 10
    assert [label["name"] for label in kept["measured"]["labels"]] == ["shell", "core"]
    for entry in kept["choices"]:
        assert f"  {entry['choice']}: {entry['reason']}" in shown.splitlines()
    assert main(["check", str(tmp_path / "bundle")]) == 0


def test_too_little_memory_is_refused_with_what_would_do(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(cohort), str(tmp_path / "bundle"), "--memory", "1MB"]) == 2
    shown = capsys.readouterr().err
    assert "State --memory " in shown
    assert not (tmp_path / "bundle").exists()
