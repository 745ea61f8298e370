"""Bundles that come with volseg: listed, found by their bare names, and never mistaken for a folder that one stands in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from volseg.bundle import shipped
from volseg.bundle.folder import open_bundle
from volseg.bundle.shipped import MAX_WEIGHTS_BYTES, find_bundle, shipped_bundles, shipped_folder
from volseg.bundle.trust import judge
from volseg.bundle.weights import inference_network
from volseg.cli.main import main
from volseg.errors import UsageError

if TYPE_CHECKING:
    from tests.conftest import CopyBundle


@pytest.fixture
def organ(copy_bundle: CopyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle called ``organ`` among those that come with volseg."""
    bundle = copy_bundle("shipped/organ")
    network = inference_network(open_bundle(bundle))
    assert network is not None
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata |= {"license": "CC-BY-SA-4.0", "eval_metrics": {"shell": 0.91, "core": 0.5}}
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "shipped" / "recipes").mkdir()
    monkeypatch.setattr(shipped, "shipped_folder", lambda: tmp_path / "shipped")
    (tmp_path / "stand").mkdir()
    monkeypatch.chdir(tmp_path / "stand")
    return bundle


def test_they_are_listed(organ: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundles"]) == 0
    told = capsys.readouterr().out
    for word in ("organ: shell, core in T1", "shell 0.910", "CC-BY-SA-4.0", str(organ)):
        assert word in told


def test_one_predicts_by_its_name_from_anywhere(organ: Path, cohort: Path) -> None:
    image = cohort / "imagesTs" / "case_10.nii.gz"
    before = {path: path.read_bytes() for path in organ.rglob("*") if path.is_file()}
    assert main(["predict", "organ", str(image), "masks"]) == 0
    assert Path("masks/case_10.nii.gz").is_file()
    assert {path: path.read_bytes() for path in organ.rglob("*") if path.is_file()} == before


def test_a_folder_of_the_same_name_is_neither_shadowed_nor_taken(
    organ: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("organ").mkdir()
    image = str(cohort / "imagesTs" / "case_10.nii.gz")
    assert main(["predict", "organ", image, "masks"]) == 2
    assert "whole path" in capsys.readouterr().err
    assert not Path("masks").exists()
    assert find_bundle(Path("organ").resolve()) == Path("organ").resolve()
    assert find_bundle(organ) == organ
    Path("organ").rmdir()
    Path("organ").symlink_to("nowhere")
    with pytest.raises(UsageError, match="whole path"):
        find_bundle(Path("organ"))


def test_any_other_name_is_a_path(organ: Path) -> None:
    del organ
    for name in ("other", "recipes", "shipped/organ", "..", ".", "organ/../organ"):
        assert find_bundle(Path(name)) == Path(name)


def test_what_ships_needs_no_trust_and_is_small() -> None:
    """Of the repository as it is: each has a card, a licence and figures, and weights that fit into a wheel."""
    folder = shipped_folder()
    assert folder is not None
    assert (folder / "README.md").is_file()
    for one in shipped_bundles():
        assert judge(open_bundle(one.folder)).findings == ()
        assert one.size_bytes <= MAX_WEIGHTS_BYTES
        assert one.licence
        assert set(one.figures) == set(one.labels)
        card = (one.folder / "docs" / "README.md").read_text()
        for heading in ("Figures", "Data", "Intended use", "Limits", "Made by"):
            assert f"## {heading}" in card
        assert (one.folder / "LICENSE").is_file()
        assert not (one.folder / "runs").exists()
