"""The ensemble's record and weights."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from volseg.bundle.ensemble import (
    Ensemble,
    averaged_as,
    ensemble_folder,
    member_path,
    outdated_words,
    parse_folds,
    publish_folds,
    record_path,
    require_members,
)
from volseg.bundle.folder import Bundle
from volseg.errors import BundleError, UsageError
from volseg.outcomes import sha256_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "folds.json").write_text("[]")
    trained = {}
    for fold in range(3):
        weights = {"layer.weight": torch.full((2, 2), float(fold))}
        (runs / f"fold_{fold}").mkdir()
        torch.save(weights, runs / f"fold_{fold}" / "best.pt")
        trained[fold] = (weights, sha256_of(runs / f"fold_{fold}" / "best.pt"), 0.5, 20)
    found = Bundle(tmp_path)
    publish_folds(found, None, trained, sha256_of(runs / "folds.json"), "model")
    return found


def test_the_members_are_read_back_and_can_be_chosen(bundle: Bundle) -> None:
    assert [member.fold for member in require_members(bundle, None)] == [0, 1, 2]
    assert [member.fold for member in require_members(bundle, (2, 0, 2))] == [0, 2]
    assert torch.load(member_path(bundle, 1), weights_only=True)["layer.weight"].tolist() == [[1, 1], [1, 1]]
    with pytest.raises(BundleError, match="has no fold 7: it has 0, 1, 2"):
        require_members(bundle, (0, 7))


def test_weights_that_changed_hands_or_are_gone_are_refused(bundle: Bundle) -> None:
    member_path(bundle, 1).write_bytes(member_path(bundle, 2).read_bytes())
    with pytest.raises(BundleError, match=r"fold_1\.pt is not the file that the ensemble was made with.*--cv"):
        require_members(bundle, None)
    assert require_members(bundle, (0, 2))
    member_path(bundle, 1).unlink()
    with pytest.raises(BundleError, match="is gone"):
        require_members(bundle, None)


def test_a_fold_that_was_trained_on_and_another_split_are_told(bundle: Bundle) -> None:
    assert outdated_words(bundle) == ()
    torch.save({"layer.weight": torch.zeros(2, 2)}, bundle.runs / "fold_2" / "best.pt")
    (bundle.runs / "folds.json").write_text("[1]")
    one, other = outdated_words(bundle)
    assert one.startswith("fold 2 was trained on since")
    assert other.startswith("the data set was split anew")
    (bundle.runs / "fold_2" / "best.pt").unlink()  # begun anew
    assert len(outdated_words(bundle)) == 2
    shutil.rmtree(bundle.runs)  # handed on without its runs
    assert outdated_words(bundle) == ()


def test_no_ensemble_and_a_damaged_record_are_sentences(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no ensemble of its folds\. Train all of them"):
        require_members(Bundle(tmp_path / "other"), None)
    content = json.loads(record_path(bundle).read_text())
    for damaged in (
        "{",
        "{}",
        json.dumps(content | {"members": []}),
        json.dumps(content | {"members": content["members"] * 2}),
    ):
        record_path(bundle).write_text(damaged)
        with pytest.raises(BundleError, match="can't be read"):
            Ensemble.read(bundle)


def test_the_files_of_folds_that_are_no_more_go(bundle: Bundle) -> None:
    publish_folds(bundle, None, {0: ({"w": torch.ones(1)}, "x", None, None)}, "split", "model")
    assert sorted(path.name for path in ensemble_folder(bundle).iterdir()) == ["ensemble.json", "fold_0.pt"]


def test_weights_of_another_network_or_not_finite_are_no_ensemble(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    good = network.state_dict()
    for bad in ({"weight": good["weight"]}, good | {"bias": torch.tensor([0.0, torch.nan])}):
        with pytest.raises(BundleError):
            publish_folds(Bundle(tmp_path), network, {0: (good, "", None, 20), 1: (bad, "", None, 20)}, "", "")
    assert not ensemble_folder(Bundle(tmp_path)).exists()


@pytest.mark.parametrize(("text", "folds"), [("all", None), ("0,2", (0, 2)), (" 3 , 1,3", (1, 3)), ("4", (4,))])
def test_folds_by_words(text: str, folds: tuple[int, ...] | None) -> None:
    assert parse_folds(text) == folds


@pytest.mark.parametrize("text", ["", "every", "-1", "1,,2", "0.5", "1000", "٣"])
def test_words_that_name_no_folds(text: str) -> None:
    with pytest.raises(UsageError, match="--folds takes all"):
        parse_folds(text)


INVERT = {"_target_": "monai.transforms.Invertd", "keys": "pred"}
SIGMOID = {"_target_": "monai.transforms.Activationsd", "keys": "pred", "sigmoid": True}
ARGMAX = {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "argmax": True}
THRESHOLD = {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "threshold": 0.5}


def test_which_probabilities_are_averaged() -> None:
    assert averaged_as([INVERT, ARGMAX]) == ("softmax", None)
    assert averaged_as([INVERT, SIGMOID, THRESHOLD]) == ("sigmoid", 1)
    for unknown in ([INVERT, THRESHOLD], [], ["$x"], [{"_target_": "monai.transforms.Activationsd"}, ARGMAX]):
        with pytest.raises(BundleError, match="can't be averaged"):
            averaged_as(unknown)  # type: ignore[arg-type]
