"""What a foreign training would take of the memory, before it takes any."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.zoo import write_zoo_bundle
from volseg import device
from volseg.bundle.folder import open_bundle
from volseg.bundle.parser import BundleParser
from volseg.bundle.training_memory import reckon, require_memory
from volseg.bundle.trust import judge, record_trust
from volseg.cli.main import main
from volseg.errors import BundleError
from volseg.grid import Grid

if TYPE_CHECKING:
    from pathlib import Path

GRIDS = [Grid((100, 80, 60), np.diag([2.0, 2.0, 2.0, 1.0])) for _ in range(10)]


def parser_of(root: Path, **changes: Any) -> BundleParser:
    """A trusted bundle's train config; a change is of a key by its place, parts joined by two underscores."""
    path = root / "configs" / "train.json"
    config = json.loads(path.read_text())
    for place, value in changes.items():
        node, *keys = config, *place.split("__")
        for key in keys[:-1]:
            node = node[int(key) if key.isdigit() else key]
        node[keys[-1]] = value
    path.write_text(json.dumps(config))
    bundle = open_bundle(root)
    record_trust(judge(bundle))
    return BundleParser(bundle, "train", {"device": torch.device("cpu")})


def share(parser: BundleParser, words: str) -> int:
    return sum(one.bytes_needed for one in reckon(parser, GRIDS, "cpu") if words in one.words)


def test_patches_caches_loaders_and_validation_are_reckoned(tmp_path: Path) -> None:
    root = write_zoo_bundle(tmp_path / "bundle", tmp_path)
    parser = parser_of(root, train__dataloader__num_workers=3, train__dataset__cache_rate=0.5)
    words = [one.words for one in reckon(parser, GRIDS, "cpu")]
    assert "a step over 4 patches of 16 x 16 x 16 voxels at once" in words  # 2 cases, 2 patches of each
    voxels = 100 * 80 * 60
    spacing = next(
        (step["pixdim"] for step in json.loads((root / "configs" / "train.json").read_text())["train"][
            "deterministic_transforms"] if "pixdim" in step), [2.0, 2.0, 2.0],
    )  # fmt: skip
    voxels = round(100 * 2 / spacing[0]) * round(80 * 2 / spacing[1]) * round(60 * 2 / spacing[2])
    assert share(parser, "a cache of 50% of 10 cases") == 0.5 * 10 * voxels * 2 * 4
    assert share(parser, "a validation of 3 outputs") == 3 * 3 * voxels * 4
    assert share(parser, "3 loader processes") > 3 * 3 * voxels * 2 * 4


def test_a_step_is_reckoned_as_torch_keeps_it(tmp_path: Path) -> None:
    """Twice the batch keeps about twice as much; the weights don't count twice."""
    one = share(parser_of(write_zoo_bundle(tmp_path / "a", tmp_path), train__dataloader__batch_size=8), "a step")
    two = share(parser_of(write_zoo_bundle(tmp_path / "b", tmp_path), train__dataloader__batch_size=16), "a step")
    assert 1.8 < two / one < 2.05


def test_what_is_too_large_is_refused_with_numbers_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of(write_zoo_bundle(tmp_path / "bundle", tmp_path), train__dataloader__batch_size=1024)
    require_memory(parser, GRIDS, "cpu")
    monkeypatch.setattr(device, "machine_bytes", lambda device: 2**30 if device == "cpu" else 2**40)
    with pytest.raises(BundleError) as caught:
        require_memory(parser, GRIDS, "cpu")
    assert caught.value.code == "too-large"
    assert "GiB of memory, and this machine has 1. Most of it: a step over 2048 patches of" in caught.value.message
    assert " GiB. Lower batch_size, num_samples or spatial_size" in caught.value.message
    assert "\n" not in caught.value.message


def test_the_command_line_refuses_before_it_builds_anything(
    tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_zoo_bundle(tmp_path / "bundle", cohort)
    parser_of(root)
    monkeypatch.setattr(device, "machine_bytes", lambda _: 2**20)
    assert main(["train", str(root), "--data", str(cohort), "--epochs", "1"]) == 2
    assert "this training takes about" in capsys.readouterr().err
    assert not (root / "runs" / "fold_0" / "last.pt").exists()


def test_a_trainer_at_the_top_has_the_name_by_convention(tmp_path: Path) -> None:
    root = write_zoo_bundle(tmp_path / "bundle", tmp_path)
    path = root / "configs" / "train.json"
    config = json.loads(path.read_text())
    config["trainer"] = config["train"].pop("trainer")
    config["evaluator"] = config["validate"].pop("evaluator")
    path.write_text(json.dumps(config).replace("validate#evaluator", "evaluator"))
    parser = parser_of(root)
    assert parser.has("train#trainer")
    assert parser.has("validate#evaluator")
    assert parser.plain("train#trainer") == "@trainer"
